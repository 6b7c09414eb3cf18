"""Several series of one file: parts on the same dates, windows within a series, a scale for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from nas_system.data import OpenPanel, OpenTask, Series, WindowLoader, build_windows
from nas_system.data.baselines.panel_scoring import score_panel
from nas_system.data.baselines.scoring import score_baselines
from nas_system.data.measures.accuracy import accuracy_of
from nas_system.data.measures.card import measure_card
from nas_system.data.measures.closed_form import search_closed_form
from nas_system.data.measures.origins import check_origins
from nas_system.data.panel import mean_of_clusters
from nas_system.errors import ConfigError
from nas_system.space import ForecastingTask, RunConfig
from nas_system.tasks.accuracy_meter import AccuracyMeter

DAYS = np.datetime64("2023-01-01", "s") + np.arange(200) * np.timedelta64(86_400, "s")
SEQ_LEN, PRED_LEN = 10, 4
PARTS = ("train", "val", "test", "hold_out")


def series(name: str, first: int = 0, end: int = 200, seed: int = 0, level: float = 50.0) -> Series:
    rng = np.random.default_rng(seed)
    days = np.arange(200)
    values = level * (1 + 0.3 * np.sin(2 * np.pi * days / 7)) + rng.normal(0, 1, 200)
    return Series(values[first:end, None], ("y",), DAYS[first:end], "D", name=name)


def task(**fields: object) -> ForecastingTask:
    given = {"dataset": "own.csv", "targets": ("y",), "pred_len": PRED_LEN, "series_columns": ("shop",)}
    return ForecastingTask.model_validate(given | fields)


def config(**fields: object) -> RunConfig:
    return RunConfig.model_validate(
        {"task": task(**fields).model_dump(), "model": {"family": "linear"}, "data": {"seq_len": SEQ_LEN}}
    )


def opened(*members: Series, **fields: object) -> OpenPanel:
    return OpenPanel.of_series(task(**fields), members)


UNEVEN = (
    series("whole"),
    series("late", first=60, seed=1, level=900.0),
    series("gone", end=150, seed=2, level=5.0),
)


def numbered(members: Sequence[Series]) -> list[Series]:
    """Series whose values are the number of the series in thousands, and that of the day."""
    return [
        replace(each, values=1_000.0 * number + np.searchsorted(DAYS, each.dates)[:, None].astype(float))
        for number, each in enumerate(members)
    ]


@pytest.mark.parametrize("mode", ["json", "python"])
def test_a_task_about_one_series_is_written_as_before_there_were_several(mode: str) -> None:
    new = {"series_columns", "future", "holidays"}
    assert not new & set(task(series_columns=()).model_dump(mode=mode))
    assert new & set(task().model_dump(mode=mode)) == {"series_columns"}


def test_parts_begin_on_the_same_dates_for_all() -> None:
    panel = opened(*UNEVEN)
    assert panel.split.train_end == 120 and len(panel.dates) == 200
    for part in PARTS:
        calendar = {DAYS[row] for row in panel.split.target_rows(part)}
        for member in panel.members:
            dates = {member.series.dates[row] for row in member.split.target_rows(part)}
            assert dates <= calendar
            assert dates == calendar.intersection(member.series.dates)


def test_no_window_crosses_from_one_series_into_the_next() -> None:
    members = numbered(UNEVEN)
    windows = build_windows(opened(*members), config(), splits=PARTS)
    scalers = {each.series.name: each.scaler for each in opened(*members).members}
    assert len({scaler.mean[0] for scaler in scalers.values()}) == 3
    # Unscaled by the first one's statistics a window of another series is still a straight line of one step.
    for part in PARTS:
        for batch in WindowLoader(windows[part], 64):
            rows = torch.cat([batch.args[0], batch.target], dim=1)[:, :, 0]
            steps = rows.diff(dim=1)
            assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-4)
    counts = {part: len(windows[part]) for part in PARTS}
    # 120 + 60 + 120 training rows of the three; the one that ends on day 150 has a validation part alone.
    assert counts == {"train": 107 + 47 + 107, "val": 3 * 27, "test": 2 * 27, "hold_out": 2 * 17}


def test_every_series_is_scaled_by_its_own_training_rows() -> None:
    panel = opened(*UNEVEN)
    for member in panel.members:
        rows = member.series.values[: member.split.train_end]
        assert member.scaler.mean == pytest.approx(rows.mean(axis=0))
        assert member.scaler.std == pytest.approx(rows.std(axis=0))
    changed = [
        replace(each, values=np.where(each.dates[:, None] < DAYS[120], each.values, 1e6)) for each in UNEVEN
    ]
    for before, after in zip(panel.members, opened(*changed).members, strict=True):
        assert (before.scaler.mean == after.scaler.mean).all()


def test_a_series_that_cannot_be_learned_from_is_left_out_and_said() -> None:
    flat = replace(UNEVEN[0], name="flat", values=np.ones((200, 1)))
    panel = opened(*UNEVEN, series("short", first=110), flat)
    assert [member.series.name for member in panel.members] == ["whole", "late", "gone"]
    assert "series 'short' has 10 training rows, and not 30" in panel.left_out[0]
    assert "series 'flat' never changes in its training rows" in panel.left_out[1]


def test_a_file_without_any_series_to_learn_from_is_refused() -> None:
    flat = [replace(each, values=np.ones_like(each.values)) for each in UNEVEN]
    with pytest.raises(ConfigError, match=r"none of the 3 series can be trained on: series 'whole' never"):
        opened(*flat)


def test_a_look_back_longer_than_the_shortest_series_names_it() -> None:
    long = config().model_copy(update={"data": config().data.model_copy(update={"seq_len": 80})})
    with pytest.raises(ConfigError, match=r"series 'late': data\.seq_len=80 .* seq_len can be 56 at most"):
        build_windows(opened(*UNEVEN), long)


def test_the_series_of_an_earlier_origin_end_with_its_validation_part() -> None:
    panel = opened(*UNEVEN, origins=2)
    check_origins(panel)
    earlier, last = panel.origins()
    assert last is panel and earlier.split.train_end == 90
    for member in earlier.members:
        assert member.series.dates[-1] <= DAYS[119]
        assert (member.scaler.mean == member.series.values[: member.split.train_end].mean(axis=0)).all()


def test_errors_of_one_date_are_one_number_and_their_mean_stays() -> None:
    errors, dates = np.array([1.0, 2.0, 3.0, 4.0, 8.0]), np.array([7, 8, 9, 7, 9])
    found = mean_of_clusters(errors, dates)
    assert found == pytest.approx(np.array([5.0, 2.0, 11.0]) * 3 / 5)
    assert found.mean() == pytest.approx(errors.mean())
    pairs = mean_of_clusters(np.stack([errors, -errors], axis=1), dates)
    assert pairs[:, 0] == pytest.approx(found) and pairs[:, 1] == pytest.approx(-found)


def test_where_dates_are_few_scores_are_compared_over_the_series() -> None:
    few = opened(*UNEVEN)
    assert not few.compares_series, "three series tell less than the dates"
    many = opened(*(series(f"shop {number}", first=5 * number, seed=number) for number in range(12)))
    assert many.compares_series
    row = score_panel(many, ("val",))[0]
    assert row.errors is not None and len(row.errors) == 12
    assert row.errors.mean() == pytest.approx(row.scores["val_mse"])
    loader = WindowLoader(build_windows(many, config())["val"], 64)
    errors = torch.arange(len(loader.windows), dtype=torch.float32)
    found = loader.summarized(errors)
    assert len(found) == 12 and float(found.mean()) == pytest.approx(float(errors.mean()))
    assert many.origins()[-1] is many
    info = many.with_origins(2).origins()[0]
    assert info.compares_series, "at every origin alike"


def test_a_baseline_is_fitted_to_every_series_alone() -> None:
    panel = opened(*UNEVEN)
    rows = {row.name: row for row in score_panel(panel, ("val", "test"))}
    one = rows["seasonal-7"]
    alone = [
        {row.name: row for row in score_baselines(member, ("val", "test"))}["seasonal-7"]
        for member in panel.members[:2]
    ]
    assert one.scores["test_mse"] == pytest.approx(np.mean([row.scores["test_mse"] for row in alone]))
    assert one.errors is not None and len(one.errors) == 27, "one for each date"
    assert one.errors.mean() == pytest.approx(one.scores["val_mse"])
    by_series = one.accuracy["test"].by_series
    assert list(by_series) == ["whole", "late"]
    assert by_series["late"].mse == pytest.approx(alone[1].scores["test_mse"], rel=1e-5)


def test_the_accuracy_of_several_series_is_the_mean_of_theirs() -> None:
    panel = opened(*UNEVEN)
    windows, meter = build_windows(panel, config()), AccuracyMeter(panel, "val")
    forecasts: list[torch.Tensor] = []
    for batch in WindowLoader(windows["val"], 32):
        forecasts.append(batch.target + 0.1)
        meter.add(forecasts[-1], batch.target)
    found = meter.accuracy()
    assert found is not None
    maes = [0.1 * float(member.scaler.std[0]) for member in panel.members]
    assert found.mae == pytest.approx(np.mean(maes), rel=1e-4)
    assert {name: round(score.mse, 6) for name, score in found.by_series.items()} == dict.fromkeys(
        ("whole", "late", "gone"), 0.01
    )
    read = type(found).from_json(found.to_json())
    assert read is not None and read.by_series == found.by_series


def test_two_copies_of_a_series_have_the_closed_form_of_one() -> None:
    one = OpenTask.of_series(task(series_columns=()), UNEVEN[0])
    two = opened(UNEVEN[0], replace(UNEVEN[0], name="again"))
    best, again = search_closed_form(one, [7])[0], search_closed_form(two, [7])[0]
    assert (best.seq_len, best.normalization, best.strength) == (
        again.seq_len, again.normalization, again.strength
    )  # fmt: skip
    assert again.val_mse == pytest.approx(best.val_mse)


def test_the_card_names_the_series_of_a_target() -> None:
    card = measure_card(opened(*UNEVEN))["card"]
    assert [target["name"] for target in card["targets"]] == ["y of whole", "y of late", "y of gone"]
    assert card["rows"] == 200 + 140 + 150


def test_accuracy_in_data_units_is_that_of_one_series_alone() -> None:
    panel = opened(UNEVEN[0])
    member = panel.members[0]
    windows, meter = build_windows(panel, config()), AccuracyMeter(panel, "test")
    batch = windows["test"].batch(torch.arange(len(windows["test"])))
    meter.add(batch.target * 0, batch.target)
    found = meter.accuracy()
    truth = member.scaler.inverse(batch.target.double().numpy())
    expected = accuracy_of(np.full_like(truth, member.scaler.mean[0]), truth, np.ones(1))
    assert found is not None and expected is not None
    assert found.rmse == pytest.approx(expected.rmse, rel=1e-5)

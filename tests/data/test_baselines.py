"""Baselines: against slow, independent computations, and against the known table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas_system.data import OpenTask, Series, open_task, synthetic_series
from nas_system.data.baselines import score_baselines
from nas_system.data.baselines.nlinear import LOOK_BACK, RIDGE
from nas_system.data.baselines.seasons import season_of
from nas_system.data.splits import SplitName
from nas_system.space import ForecastingTask

PARTS: tuple[SplitName, ...] = ("val", "test", "hold_out")


def opened(series: Series, **task: object) -> OpenTask:
    config = ForecastingTask.model_validate({"dataset": "synthetic", **task})
    return OpenTask.of_series(config, series)


def scores(data: OpenTask, kind: str, parts: tuple[SplitName, ...] = PARTS) -> dict[SplitName, float]:
    row = next(row for row in score_baselines(data, parts) if row.name.startswith(kind))
    return {part: row.scores[f"{part}_mse"] for part in parts}


def slow_score(data: OpenTask, part: SplitName, forecast) -> float:
    """`forecast(column, row)` gives the next pred_len values of a column after `row - 1`."""
    columns = data.series.column_indices(data.task.targets)
    table = (data.series.values - data.scaler.mean) / data.scaler.std
    rows, pred_len = data.split.target_rows(part), data.task.pred_len
    errors = [
        np.mean((forecast(table[:, column], row) - table[row : row + pred_len, column]) ** 2)
        for column in columns
        for row in range(rows.start, rows.stop - pred_len + 1)
    ]
    return float(np.mean(errors))


@pytest.mark.parametrize("part", PARTS)
def test_last_value_equals_a_loop_over_the_windows(part: SplitName) -> None:
    data = opened(synthetic_series(8000), pred_len=30, targets=("OT", "HUFL"))  # several chunks
    expected = slow_score(data, part, lambda column, row: column[row - 1])
    assert scores(data, "last-value")[part] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("part", PARTS)
def test_seasonal_repeats_the_last_day_also_beyond_a_day(part: SplitName) -> None:
    data = opened(synthetic_series(700), pred_len=30)
    expected = slow_score(
        data, part, lambda column, row: np.array([column[row - 24 + step % 24] for step in range(30)])
    )
    assert scores(data, "seasonal-24")[part] == pytest.approx(expected, rel=1e-12)


def test_nlinear_equals_a_least_squares_solver_over_stacked_windows() -> None:
    data = opened(synthetic_series(400), pred_len=12, targets=("OT", "MUFL"))
    look_back = (240 - 12) // 2
    table = ((data.series.values - data.scaler.mean) / data.scaler.std)[:, [6, 2]]
    inputs, outputs = [], []
    for column in (0, 1):
        for start in range(240 - look_back - 12 + 1):
            past = table[start : start + look_back, column]
            inputs.append([*(past[:-1] - past[-1]), 1.0])
            outputs.append(table[start + look_back : start + look_back + 12, column] - past[-1])
    # Ridge as extra rows of the data: the square root of the penalty, with nothing to explain.
    penalty = np.sqrt(RIDGE) * np.eye(look_back)[:-1]
    nothing = np.zeros((look_back - 1, 12))
    weights = np.linalg.lstsq(np.vstack([inputs, penalty]), np.vstack([outputs, nothing]))[0]

    def forecast(column: np.ndarray, row: int) -> np.ndarray:
        past = column[row - look_back : row]
        return past[-1] + np.append(past[:-1] - past[-1], 1.0) @ weights

    found = scores(data, f"nlinear-{look_back}")
    for part in PARTS:
        assert found[part] == pytest.approx(slow_score(data, part, forecast), rel=1e-9)


def test_rows_after_a_part_do_not_change_its_scores() -> None:
    series = synthetic_series(700)
    data = opened(series, pred_len=24)
    poisoned = replace(series, values=series.values.copy())
    poisoned.values[data.split.val_end :] = 1e3
    for clean, dirty in zip(
        score_baselines(data), score_baselines(opened(poisoned, pred_len=24)), strict=True
    ):
        assert clean.scores["val_mse"] == dirty.scores["val_mse"]
        assert clean.scores["test_mse"] != dirty.scores["test_mse"]


def test_the_hold_out_part_is_scored_only_when_asked() -> None:
    data = opened(synthetic_series(700))
    assert all(set(row.scores) == {"val_mse", "test_mse"} for row in score_baselines(data))
    assert set(score_baselines(data, ("hold_out",))[0].scores) == {"hold_out_mse"}


def test_a_hold_out_part_too_short_for_a_window_is_left_out() -> None:
    data = opened(synthetic_series(160), pred_len=24)
    assert set(score_baselines(data, PARTS)[0].scores) == {"val_mse", "test_mse"}


@pytest.mark.parametrize(
    ("freq", "season"),
    [("h", 24), ("15min", 96), ("30s", 2880), ("D", 7), ("W", 52), ("MS", 12), ("3MS", 4), ("5h", 1)],
)
def test_the_season_follows_from_the_step(freq: str, season: int) -> None:
    assert season_of(freq) == season


def test_a_season_longer_than_the_training_part_is_left_out() -> None:
    data = opened(replace(synthetic_series(300), freq="min"))
    assert [row.name for row in score_baselines(data)] == ["last-value", "drift", "nlinear-78"]


KNOWN = {
    24: ("0.0696/0.0343", "0.0870/0.0458", "0.0490/0.0260"),
    48: ("0.1012/0.0501", "0.1140/0.0576", "0.0698/0.0384"),
    96: ("0.1373/0.0693", "0.1401/0.0715", "0.0898/0.0531"),
    168: ("0.1634/0.0872", "0.1589/0.0871", "0.1044/0.0659"),
    336: ("0.1860/0.1133", "0.1766/0.1108", "0.1234/0.0810"),
    720: ("0.2480/0.1292", "0.2375/0.1252", "0.1545/0.0802"),
}


@pytest.mark.parametrize("pred_len", KNOWN)
def test_the_figures_on_etth1_are_the_known_ones(pred_len: int, ett_dir: Path) -> None:
    rows = score_baselines(open_task(ForecastingTask(pred_len=pred_len), data_dir=ett_dir))
    rows = [row for row in rows if row.name != "drift"]
    assert [row.name for row in rows] == ["last-value", "seasonal-24", f"nlinear-{LOOK_BACK}"]
    for row, known in zip(rows, KNOWN[pred_len], strict=True):
        val, test = map(float, known.split("/"))
        assert row.scores["val_mse"] == pytest.approx(val, abs=6e-5)
        assert row.scores["test_mse"] == pytest.approx(test, abs=6e-5)

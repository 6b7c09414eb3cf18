"""The data card: what it says of a series, what it refuses, and that it keeps the test part to itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nas_system.data import OpenTask, Series, synthetic_series
from nas_system.data.measures.card import MOST_TARGETS, MOST_WARNINGS, measure_card
from nas_system.errors import ConfigError
from nas_system.space import ForecastingTask
from nas_system.space.data_card import DataCard, TargetCard, UnseenCard, card_of, unseen_of

ROWS = 400
TRAIN, VAL, TEST, HOLD_OUT = slice(0, 240), slice(240, 300), slice(300, 360), slice(360, 400)

Values = np.ndarray


def opened(*columns: Values, filled: dict[str, int] | None = None, **task: Any) -> OpenTask:
    """Open a daily series with columns a, b, ..., all of them targets."""
    names = tuple("abcdefghijklmnopqrst"[: len(columns)])
    dates = np.datetime64("2024-01-01", "s") + np.arange(len(columns[0])) * np.timedelta64(86_400, "s")
    series = Series(np.stack(columns, axis=1), names, dates, "D", filled or {})
    return OpenTask.of_series(ForecastingTask(dataset="own.csv", targets=names, pred_len=7, **task), series)


def cards(data: OpenTask) -> tuple[DataCard, UnseenCard]:
    measured = measure_card(data)
    card = card_of(measured)
    assert card is not None
    return card, unseen_of(measured)


def wave(seed: int = 0) -> Values:
    """A week's rhythm in noise."""
    return np.sin(2 * np.pi * np.arange(ROWS) / 7) + 0.2 * np.random.default_rng(seed).normal(size=ROWS)


def changed(values: Values, rows: slice | int, value: Any) -> Values:
    copy = values.copy()
    copy[rows] = value
    return copy


def test_a_plain_series_is_described_and_not_warned_of() -> None:
    card, unseen = cards(opened(wave(), filled={"a": 3}))
    assert (card.rows, card.step, card.warnings, unseen.warnings) == (ROWS, "D", (), ())
    (target,) = card.targets
    assert [period for period, _ in target.seasons] == [7]
    assert (target.zeros, target.repeats, target.filled) == (0, 0, 3)
    assert abs(target.trend) < 0.05
    assert target.describe() == (
        f"season of 7 steps (strength {target.seasons[0][1]:.2f}), no trend, 3 missing cells filled, "
        f"mean shifts by {target.val_shift:+.2g} (val) training std"
    )


@pytest.mark.parametrize("slope", [-0.01, 0.01])
def test_a_trend_is_the_share_of_variance_of_a_line_with_its_sign(slope: float) -> None:
    values = np.random.default_rng(0).normal(size=ROWS) + slope * np.arange(ROWS)
    (target,) = cards(opened(values))[0].targets
    line = np.polynomial.Polynomial.fit(np.arange(240), values[TRAIN], 1)(np.arange(240))
    assert target.trend == pytest.approx(np.sign(slope) * line.var() / values[TRAIN].var(), abs=1e-4)


def test_zeros_and_repeats_are_shares_of_the_training_rows() -> None:
    values = changed(wave(), slice(0, 24), 0.0)
    (target,) = cards(opened(values))[0].targets
    assert target.zeros == pytest.approx(24 / 240)
    assert target.repeats == pytest.approx(23 / 239, abs=1e-4)


def test_shifts_are_in_standard_deviations_of_the_training_rows() -> None:
    values = wave()
    values[VAL] += 3
    values[TEST] -= 5
    card, unseen = cards(opened(values))
    mean, std = values[TRAIN].mean(), values[TRAIN].std()
    assert card.targets[0].val_shift == pytest.approx((values[VAL].mean() - mean) / std, rel=1e-3)
    assert unseen.test_shifts == {"a": pytest.approx((values[TEST].mean() - mean) / std, rel=1e-3)}


@pytest.mark.parametrize("spoil", [-1e5, 1e9, 0.0])
def test_test_and_hold_out_rows_have_no_say_in_the_card(spoil: float) -> None:
    plain, spoiled = (cards(opened(values)) for values in (wave(), changed(wave(), slice(300, 400), spoil)))
    assert spoiled[0] == plain[0]
    assert spoiled[1] != plain[1]


def test_the_generated_series_has_a_card_for_each_target() -> None:
    data = OpenTask.of_series(ForecastingTask(dataset="synthetic", targets=("all",)), synthetic_series())
    card, unseen = cards(data)
    assert [target.name for target in card.targets] == list(data.series.columns)
    assert {target.seasons[0][0] for target in card.targets} == {24}
    assert unseen.test_shifts.keys() == set(data.series.columns)
    assert card.warnings == ()


def test_cards_and_warnings_are_bounded() -> None:
    columns = [changed(wave(seed), 250, 1e9) for seed in range(20)]
    card, _ = cards(opened(*columns))
    assert (len(card.targets), card.more_targets) == (MOST_TARGETS, 20 - MOST_TARGETS)
    assert len(card.warnings) == MOST_WARNINGS + 1
    assert card.warnings[-1] == f"... and {20 - MOST_WARNINGS} more of this kind"


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ([np.zeros(ROWS)], "'a' is 0 in all 240 train rows.*it never changes; choose another --target"),
        (
            [changed(wave(), slice(0, 270), 5.0)],
            "'a' is 5 in all 240 train rows.*first changes at row 270, 2024-09-27 00:00:00; move the border",
        ),
        # Its unscaled errors would be all of the score of both.
        ([wave(), changed(wave(), TRAIN, 5.0)], "'b' is 5 in all 240 train rows"),
        ([np.zeros(ROWS), np.ones(ROWS)], "'a' is 0 in all 240 train rows"),
        ([changed(wave(), VAL, 2.0)], r"'a' is 2 in all 60 val rows \(rows 240 to 300\)"),
        ([changed(wave(), VAL, 2.0), changed(wave(1), VAL, 3.0)], "'a' is 2 in all 60 val rows"),
        ([changed(wave(), 320, 1e300)], "'a' is 1e[+]300 at row 320, 2024-11-16 00:00:00"),
    ],
)
def test_targets_that_cannot_be_learned_or_scored_are_refused(columns: list[Values], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        measure_card(opened(*columns))


@pytest.mark.parametrize(("part", "name"), [(TEST, "test"), (HOLD_OUT, "hold-out")])
def test_a_constant_in_a_later_part_is_a_warning_for_people_alone(part: slice, name: str) -> None:
    card, unseen = cards(opened(changed(wave(), part, 2.0)))
    assert card.warnings == ()
    (warning,) = unseen.warnings
    assert f"'a' is 2 in all {part.stop - part.start} {name} rows" in warning


def test_one_constant_of_several_targets_is_a_warning() -> None:
    card, _ = cards(opened(wave(), np.full(ROWS, 4.0)))
    assert "'b' is 4 in all 240 train rows: forecasts of it say nothing" in card.warnings[0]
    assert card.targets[1].val_shift is None
    assert card.targets[1].describe() == "no season, no trend, 100% repeats"
    card, _ = cards(opened(wave(), changed(wave(1), VAL, 4.0)))
    assert len(card.warnings) == 1 and "'b' is 4 in all 60 val rows" in card.warnings[0]


@pytest.mark.parametrize(("row", "part"), [(100, "train"), (250, "val"), (310, "test"), (380, "hold-out")])
def test_an_extreme_value_is_named_with_its_row_and_date(row: int, part: str) -> None:
    values = changed(wave(), row, -1e9)
    card, unseen = cards(opened(values))
    (warning,) = card.warnings if part in ("train", "val") else unseen.warnings
    date = str(np.datetime64("2024-01-01") + row)
    assert warning.startswith(f"target 'a' is -1e+09 at row {row}, {date} 00:00:00, ")
    means = "sets the scale alone" if part == "train" else f"decides the {part} score alone"
    assert means in warning
    assert ("--scaling robust" in warning) == (part == "train")
    robust = cards(opened(values, scaling="robust"))
    assert not any("--scaling" in text for text in (*robust[0].warnings, *robust[1].warnings))


def test_several_extreme_values_are_one_warning_and_a_heavy_tail_is_none() -> None:
    card, _ = cards(opened(changed(wave(), slice(50, 52), [1e7, 2e7])))
    assert "is 2e+07 at row 51, 2024-02-21 00:00:00 (and 1 more like it)," in card.warnings[0]
    assert cards(opened(changed(wave(), slice(0, 240, 10), 1e4)))[0].warnings == ()
    assert cards(opened(np.random.default_rng(0).standard_t(3, size=ROWS)))[0].warnings == ()


def test_seldom_demand_is_called_intermittent() -> None:
    generator = np.random.default_rng(3)
    demand = np.where(generator.random(ROWS) < 0.2, 1.0 + generator.poisson(4, ROWS), 0.0)
    card, _ = cards(opened(demand))
    zeros, mean = (demand[TRAIN] == 0).mean(), demand[TRAIN].mean()
    (warning,) = card.warnings
    assert f"'a' is intermittent: {zeros:.0%} of its train rows are 0" in warning
    assert f"near the mean ({mean:.3g})" in warning and "sum the rows to a coarser step" in warning


@pytest.mark.parametrize(
    "values",
    [
        np.maximum(np.sin(2 * np.pi * np.arange(ROWS) / 7), 0),  # a season says when
        np.where(np.random.default_rng(3).random(ROWS) < 0.2, wave(), 0.0),  # no amounts: they have signs
        np.where(np.random.default_rng(3).random(ROWS) < 0.9, 3 + wave(), 0.0),
    ],
)
def test_zeros_that_are_regular_signed_or_few_are_not(values: Values) -> None:
    assert cards(opened(values))[0].warnings == ()


def test_a_series_that_is_nearly_constant_says_so() -> None:
    values = changed(wave(), TRAIN, 5.0)
    values[[30, 90]] = 6.0
    card, _ = cards(opened(values))
    assert "'a' is 5 in all but 2 of 240 train rows: there is next to nothing to learn" in card.warnings[0]


def test_a_card_of_another_version_or_another_hand_is_read_or_left_out() -> None:
    known = {"rows": 10, "step": "h", "targets": [{"name": "a", "news": 1}], "news": 2}
    card = card_of({"card": known})
    assert card is not None and card.targets == (TargetCard(name="a"),)
    assert card_of({}) is None
    broken: list[Any] = [None, 7, "text", {"rows": 10}, known | {"step": "h; ignore"}, known | {"rows": "x"}]
    assert [card_of({"card": record}) for record in broken] == [None] * len(broken)
    assert unseen_of({"unseen": {"test_shifts": {"a": "b"}}}) == UnseenCard()


def test_the_card_does_not_depend_on_the_unit() -> None:
    values = wave() + 0.01 * np.arange(ROWS)
    assert cards(opened(values * 2.0**-660)) == cards(opened(values))

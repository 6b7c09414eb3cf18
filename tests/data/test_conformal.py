"""Prediction intervals: hand-computed quantiles, nominal coverage where theory promises it, no look-ahead."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_system.data.measures.conformal import (
    LEVELS,
    intervals_around,
    next_intervals,
    recent_coverage,
    rolling_intervals,
    rolling_residuals,
    score_intervals,
    shift_warning,
    weighted_quantile_loss,
    window_for,
    windows_needed,
)

MANY = 10**6


def column(errors: list[float]) -> np.ndarray:
    """One step, one target."""
    return np.array(errors, dtype=float).reshape(-1, 1, 1)


def noise(windows: int, steps: int = 1, targets: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((windows, steps, targets))


# --- quantiles --------------------------------------------------------------------------------


def test_the_first_intervals_are_order_statistics_of_absolute_errors() -> None:
    # Before an interval exists nothing can miss it, so these have no correction: ceil(0.8 * 5) = 4 of 4 for
    # 80 %, and ceil(0.9 * 10) = 9 of 9 for 90 %.
    errors = column([3, -1, 2, -5, 1, 1, 1, 1, 1])
    found = rolling_intervals(errors, LEVELS, MANY)[:, :, 0, 0]
    assert np.isnan(found[0, :4]).all()
    assert found[0, 4] == 5
    assert np.isnan(found[1]).all()
    assert next_intervals(errors, (90,), MANY).item() == 5


def test_a_level_needs_enough_errors_for_its_quantile() -> None:
    assert [windows_needed(level) for level in (50, 75, 80, 90, 95, 99)] == [1, 3, 4, 9, 19, 99]
    for level in (50, 75, 80, 90, 95):
        count = windows_needed(level)
        assert np.isnan(next_intervals(noise(count - 1), (level,), MANY)).all()
        assert np.isfinite(next_intervals(noise(count), (level,), MANY)).all()


def test_the_correction_is_that_of_gibbs_and_candes() -> None:
    """A second implementation, with quantiles taken anew at every origin, as the paper writes it."""
    errors, delay, level, window = np.abs(noise(120, seed=3)[:, 0, 0]), 6, 80, 25
    rate, missed, widths = min(0.05, 0.15 / delay), 0.2, [math.nan] * 120
    for origin in range(120):
        newest = origin - delay
        if newest >= 0 and not math.isnan(widths[newest]):
            missed = min(max(missed + rate * (0.2 - (errors[newest] > widths[newest])), 0), 1)
        known = np.sort(errors[max(newest + 1 - window, 0) : max(newest + 1, 0)])
        if len(known) >= 4:
            rank = math.ceil((len(known) + 1) * (1 - missed) - 1e-9)
            widths[origin] = known[min(max(rank, 1), len(known)) - 1]
    residuals = np.full((120, delay, 1), np.nan)
    residuals[:, -1, 0] = errors
    found = rolling_intervals(residuals, (level,), window)
    assert np.isnan(found[0, :, :-1]).all()
    np.testing.assert_array_equal(found[0, :, -1, 0], widths)


def test_old_errors_leave_the_window() -> None:
    errors = column([100.0] * 20 + [1.0] * 10)
    assert next_intervals(errors, (80,), 8).item() == 1
    assert next_intervals(errors, (80,), MANY).item() == 100


def test_intervals_are_nested_and_do_not_depend_on_each_other() -> None:
    errors = noise(300, 3, 2, seed=1) * np.linspace(1, 3, 300)[:, None, None]
    found = rolling_intervals(errors, (50, 80, 90), 60)
    known = np.isfinite(found[2])
    assert (found[0][known] <= found[1][known]).all()
    assert (found[1][known] <= found[2][known]).all()
    np.testing.assert_array_equal(rolling_intervals(errors, (50,), 60)[0], found[0])
    np.testing.assert_array_equal(rolling_intervals(errors[:, :1, 1:], (50,), 60)[0], found[0, :, :1, 1:])


def test_residuals_without_errors_have_intervals_of_no_width() -> None:
    found = rolling_intervals(np.zeros((50, 2, 1)), LEVELS, MANY)
    assert (found[np.isfinite(found)] == 0).all()
    scored = score_intervals(np.ones((50, 2, 1)), np.ones((50, 2, 1)), found[0], 80)
    assert scored is not None
    assert (scored.coverage, scored.width, scored.wql) == (1, 0, 0)


def test_windows_that_are_not_known_are_as_if_they_were_not_there() -> None:
    errors = noise(60, seed=2)
    gaps = np.insert(errors, [10, 10, 40], np.nan, axis=0)
    np.testing.assert_array_equal(next_intervals(gaps, LEVELS, 30), next_intervals(errors, LEVELS, 30))
    assert np.isnan(rolling_intervals(np.full((40, 2, 1), np.nan), LEVELS, 30)).all()


# --- coverage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_exchangeable_errors_are_covered_as_often_as_asked(level: int) -> None:
    """A new error is inside the first interval, of n, with probability ceil((n + 1) level) / (n + 1)."""
    count, draws = windows_needed(level), 4_000
    errors = noise(count + 1, 1, draws, seed=level)
    given = next_intervals(errors[:-1], (level,), MANY)[0, 0]
    inside = (np.abs(errors[-1, 0]) <= given).mean()
    expected = math.ceil((count + 1) * level / 100 - 1e-9) / (count + 1)
    # Five standard errors of a share of independent draws.
    assert abs(inside - expected) < 5 * math.sqrt(expected * (1 - expected) / draws)


@pytest.mark.parametrize("steps", [1, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_coverage_holds_where_the_noise_doubles(steps: int, seed: int) -> None:
    """Fixed quantiles of the first half would cover 48 % of the second; these are off by the lag alone."""
    errors = noise(3_000, steps, seed=seed)
    errors[1_500:] *= 2
    widths = rolling_intervals(errors, LEVELS, 300)
    for index, level in enumerate(LEVELS):
        later = np.abs(errors[1_500:]) <= widths[index, 1_500:]
        assert abs(100 * later.mean() - level) < 4


# --- no look-ahead ----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_error_that_is_not_known_changes_nothing(data: st.DataObject) -> None:
    windows, steps = 40, 4
    errors = noise(windows, steps, seed=data.draw(st.integers(0, 10)))
    window, step = data.draw(st.integers(0, windows - 1)), data.draw(st.integers(0, steps - 1))
    changed = errors.copy()
    changed[window, step] = data.draw(st.sampled_from([math.nan, 1e9, 0.0, -3.0]))
    before, after = (rolling_intervals(each, LEVELS, 20) for each in (errors, changed))
    # Known to origin i as soon as window + step + 1 <= i; other steps never learn of it.
    known_from = window + step + 1
    np.testing.assert_array_equal(before[:, :known_from], after[:, :known_from])
    others = [other for other in range(steps) if other != step]
    np.testing.assert_array_equal(before[:, :, others], after[:, :, others])


def test_an_error_counts_as_soon_as_it_is_known() -> None:
    errors = noise(40, 3)
    errors[20, 2] = 0
    changed = errors.copy()
    changed[20, 2] = 1e9
    before, after = (rolling_intervals(each, (80,), MANY)[0] for each in (errors, changed))
    assert np.flatnonzero((before != after).any(axis=(1, 2)) & np.isfinite(after).all(axis=(1, 2)))[0] == 23


def test_the_next_interval_is_that_of_one_more_window() -> None:
    errors = noise(80, 3, 2)
    longer = np.concatenate([errors, noise(1, 3, 2, seed=9)])
    np.testing.assert_array_equal(
        next_intervals(errors, LEVELS, 30), rolling_intervals(longer, LEVELS, 30)[:, -1]
    )


# --- residuals --------------------------------------------------------------------------------


def test_residuals_are_truth_minus_forecast_with_gaps_for_what_is_not_known() -> None:
    values = np.arange(10.0)[:, None] ** 2
    blocks = {2: np.ones((2, 3, 1)), 6: np.zeros((4, 3, 1))}
    found = rolling_residuals(values, blocks)[:, :, 0]
    nan = math.nan
    np.testing.assert_array_equal(
        found,
        [
            [3, 8, 15],
            [8, 15, 24],
            [nan] * 3,
            [nan] * 3,
            [36, 49, 64],
            [49, 64, 81],
            [64, 81, nan],
            [81, nan, nan],
        ],
    )
    # Rows after the last forecast are there, unknown: the next origin is the row after the last one.
    assert len(rolling_residuals(values, {2: np.ones((2, 3, 1))})) == 8


def test_the_newest_errors_of_each_step_count_for_the_next_forecast() -> None:
    values, forecasts = noise(60, seed=4)[:, :, 0], np.zeros((60, 5, 1))
    residuals = rolling_residuals(values, {0: forecasts})
    changed = values.copy()
    changed[-1] = 1e9  # the truth of step h + 1 in the h-th last window, for every h
    widths, wide = (
        next_intervals(rolling_residuals(each, {0: forecasts}), (90,), 9) for each in (values, changed)
    )
    assert residuals.shape == (60, 5, 1)
    assert (wide == 1e9).all()
    assert (widths < 10).all()


@pytest.mark.parametrize(
    ("freq", "pred_len", "expected"),
    [
        ("h", 24, 672),
        ("h", 720, 5_000),
        ("h", 120, 840),
        ("15min", 96, 2_688),
        ("min", 60, 5_000),
        ("MS", 12, 672),
        (None, 4, 672),
    ],
)
def test_the_window_is_four_weeks_or_seven_horizons(freq: str | None, pred_len: int, expected: int) -> None:
    assert window_for(freq, pred_len) == expected


# --- scores -----------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    truth, forecast = np.array([1.0, 5.0, -3.0, np.nan, 2.0]), np.array([0.0, 0.0, 0.0, 0.0, 0.0])
    half = np.array([1.0, 2.0, 4.0, 1.0, np.nan])
    scored = score_intervals(truth, forecast, half, 80)
    assert scored is not None
    assert scored.coverage == pytest.approx(2 / 3)
    assert scored.width == pytest.approx(2 * (1 + 2 + 4) / 3)
    # Pinball losses of the 10 % and the 90 % quantiles, -half and half.
    low = [0.1 * 2, 0.1 * 7, 0.1 * 1]
    high = [0.1 * 0, 0.9 * 3, 0.1 * 7]
    assert scored.wql == pytest.approx(2 * (sum(low) + sum(high)) / 2 / 9)
    assert scored.to_json() == {"coverage": scored.coverage, "width": scored.width, "wql": scored.wql}


def test_the_loss_of_the_median_is_the_absolute_error_over_the_size_of_the_truth() -> None:
    truth, median = noise(200)[:, 0, 0] + 3, noise(200, seed=1)[:, 0, 0] + 3
    expected = np.abs(truth - median).sum() / np.abs(truth).sum()
    assert weighted_quantile_loss(truth, {0.5: median}) == pytest.approx(expected)
    assert weighted_quantile_loss(np.zeros(3), {0.5: np.ones(3)}) == math.inf
    assert weighted_quantile_loss(np.zeros(3), {0.5: np.zeros(3)}) == 0


def test_too_few_windows_have_no_score_and_no_interval() -> None:
    errors = noise(3, 2)
    widths = rolling_intervals(errors, LEVELS, MANY)
    assert score_intervals(errors, np.zeros_like(errors), widths[0], 80) is None
    assert recent_coverage(errors, widths) == (None, None)
    assert shift_warning(LEVELS, (None, None)) is None
    assert intervals_around(np.zeros((2, 1)), next_intervals(errors, LEVELS, MANY), LEVELS) == {}


def test_a_level_that_one_step_has_too_few_windows_for_is_left_out() -> None:
    residuals = rolling_residuals(noise(13)[:, :, 0], {0: np.zeros((13, 6, 1))})
    found = intervals_around(np.full((6, 1), 7.0), next_intervals(residuals, LEVELS, MANY), LEVELS)
    assert list(found) == [80]
    low, high = found[80]
    np.testing.assert_allclose((low + high) / 2, 7)
    assert (low < high).all()


def test_recent_coverage_tells_of_a_shift() -> None:
    errors = noise(400, 2, seed=5)
    calm = recent_coverage(errors, rolling_intervals(errors, LEVELS, MANY))
    assert shift_warning(LEVELS, calm) is None
    errors[-20:] += 6
    shifted = recent_coverage(errors, rolling_intervals(errors, LEVELS, MANY))
    warning = shift_warning(LEVELS, shifted)
    assert warning is not None
    assert f"{100 * (shifted[0] or 0):.0f} % of 80 % and {100 * (shifted[1] or 0):.0f} % of 90 %" in warning
    # Over all windows twenty of them are few.
    assert (
        shift_warning(LEVELS, recent_coverage(errors, rolling_intervals(errors, LEVELS, MANY), 400)) is None
    )


def test_recent_coverage_counts_the_last_windows_of_which_something_is_known() -> None:
    errors, widths = np.zeros((50, 2, 1)), np.ones((1, 50, 2, 1))
    errors[30:40] = 5
    errors[40:] = np.nan
    assert recent_coverage(errors, widths, 20) == (0.5,)
    errors[40, 0] = 0  # one step of one more window
    assert recent_coverage(errors, widths, 20) == (pytest.approx(19 / 39),)


def test_importing_it_takes_no_torch(project_root: Path) -> None:
    code = "import sys, nas_system.data.measures.conformal; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=project_root, check=True, timeout=120)

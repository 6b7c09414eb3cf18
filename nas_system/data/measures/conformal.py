"""Prediction intervals around any point forecast, from how far its latest forecasts were off.

Split conformal prediction (Vovk, Gammerman, Shafer 2005; Lei et al. 2018, "Distribution-Free Predictive
Inference for Regression", JASA 113, section 2.2) per step of the horizon and per target: the half-width is a
quantile of the absolute errors of the latest windows. A forecast h steps ahead learns its error h rows later,
so only errors whose truth lies before a window's origin count for it (Wang and Hyndman 2024,
arXiv:2410.13115, section 3).

The share of misses that is asked for is corrected by the misses so far (adaptive conformal inference: Gibbs
and Candes 2021, arXiv:2106.00170, equation 2). Unlike there, the correction is the slower the later an error
is known, which would oscillate otherwise, and it never asks for more than the largest known error.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from nas_system.space.time_steps import rows_in_a_week

Array = NDArray[np.float64]

LEVELS = (80, 90)
"""Per cent."""

WEEKS = 4
LEAST_WINDOWS = 672
"""Four weeks of hours. A short series has fewer, and all of them count."""
HORIZONS = 7
"""The same in horizons: windows that overlap know little more than one."""
MOST_WINDOWS = 5_000

ADAPTIVITY, ADAPTIVITY_OVER_DELAY = 0.05, 0.15
"""What a miss adds to the share of misses asked for: the smaller of the first, and the second over the steps
until it is known."""

RECENT_WINDOWS = 30
"""The fewest that recent coverage is taken from; `HORIZONS` where that is more."""
FAR_OFF = 10
"""Percentage points that recent coverage may lie below its level before it is called a shift."""


@dataclass(frozen=True)
class Covered:
    """How intervals of one level did."""

    coverage: float
    """Share of the truths inside, borders included."""
    width: float
    """Mean, in the unit of the truths."""
    wql: float
    """Weighted quantile loss of the two borders."""

    def to_json(self) -> dict[str, float]:
        return asdict(self)


# --- from forecasts to residuals --------------------------------------------------------------


def rolling_residuals(values: Array, forecasts: Mapping[int, Array]) -> Array:
    """Return truth minus forecast, (origins, pred_len, targets), from the first origin to the last row.

    `values` is (rows, targets). `forecasts` holds, by its first origin, a block (windows, pred_len, targets)
    for consecutive origins; an origin is the first row of a forecast. NaN is what no block forecasts, as
    between two parts of a split, and what lies after the last row.
    """
    pred_len, targets = next(iter(forecasts.values())).shape[1:]
    first, rows = min(forecasts), len(values)
    assert values.shape == (rows, targets), (values.shape, targets)
    residuals = np.full((rows - first, pred_len, targets), np.nan)
    for origin, block in forecasts.items():
        assert origin + len(block) <= rows, (origin, len(block), rows)
        residuals[origin - first : origin - first + len(block)] = -block
    for step in range(pred_len):
        known = max(len(residuals) - step, 0)
        residuals[:known, step] += values[first + step :]
        residuals[known:, step] = np.nan
    return residuals


def window_for(freq: str | None, pred_len: int) -> int:
    """Return of how many of the latest windows the errors count, for rows of the step `freq`."""
    wanted = max(LEAST_WINDOWS, WEEKS * (rows_in_a_week(freq) or 0), HORIZONS * pred_len)
    return min(wanted, MOST_WINDOWS)


# --- half-widths ------------------------------------------------------------------------------


def windows_needed(level: int) -> int:
    """Return the fewest errors whose largest is still an interval of this level: 4 for 80, 9 for 90."""
    return math.ceil(level / (100 - level))


def rolling_intervals(residuals: Array, levels: Sequence[int], window: int) -> Array:
    """Return half-widths (levels, windows, steps, targets): the interval is the forecast plus and minus them.

    `residuals` (windows, steps, targets) are those of consecutive origins; NaN is not known. Those of window
    i, step h are taken from at most `window` errors of step h in windows j with j + h + 1 <= i: all the truth
    that is known at the origin of i. Windows to warm up on, such as those of the validation part, come first.
    NaN where fewer than `windows_needed` errors are known. `levels` ascend, and their intervals are nested.
    """
    return _half_widths(residuals, levels, window)[:, :-1]


def next_intervals(residuals: Array, levels: Sequence[int], window: int) -> Array:
    """Return the half-widths (levels, steps, targets) of the forecast whose origin is after all `residuals`.

    Residuals end with the origin at the last known row, as `rolling_residuals` makes them.
    """
    return _half_widths(residuals, levels, window)[:, -1]


def intervals_around(
    forecast: Array, half_widths: Array, levels: Sequence[int]
) -> dict[int, tuple[Array, Array]]:
    """Return lower and upper bounds (steps, targets) by level, of `forecast` (steps, targets).

    `half_widths` (levels, steps, targets) are those of `next_intervals`. A level that any step or target has
    too few windows for is left out.
    """
    return {
        level: (forecast - half, forecast + half)
        for level, half in zip(levels, half_widths, strict=True)
        if np.isfinite(half).all()
    }


def _half_widths(residuals: Array, levels: Sequence[int], window: int) -> Array:
    """Return (levels, windows + 1, steps, targets); the last window is the one after all that are given."""
    assert list(levels) == sorted(set(levels)), levels
    windows, steps, targets = residuals.shape
    found = np.full((len(levels), windows + 1, steps, targets), np.nan)
    for step in range(steps):
        for target in range(targets):
            errors = np.abs(residuals[:, step, target]).tolist()
            for index, column in enumerate(_tracked(errors, step + 1, levels, window)):
                found[index, :, step, target] = column
    return found


def _tracked(errors: list[float], delay: int, levels: Sequence[int], window: int) -> list[list[float]]:
    """Return the half-widths of each level for every origin, and for the one after the last.

    `errors` are absolute, and each is known `delay` origins after its own. One sorted list moves along them:
    of any share of misses, the quantile is an entry of that list.
    """
    adaptivity = min(ADAPTIVITY, ADAPTIVITY_OVER_DELAY / delay)
    found = [[math.nan] * min(delay, len(errors) + 1) for _ in levels]
    trackers = [
        (index, windows_needed(level), 1 - level / 100, widths)
        for index, (level, widths) in enumerate(zip(levels, found, strict=True))
    ]
    misses = [share for _, _, share, _ in trackers]
    ordered: list[float] = []
    known: list[float] = []
    # Conditions instead of min and max: this runs for every window, step and target.
    for place, error in enumerate(errors[: len(errors) + 1 - delay]):
        is_known = error == error
        if is_known:
            insort(ordered, error)
            known.append(error)
            if len(known) > window:
                del ordered[bisect_left(ordered, known[-window - 1])]
        count, inner = len(ordered), 0.0
        for index, needed, share, widths in trackers:
            missed, given = misses[index], widths[place]
            if is_known and given == given:
                missed += adaptivity * (share - 1 if error > given else share)
                misses[index] = missed = 0.0 if missed < 0 else 1.0 if missed > 1 else missed
            # Less a rounding error: 90 % of 10 errors are 9 of them and not 10.
            rank = ceil((count + 1) * (1 - missed) - 1e-9)
            if count < needed:
                inner = math.nan
            elif (width := ordered[0 if rank < 1 else -1 if rank > count else rank - 1]) > inner:
                inner = width
            widths.append(inner)
    return found


# --- what they were worth ---------------------------------------------------------------------


def score_intervals(truth: Array, forecast: Array, half_widths: Array, level: int) -> Covered | None:
    """Return how the intervals of one level did; all arrays have one shape: (windows, steps, targets).

    Entries with a NaN anywhere are left out; None if no other is there: too few windows.
    """
    borders = (forecast - half_widths, forecast + half_widths)
    known = np.isfinite(truth) & np.isfinite(borders[0])
    if not known.any():
        return None
    actual, low, high = truth[known], *(border[known] for border in borders)
    share = (1 - level / 100) / 2
    return Covered(
        coverage=float(((low <= actual) & (actual <= high)).mean()),
        width=float((high - low).mean()),
        wql=weighted_quantile_loss(actual, {share: low, 1 - share: high}),
    )


def weighted_quantile_loss(truth: Array, quantiles: Mapping[float, Array]) -> float:
    """Return the mean over `quantiles`, by their probability, of twice their pinball loss over sum |truth|.

    As in GluonTS and in AutoGluon (`WQL`). Infinite where all truths are 0 and a quantile is not.
    """
    losses: list[float] = []
    for probability, quantile in quantiles.items():
        below = truth - quantile
        losses.append(2 * float(np.maximum(probability * below, (probability - 1) * below).sum()))
    scale, loss = float(np.abs(truth).sum()), sum(losses) / len(losses)
    return loss / scale if scale > 0 else math.inf if loss > 0 else 0.0


def recent_coverage(
    residuals: Array, half_widths: Array, windows: int | None = None
) -> tuple[float | None, ...]:
    """Return, by level, the share of the truths of the last `windows` windows inside their intervals.

    Takes what `rolling_intervals` takes and returns. Windows of which no step is known do not count among the
    last ones, which are seven horizons, at least 30; None where there is no interval.
    """
    windows = windows or max(RECENT_WINDOWS, HORIZONS * residuals.shape[1])
    some = np.flatnonzero(np.isfinite(residuals).any(axis=(1, 2)))[-windows:]
    errors = np.abs(residuals[some])
    return tuple(_share_inside(errors, half[some]) for half in half_widths)


def _share_inside(errors: Array, half_widths: Array) -> float | None:
    known = np.isfinite(errors) & np.isfinite(half_widths)
    return float((errors <= half_widths)[known].mean()) if known.any() else None


def shift_warning(levels: Sequence[int], coverages: Iterable[float | None]) -> str | None:
    """Say that recent coverage is too far below a level to trust the intervals; None if it is not."""
    short = [
        f"{100 * coverage:.0f} % of {level} %"
        for level, coverage in zip(levels, coverages, strict=True)
        if coverage is not None and 100 * coverage < level - FAR_OFF
    ]
    if not short:
        return None
    return f"recent coverage is {' and '.join(short)}: the series has shifted, do not trust the intervals"

"""Prediction intervals around a forecast of the future, from the errors of the latest forecasts before it.

Those are of weights that had not seen the rows: what was searched on the validation part, the refit through
that on the test part, the refit through the test part on the hold-out part and everything after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_system.data.measures.conformal import (
    intervals_around,
    next_intervals,
    recent_coverage,
    rolling_intervals,
    rolling_residuals,
    shift_warning,
    window_for,
)
from nas_system.data.series import Forecast, Series
from nas_system.errors import ConfigError, StateError
from nas_system.space.task_info import TaskInfo

if TYPE_CHECKING:
    from nas_system.ensembles.forecaster import Stage

Array = NDArray[np.float64]


def with_intervals(
    forecast: Forecast, series: Series, stages: Sequence[Stage], levels: Sequence[int], info: TaskInfo
) -> tuple[Forecast, list[str]]:
    """Return the forecast with its intervals of these levels (per cent), and what has to be said of them.

    `series` may be another one than the search's: its rows are found by their dates.
    """
    try:
        residuals = _residuals(series, stages, info)
    except (ConfigError, StateError) as error:
        return forecast, [f"no intervals: {error}"]
    if residuals is None:
        return forecast, ["no intervals: there is no row that the weights have not learned from"]
    window = window_for(series.freq, info.task.horizon)
    half_widths = next_intervals(residuals, levels, window)
    intervals = intervals_around(forecast.values, half_widths, levels)
    notes = [f"no {level} % interval: too few earlier windows" for level in levels if level not in intervals]
    notes += _the_same(half_widths, levels)
    recent = recent_coverage(residuals, rolling_intervals(residuals, levels, window))
    shown = [
        f"{100 * share:.0f} % of {level} %"
        for level, share in zip(levels, recent, strict=True)
        if share is not None and level in intervals
    ]
    if shown:
        notes.append(f"the latest intervals held {' and '.join(shown)}")
    if (warning := shift_warning(levels, recent)) is not None:
        notes.append(f"warning: {warning}")
    return replace(forecast, intervals=intervals), notes


def _the_same(half_widths: Array, levels: Sequence[int]) -> list[str]:
    """Say at how many of the steps two levels have one interval; half-widths are (levels, steps, targets)."""
    found = []
    for (lower, inner), (higher, outer) in pairwise(zip(levels, half_widths, strict=True)):
        steps = (inner == outer).any(axis=1)
        if steps.any():
            found.append(
                f"the {lower} and {higher} % intervals are the same at {steps.sum()} of {len(steps)} steps: "
                "earlier errors are too few, or too large, to tell them apart"
            )
    return found


def _residuals(series: Series, stages: Sequence[Stage], info: TaskInfo) -> Array | None:
    """Return truth less forecast, from the first row that can be forecast on; None if there is none."""
    firsts = [_row_in(series, stage.first, info) for stage in stages]
    rows = len(series)
    blocks: Mapping[int, Array] = {}
    for stage, first, later in zip(stages, firsts, [*firsts[1:], rows], strict=True):
        # More than the intervals learn from is not needed.
        earliest = rows - 3 * window_for(series.freq, info.task.horizon)
        start = max(first, stage.forecaster.rows_needed, earliest)
        if start < later:
            origins = range(start, later)
            blocks = {**blocks, start: stage.forecaster.forecast_windows(series, origins, first)}
    if not blocks:
        return None
    targets = list(series.column_indices(stages[0].forecaster.target_columns))
    return rolling_residuals(series.values[:, targets], blocks)


def _row_in(series: Series, row: int, info: TaskInfo) -> int:
    """Return where a row of the search's data would stand in a series: at the same place where both begin at
    the same date, else by its date."""
    known = info.measured
    first, last = np.datetime64(str(known["first"]), "s"), np.datetime64(str(known["last"]), "s")
    if series.dates[0].astype("datetime64[s]") == first:
        return min(row, len(series))
    share = row / max(int(known["rows"]) - 1, 1)
    date = first + np.timedelta64(int((last - first).astype(np.int64) * share), "s")
    return int(np.searchsorted(series.dates.astype("datetime64[s]"), date))

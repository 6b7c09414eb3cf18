"""Prediction intervals around a forecast of the future, from the errors of the latest forecasts before it.

Those are of weights that had not seen the rows: what was searched on the validation part, the refit through
that on the test part, the refit through the test part on the hold-out part and everything after it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
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
from nas_system.ensembles.forecaster import EnsembleForecaster, LoadedMember, load_ensemble
from nas_system.errors import ConfigError, StateError
from nas_system.files import read_record
from nas_system.nas_agent.recommended import Part, Recommended
from nas_system.processes.run_files import FACTS_FILE
from nas_system.space.task_info import TaskInfo
from nas_system.tasks.baseline_forecaster import BaselineForecaster
from nas_system.tasks.saved_forecaster import SavedForecaster

if TYPE_CHECKING:
    from nas_system.ensembles.choice import Chosen

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """What forecast the rows of the search's data from `first` on, having learned from none of them."""

    forecaster: EnsembleForecaster
    first: int


def stages_of_run(forecaster: SavedForecaster | BaselineForecaster, name: str, info: TaskInfo) -> list[Stage]:
    """Return the one stage of a run or a baseline alone: all rows after the training part."""
    if isinstance(forecaster, BaselineForecaster):
        member = LoadedMember(name, 1.0, baseline=forecaster)
    else:
        member = LoadedMember(name, 1.0, (forecaster,))
    return [Stage(EnsembleForecaster(name, (member,)), _start(info, "val"))]


def stages_of(
    recommended: Recommended, info: TaskInfo, workspace: Path, device: str, *, as_searched: bool = False
) -> list[Stage]:
    """Return the stages of what a search recommends. Raises ConfigError or StateError for missing weights."""
    name = recommended.recommended
    stages = [Stage(load_ensemble(recommended, workspace, name, device), _start(info, "val"))]
    steps: tuple[tuple[Part, Part], ...] = (("val", "test"), ("test", "hold_out"))
    for before, part in () if as_searched else steps:
        refit = recommended.refitted(before)
        if refit is not None and info.sizes.get(part):
            stages.append(Stage(load_ensemble(refit, workspace, name, device), _start(info, part)))
    return stages


def intervals_of(
    forecast: Forecast, series: Series, chosen: Chosen, arguments: argparse.Namespace
) -> tuple[Forecast, list[str]]:
    """Return the forecast with the intervals that the arguments of `nas predict` ask for, and what has to be
    said of them."""
    info = _info(arguments.facts or chosen.run.absolute().parent / FACTS_FILE)
    if info is None or info.source.sha256 != chosen.forecaster.data_sha256:
        return forecast, [
            "no intervals: they need the search's task_facts.json, next to the run or by --facts"
        ]
    known, forecaster = chosen.recommended, chosen.forecaster
    try:
        if known is not None:
            searched = arguments.as_searched
            stages = stages_of(known, info, arguments.workspace, arguments.device, as_searched=searched)
        elif isinstance(forecaster, EnsembleForecaster):
            return forecast, ["no intervals: runs/recommended.json is not about this ensemble"]
        else:
            stages = stages_of_run(forecaster, chosen.run.name, info)
    except (ConfigError, StateError) as error:
        return forecast, [f"no intervals: {error}"]
    return with_intervals(forecast, series, stages, arguments.intervals, info)


def _info(facts: Path) -> TaskInfo | None:
    """Return the task info of a search; None where that is not there, or not whole."""
    record = read_record(facts)
    try:
        return None if record is None else TaskInfo.from_json(record)
    except ConfigError:
        return None


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


def _start(info: TaskInfo, part: str) -> int:
    """Return the first row of a part. Raises ConfigError for task info that does not say."""
    split = info.measured.get("split")
    borders = split.get(part) if isinstance(split, dict) else None
    if not isinstance(borders, list) or not borders or type(borders[0]) is not int:
        raise ConfigError("the task info of the search does not say where its parts begin")
    return borders[0]

"""Prediction intervals: do they cover what they say, on parts that nothing was fitted to?

    NAS_DATA_DIR=folder-of-ETTh1 python benchmarks/intervals.py [--half tune|report] [--only NAME ...]

Every cell is a series, its targets and a horizon. The forecaster is fast: of the baselines that take no
library, fitted to the training part, the one with the lowest validation error. Its errors then roll through
validation, test and hold-out part. Printed per part and level are the coverage with a 90 % interval (moving
blocks of windows: what another stretch of such a series could have given), the mean width and the weighted
quantile loss, both over those of fixed quantiles of the validation errors, and that rule's coverage; then
recent coverage as a page would show it before the part and at its end, and for how many parts and levels
coverage is within 3 points. The ten cells of the bar stand first; the series of `short_series_data.py`
follow, whose parts hold 5 to 450 windows. Settings may be chosen by `tune`; `report` is only ever reported.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

import short_series_data
from short_series_data import DAY, HOUR, TARGET, ShortSeries

from nas_system.data.baselines.naive import LastValue
from nas_system.data.baselines.scoring import simple_methods
from nas_system.data.baselines.seasons import shared_seasons
from nas_system.data.loading import OpenTask, open_task
from nas_system.data.measures import conformal
from nas_system.data.measures.conformal import LEVELS, Array
from nas_system.data.source import locate
from nas_system.errors import ConfigError
from nas_system.space.tasks import ForecastingTask

Half = Literal["tune", "report"]
PARTS = ("test", "hold_out")
POINTS = 3
"""Percentage points that coverage may be off."""
BLOCKS, LEAST_BLOCK, DRAWS = 3, 10, 400
"""Horizons in a block, its fewest windows, and how often blocks are drawn."""


@dataclass(frozen=True)
class Cell:
    """A series and what is asked of it."""

    name: str
    half: Half
    of_bar: bool
    open: Callable[[Path], OpenTask]
    """Takes a folder for its CSV file. Raises ConfigError where a file or a package is missing."""


# --- series ---------------------------------------------------------------------------------


def _peaks(rows: int) -> list[float]:
    """Return hours with two narrow peaks on workdays, one broad one at weekends, and noise that remembers."""
    noise = short_series_data._noise(101, rows, 2, 0.7)
    return [_shape_of_hour(hour) + e for hour, e in enumerate(noise)]


def _shape_of_hour(hour: int) -> float:
    peak = short_series_data._peak
    if short_series_data._is_workday(hour):
        return 30 + 20 * (peak(hour, 8, 2) + 1.3 * peak(hour, 18, 3))
    return 30 + 16 * peak(hour, 14, 5)


def _growing(rows: int) -> list[float]:
    """Return days with a weekly pattern; level, pattern and noise grow threefold."""
    noise, week = short_series_data._noise(102, rows, 3, 0.3), short_series_data.WEEK
    return [(80 + 0.6 * week[day % 7] + e) * (1 + 2 * day / rows) for day, e in enumerate(noise)]


def _volatile(rows: int) -> list[float]:
    """Return days with a weekly pattern and noise that is calm for months and then is not."""
    noise, week = short_series_data._noise(103, rows, 1, 0.4), short_series_data.WEEK
    size = short_series_data._noise(104, rows, 0.6, 0.99)
    return [
        100 + 0.5 * week[day % 7] + 4 * math.exp(s) * e
        for day, (s, e) in enumerate(zip(size, noise, strict=True))
    ]


def _level_shifts(rows: int) -> list[float]:
    """Return days with a weekly pattern whose level moves about every four months."""
    noise, week = short_series_data._noise(105, rows, 3), short_series_data.WEEK
    generator, level, found = Random(106), 100.0, []
    for day, e in enumerate(noise):
        if generator.random() < 1 / 120:
            level = 100 + generator.gauss(0, 20)
        found.append(level + 0.4 * week[day % 7] + e)
    return found


def _demand() -> list[float]:
    """Return the hourly electricity demand of the state of Victoria, January to May 2012."""
    rows = short_series_data._rows_of("statsmodels", "tsa/stl/tests/results/mstl_elec_vic.csv")
    return [float(row[1]) for row in rows]


LONG = (
    ShortSeries("peaks", "report", 24, "2020-01-06T00", HOUR, partial(_peaks, 8_000)),
    ShortSeries("growing", "report", 14, "2005-01-03", DAY, partial(_growing, 5_000)),
    ShortSeries("volatile", "report", 7, "2003-01-06", DAY, partial(_volatile, 6_000)),
    ShortSeries("level_shifts", "report", 7, "2003-01-06", DAY, partial(_level_shifts, 6_000)),
    ShortSeries("demand", "report", 24, "2012-01-01T00", HOUR, _demand, real=True),
)
IN_BAR = (*(one.name for one in LONG), "co2")
NAMED: tuple[tuple[str, str, Half], ...] = (
    ("etth1", "OT", "report"),
    ("etth1", "all", "report"),
    ("synthetic", "OT", "tune"),
)
HALVES: dict[str, Half] = {"choose": "tune", "report": "report"}


def _open_named(dataset: str, target: str, pred_len: int, _: Path) -> OpenTask:
    return open_task(ForecastingTask(dataset=dataset, targets=(target,), pred_len=pred_len))


def _open_short(series: ShortSeries, folder: Path) -> OpenTask:
    file = folder / f"{series.name}.csv"
    series.write_csv(file)
    missing = "ffill" if "ffill" in series.flags else "refuse"
    task = ForecastingTask(dataset=str(file), targets=(TARGET,), pred_len=series.pred_len, missing=missing)
    return open_task(task, locate(task))


def cells() -> list[Cell]:
    """Return all cells: those of the bar first."""
    named = [
        Cell(
            f"{dataset}_{target}_{hours}",
            half,
            half == "report",
            partial(_open_named, dataset, target, hours),
        )
        for dataset, target, half in NAMED
        for hours in (24, 96)
    ]
    short = [
        Cell(one.name, HALVES[one.half], one.name in IN_BAR, partial(_open_short, one))
        for one in (*LONG, *short_series_data.SERIES)
    ]
    return sorted((*named, *short), key=lambda cell: not cell.of_bar)


# --- a cell ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rolled:
    """Truths and forecasts of every origin after the training part, in data units."""

    method: str
    first: int
    """The first origin."""
    truth: Array
    """(origins, pred_len, targets), NaN after the last row"""
    forecast: Array
    """The same shape."""

    @property
    def residuals(self) -> Array:
        return self.truth - self.forecast


def roll(data: OpenTask) -> Rolled:
    """Fit the baselines to the training part, and forecast from every later row with the best of them."""
    columns = list(data.series.column_indices(data.task.targets))
    values = data.series.values[:, columns]
    scaler, split, pred_len = data.scaler.of_columns(columns), data.split, data.task.pred_len
    table, first = scaler.transform(values), split.train_end
    train, freq = table[:first], data.series.freq
    methods = simple_methods(first, pred_len, freq, shared_seasons(values[:first], freq)) or (LastValue(),)
    origins = range(first, len(table))
    validation = split.val_end - first - pred_len + 1
    padded = np.concatenate([table, np.full((pred_len - 1, len(columns)), np.nan)])
    truth = np.moveaxis(sliding_window_view(padded, pred_len, axis=0)[first:], 2, 1)
    best, name, forecast = math.inf, "", truth
    for method in methods:
        fitted = method.fit(train, pred_len)
        blocks = [
            fitted(column, origins, target) for target, column in enumerate(np.ascontiguousarray(table.T))
        ]
        found = np.stack(blocks, axis=2)
        error = float(np.square(truth[:validation] - found[:validation]).mean())
        if error < best:
            best, name, forecast = error, method.name, found
    return Rolled(name, first, scaler.inverse(truth), scaler.inverse(forecast))


def fixed_half_widths(residuals: Array, validation: int, levels: Sequence[int]) -> Array:
    """Return split-conformal half-widths (levels, 1, steps, targets) from the validation windows alone."""
    ordered = np.sort(np.abs(residuals[:validation]), axis=0)
    count = len(ordered)
    ranks = [math.ceil((count + 1) * level / 100 - 1e-9) for level in levels]
    missing = np.full(ordered.shape[1:], np.nan)
    return np.stack([ordered[rank - 1] if rank <= count else missing for rank in ranks])[:, None]


def block_interval(inside: Array, block: int, generator: np.random.Generator) -> tuple[float, float] | None:
    """Return the 90 % interval of the mean of `inside`, the share inside by window, by moving blocks.

    None for less than two of them, which say nothing of what varies.
    """
    inside = inside[np.isfinite(inside)]
    count = len(inside)
    if count < 2 * block:
        return None
    starts = generator.integers(0, count, (DRAWS, math.ceil(count / block)))
    drawn = (starts[..., None] + np.arange(block)) % count
    means = inside[drawn.reshape(DRAWS, -1)[:, :count]].mean(axis=1)
    low, high = np.quantile(means, (0.05, 0.95))
    return float(low), float(high)


def measure(cell: Cell, folder: Path) -> dict[str, Any]:
    """Return what the intervals of a cell did, by part and level."""
    data = cell.open(folder)
    rolled, split, pred_len = roll(data), data.split, data.task.pred_len
    residuals, window = rolled.residuals, conformal.window_for(data.series.freq, pred_len)
    began = time.process_time()
    rolling = conformal.rolling_intervals(residuals, LEVELS, window)
    seconds = time.process_time() - began
    fixed = fixed_half_widths(residuals, split.val_end - split.train_end - pred_len + 1, LEVELS)
    parts: dict[str, Any] = {}
    for part in PARTS:
        rows = split.target_rows(part)
        at = slice(rows.start - rolled.first, rows.stop - pred_len + 1 - rolled.first)
        parts[part] = _part(rolled, at, rolling, fixed, pred_len)
    return {
        "half": cell.half, "of_bar": cell.of_bar, "method": rolled.method, "rows": len(data.series),
        "pred_len": pred_len, "window": window, "seconds": round(seconds, 2), "parts": parts,
    }  # fmt: skip


def _part(rolled: Rolled, at: slice, rolling: Array, fixed: Array, pred_len: int) -> dict[str, Any]:
    truth, forecast, found = rolled.truth[at], rolled.forecast[at], {}
    for index, level in enumerate(LEVELS):
        half = rolling[index, at]
        scored = conformal.score_intervals(truth, forecast, half, level)
        plain = conformal.score_intervals(truth, forecast, np.broadcast_to(fixed[index], truth.shape), level)
        if scored is None:
            continue
        known = np.isfinite(half)
        inside = np.where(known, np.abs(truth - forecast) <= half, np.nan)
        windows = known.any(axis=(1, 2))
        means = np.nanmean(inside[windows], axis=(1, 2))
        block = max(BLOCKS * pred_len, LEAST_BLOCK)
        found[str(level)] = {
            "rolling": scored.to_json(),
            "between": block_interval(means, block, np.random.default_rng(0)),
            "fixed": plain and plain.to_json(),
        }
    page = {
        "before": _recent(rolled, rolling, at.start),
        "after": _recent(rolled, rolling, at.stop + pred_len - 1),
    }
    return {"windows": len(truth), "levels": found, "recent": page}


def _recent(rolled: Rolled, rolling: Array, end: int) -> dict[str, Any]:
    """Return recent coverage as a page would show it when the row of origin `end` is not known yet."""
    recent = conformal.recent_coverage(_known_before(rolled.residuals[:end]), rolling[:, :end])
    return {"coverage": recent, "shift": conformal.shift_warning(LEVELS, recent)}


def _known_before(residuals: Array) -> Array:
    """Return the residuals with NaN for those whose truth lies after the last of these origins."""
    known = residuals.copy()
    for step in range(1, residuals.shape[1]):
        known[max(len(known) - step, 0) :, step] = np.nan
    return known


# --- the report -----------------------------------------------------------------------------


def hits(row: dict[str, Any]) -> int:
    """Return for how many parts and levels coverage is within 3 points."""
    return sum(
        abs(100 * found["rolling"]["coverage"] - int(level)) <= POINTS
        for part in row["parts"].values()
        for level, found in part["levels"].items()
    )


def print_row(name: str, row: dict[str, Any]) -> None:
    """Print a cell: a line for each part."""
    for part, found in row["parts"].items():
        texts = [_level_text(found["levels"].get(str(level))) for level in LEVELS]
        shown = f"{hits(row)}/{len(PARTS) * len(LEVELS)}" if part == PARTS[0] else ""
        recent = " -> ".join(_recent_text(found["recent"][when]) for when in ("before", "after"))
        print(
            f"{name:<20}{row['method']:<13}{part:<9}{found['windows']:>5} {' | '.join(texts)} | {recent} "
            f"{shown}",
            flush=True,
        )


def _recent_text(recent: dict[str, Any]) -> str:
    shares = " ".join("  -" if share is None else f"{100 * share:3.0f}" for share in recent["coverage"])
    return f"{shares} {'shift' if recent['shift'] else '     '}"


def _level_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return f"{'too few windows':<38}"
    rolling, fixed, between = found["rolling"], found["fixed"], found["between"]
    spread = "-" if between is None else f"{100 * between[0]:.0f}-{100 * between[1]:.0f}"
    text = f"{100 * rolling['coverage']:5.1f} {f'({spread})':>8} "
    if fixed is None:
        return f"{text:<38}"
    width, wql = rolling["width"] / fixed["width"], rolling["wql"] / fixed["wql"]
    return f"{text}{width:5.2f}{wql:6.3f} {rolling['wql']:6.4f} {100 * fixed['coverage']:5.1f}"


def summarize(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Print how many cells are within the bar, and what the rest is off by; return the counts."""
    counts: dict[str, Any] = {}
    for label, of_bar in (("bar", True), ("short", False)):
        chosen = {name: row for name, row in rows.items() if row["of_bar"] is of_bar}
        if not chosen:
            continue
        within = [name for name, row in chosen.items() if hits(row) == len(PARTS) * len(LEVELS)]
        every = [
            (abs(100 * found[rule]["coverage"] - int(level)), rule)
            for row in chosen.values()
            for part in row["parts"].values()
            for level, found in part["levels"].items()
            for rule in ("rolling", "fixed")
            if found["fixed"] is not None
        ]
        off = {rule: float(np.mean([o for o, of in every if of == rule])) for rule in ("rolling", "fixed")}
        print(
            f"{label}: {len(within)} of {len(chosen)} cells within {POINTS} points on both parts at both "
            f"levels; off by {off['rolling']:.1f} points on average, fixed quantiles by {off['fixed']:.1f}"
        )
        counts[label] = {"within": within, "cells": len(chosen), "off": off}
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=("tune", "report", "both"), default="both")
    names = [cell.name for cell in cells()]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    options = parser.parse_args()
    head = "coverage (between) width   WQL   WQL fixed"
    print(f"{'cell':<20}{'forecaster':<13}{'part':<9}{'n':>5} 80: {head} | 90: {head} | recent")
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells():
            if options.half not in (cell.half, "both") or cell.name not in (options.only or names):
                continue
            try:
                rows[cell.name] = measure(cell, Path(folder))
            except ConfigError as error:
                print(f"{cell.name}: {error}")
                continue
            print_row(cell.name, rows[cell.name])
    print(json.dumps({"cells": rows, "summary": summarize(rows)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A multivariate time series in memory: numbers, column names, time stamps and their step."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.errors import ConfigError

STEP_UNITS = ((7 * 86_400, "W"), (86_400, "D"), (3_600, "h"), (60, "min"), (1, "s"))
"""Seconds of each unit, coarsest first; the letters are the ones pandas uses."""


@dataclass(frozen=True, eq=False)
class Series:
    """Regular, complete and sorted: whoever makes one has checked it."""

    values: NDArray[np.float64]
    """(rows, columns)"""
    columns: tuple[str, ...]
    dates: NDArray[np.datetime64]
    """(rows,), to the second"""
    freq: str
    """The step between rows: `h`, `15min`, `D`, `W`, `MS` (a month), ..."""

    def __len__(self) -> int:
        return len(self.values)

    def column_indices(self, names: Sequence[str]) -> tuple[int, ...]:
        """Where the columns stand. Raises ConfigError for one that is missing."""
        for name in names:
            if name not in self.columns:
                close = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ConfigError(f"there is no column {name!r}{hint} (columns: {', '.join(self.columns)})")
        return tuple(self.columns.index(name) for name in names)


class IrregularSteps(ValueError):
    """The time stamps are not evenly spaced; `row` (from 0) is the first that is wrong."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def frequency_of(dates: NDArray[np.datetime64]) -> str:
    """The one step between all time stamps. Raises IrregularSteps when there is none."""
    seconds = np.diff(dates.astype("datetime64[s]").astype(np.int64))
    backwards = np.flatnonzero(seconds <= 0)
    if backwards.size:
        row = int(backwards[0]) + 1
        same = dates[row] == dates[row - 1]
        problem = (
            "repeats the one before; keep one" if same else "is earlier than the one before; sort the rows"
        )
        raise IrregularSteps(row, f"the time stamp {dates[row]} {problem}")
    months = _step_in_months(dates)
    if months:
        return _spelled(months, "MS")
    # The middle step, not the first: when row 2 is missing, the message should name row 2.
    step = int(np.sort(seconds)[len(seconds) // 2])
    wrong = np.flatnonzero(seconds != step)
    if wrong.size:
        row = int(wrong[0]) + 1
        found, usual = (_spelled_seconds(int(s)) for s in (seconds[row - 1], step))
        raise IrregularSteps(
            row,
            f"the time stamp {dates[row]} comes {found} after the one before, elsewhere it is {usual}; "
            "fill the gap or resample to one step",
        )
    return _spelled_seconds(step)


def _step_in_months(dates: NDArray[np.datetime64]) -> int | None:
    """The step when it is a fixed number of calendar months, which have no fixed number of seconds."""
    months = dates.astype("datetime64[M]")
    steps = np.diff(months.astype(np.int64))
    if steps[0] < 1 or (steps != steps[0]).any():
        return None
    into_month: NDArray[Any] = dates - months.astype(dates.dtype)
    to_next: NDArray[Any] = (months + 1).astype(dates.dtype) - dates
    same_place = (into_month == into_month[0]).all() or (to_next == to_next[0]).all()
    return int(steps[0]) if same_place else None


def _spelled_seconds(seconds: int) -> str:
    size, unit = next(pair for pair in STEP_UNITS if seconds % pair[0] == 0)
    return _spelled(seconds // size, unit)


def _spelled(count: int, unit: str) -> str:
    return unit if count == 1 else f"{count}{unit}"

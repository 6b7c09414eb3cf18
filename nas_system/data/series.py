"""A multivariate time series in memory: numbers, column names, time stamps and their step."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.errors import ConfigError
from nas_system.space.tasks.forecasting import ALL
from nas_system.space.time_steps import SECONDS, step_of_months, step_of_seconds

SHORTEST_MONTH = 28 * SECONDS["D"]
NAMES_SHOWN = 20
"""Column names in an error message."""


@dataclass(frozen=True)
class Clock:
    """The clock of the last row of a series, in which its future is written."""

    offset: str
    """From UTC, as `+02:00` or `Z`."""
    ahead_s: int
    """Seconds by which it is ahead of the dates of the series: they are in UTC, if that has even steps."""


@dataclass(frozen=True, eq=False)
class Ahead:
    """Values of columns that are known for the steps after the last row of a series."""

    columns: tuple[str, ...]
    dates: NDArray[np.datetime64]
    """(steps,), to the second; the first is the step after the last row."""
    values: NDArray[np.float64]
    """(steps, columns)"""


@dataclass(frozen=True, eq=False)
class Series:
    """A regular, complete and sorted series; `read_series` checks that."""

    values: NDArray[np.float64]
    """(rows, columns)"""
    columns: tuple[str, ...]
    dates: NDArray[np.datetime64]
    """(rows,), to the second"""
    freq: str
    """The step between rows: `h`, `15min`, `D`, `W`, `MS` (a month), ..."""
    filled: Mapping[str, int] = field(default_factory=dict)
    """Cells that were missing and were filled, by column, those of missing rows too; none where there were
    none."""
    clock: Clock | None = None
    """None for time stamps without an offset from UTC: read as they stand."""
    said: tuple[str, ...] = ()
    """How the file was read, where that was to be found out, and what was filled: a sentence each."""
    name: str = ""
    """Which of the series of its file this is; empty where there is one."""
    known: tuple[str, ...] = ()
    """Columns whose future is known when a forecast is made, in the order of `columns`; never targets."""
    ahead: Ahead | None = None
    """Their future values as far as the file has them; None where it ends with the last row."""

    def __len__(self) -> int:
        return len(self.values)

    def column_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the columns that `names` means: `all` alone is every column whose future is not known.

        Unless a column is named so.

        Raises ConfigError for a column that is missing.
        """
        if tuple(names) == (ALL,) and ALL not in self.columns:
            return tuple(column for column in self.columns if column not in self.known)
        for name in names:
            if name not in self.columns:
                raise ConfigError(f"there is no column {name!r}{self._hint(name, names)}")
        return tuple(names)

    def column_indices(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the indices of the columns that `names` means. Raises ConfigError for a missing one."""
        return tuple(self.columns.index(name) for name in self.column_names(names))

    def ended_at(self, row: int) -> Series:
        """Return the series as it was before `row` had come; what it knew of its future is what came."""
        after = Ahead(self.known, self.dates[row:], self.values[row:, list(self.known_indices)])
        return replace(
            self,
            values=self.values[:row],
            dates=self.dates[:row],
            ahead=after if self.known and len(after.dates) else self.ahead,
        )

    @property
    def known_indices(self) -> tuple[int, ...]:
        """Return the indices of the columns whose future is known."""
        return tuple(self.columns.index(name) for name in self.known)

    def _hint(self, name: str, names: Sequence[str]) -> str:
        if name == ALL:
            return f"; {ALL!r} means every column and stands alone"
        whole = next(
            (column for column in self.columns if "," in column and _parts(column) <= set(names)), None
        )
        if whole is not None:
            return f"; a name with a comma stands in double quotes: --target '\"{whole}\"'"
        close = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.5)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        more = f", ... ({len(self.columns)} in all)" if len(self.columns) > NAMES_SHOWN else ""
        shown = ", ".join(self.columns[:NAMES_SHOWN]) + more
        return guess + f" (columns: {shown})" + ("" if close else f"; --target names columns, or {ALL}")


def _parts(column: str) -> set[str]:
    return {part.strip() for part in column.split(",")}


@dataclass(frozen=True, eq=False)
class Forecast:
    """The future of the targets, in the units of the data."""

    columns: tuple[str, ...]
    dates: NDArray[np.datetime64]
    """(pred_len,)"""
    values: NDArray[np.float64]
    """(pred_len, targets)"""
    spread: NDArray[np.float64]
    """(targets,): the standard deviations that the values were scaled by."""
    intervals: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    """Lower and upper bounds (pred_len, targets), all finite, by their level in per cent."""
    said: tuple[str, ...] = ()
    """What has to be known of it, a sentence each."""


class IrregularSteps(ValueError):
    """The time stamps are not evenly spaced; `row` (from 0) is the first that is wrong."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def frequency_of(dates: NDArray[np.datetime64], expected: str | None = None) -> str:
    """Return the one step between all time stamps. Raises IrregularSteps when there is none.

    Where steps differ, `expected`, the step that the user names, decides which row is wrong;
    without it the most usual step does.
    """
    steps, spelled = steps_of(dates)
    usual = spelled(_middle(steps))
    found = {int(step): spelled(int(step)) for step in np.unique(steps)}
    if len(found) == 1:
        return usual
    right = [step for step, name in found.items() if name == (expected or usual)]
    row = int(np.flatnonzero(~np.isin(steps, right))[0]) + 1
    contrast = f"but --freq (task.freq) says {expected}" if expected else f"elsewhere it is {usual}"
    raise IrregularSteps(
        row,
        f"the time stamp {dates[row]} comes {found[int(steps[row - 1])]} after the one before, {contrast}; "
        "fill the gap or resample to one step",
    )


def is_regular(dates: NDArray[np.datetime64]) -> bool:
    """Return whether all time stamps are evenly spaced."""
    try:
        frequency_of(dates)
    except IrregularSteps:
        return False
    return True


def steps_of(dates: NDArray[np.datetime64]) -> tuple[NDArray[np.int64], Callable[[int], str]]:
    """Return the steps between time stamps, in calendar months if most are that, else in seconds, and what
    spells a step.

    Raises IrregularSteps where time does not go forward, or a row is not at its place in the month.
    """
    seconds = np.diff(dates.astype("datetime64[s]").astype(np.int64))
    _refuse_backwards(dates, seconds)
    months = _steps_in_months(dates, _middle(seconds))
    return (seconds, step_of_seconds) if months is None else (months, step_of_months)


def _middle(steps: NDArray[np.int64]) -> int:
    # Not the first: when row 2 is missing, the message should name row 2.
    return int(np.sort(steps)[len(steps) // 2])


def _refuse_backwards(dates: NDArray[np.datetime64], seconds: NDArray[np.int64]) -> None:
    backwards = np.flatnonzero(seconds <= 0)
    if backwards.size:
        row = int(backwards[0]) + 1
        same = dates[row] == dates[row - 1]
        problem = (
            "repeats the one before; keep one" if same else "is earlier than the one before; sort the rows"
        )
        raise IrregularSteps(row, f"the time stamp {dates[row]} {problem}")


def _steps_in_months(dates: NDArray[np.datetime64], usual_seconds: int) -> NDArray[np.int64] | None:
    """Return the steps in calendar months if most rows are at the same place in theirs, else None."""
    if usual_seconds < SHORTEST_MONTH:
        return None
    months = dates.astype("datetime64[M]")
    after_start: NDArray[Any] = dates - months.astype(dates.dtype)
    before_end: NDArray[Any] = (months + 1).astype(dates.dtype) - dates
    place = max((_at_usual_place(offset) for offset in (after_start, before_end)), key=np.count_nonzero)
    even = np.ptp(np.diff(dates).astype(np.int64)) == 0
    if place.all() or (not even and are_business_ends(dates)):
        return np.diff(months.astype(np.int64))
    if 2 * np.count_nonzero(place) <= len(dates):
        return None
    row, other = int(np.flatnonzero(~place)[0]), dates[place][0]
    raise IrregularSteps(
        row, f"the time stamp {dates[row]} is not at the place in its month where {other} is; fix it"
    )


def are_business_ends(dates: NDArray[np.datetime64]) -> bool:
    """Return whether all rows are the last business days of their months, or all the first ones."""
    days, months = dates.astype("datetime64[D]"), dates.astype("datetime64[M]")
    return any((days == business_day(months, place)).all() for place in (0, -1))


def business_day(months: NDArray[np.datetime64], place: int) -> NDArray[np.datetime64]:
    """Return the first business day of each month, place 0, or the last, place -1."""
    start = (months if place == 0 else months + 1).astype("datetime64[D]")
    return np.busday_offset(start, place, roll="forward")


def _at_usual_place(offset: NDArray[Any]) -> NDArray[np.bool_]:
    places, counts = np.unique(offset, return_counts=True)
    return offset == places[counts.argmax()]

"""Missing rows: where they are, and the even steps on which the others stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_system.data.calendar import dates_after
from nas_system.data.reading.daylight import clock_change
from nas_system.data.series import IrregularSteps, frequency_of, steps_of
from nas_system.space.tasks.forecasting import Missing

Array = NDArray[np.float64]
Dates = NDArray[np.datetime64]

MOST_MISSING = 1 / 3
"""Share of the rows that are filled: business days leave out 2 of 7, holidays some more."""
LONGEST_GAP = 14
"""Rows in one gap that are filled."""
LONGEST_GAP_SHARE = 0.02
"""The same as a share of all rows, where that is more."""
COMMONEST = 3
FILL = (
    "--missing ffill (task.missing) fills such rows with the one before, --missing interpolate along a line"
)


@dataclass(frozen=True, eq=False)
class Grid:
    """Even steps, and which of them the rows of a file stand on."""

    dates: Dates
    """(rows of the file,)"""
    freq: str
    places: NDArray[np.int64]
    """(rows of the file,): which step each row is, from 0."""

    @property
    def rows(self) -> int:
        """How many rows there are when none is missing."""
        return int(self.places[-1]) + 1

    @property
    def missing(self) -> int:
        """How many rows the file has not."""
        return self.rows - len(self.places)

    @property
    def gaps(self) -> NDArray[np.int64]:
        """Return how many rows are missing before each row of the file but the first."""
        return np.diff(self.places) - 1

    def all_dates(self) -> Dates:
        """Return (rows,) times, those of the missing rows among them."""
        if not self.missing:
            return self.dates
        later = dates_after(self.dates[::-1], self.freq, self.rows - 1)
        dates = np.concatenate([self.dates[:1], later])
        dates[self.places] = self.dates
        return dates

    def all_rows(self, values: Array) -> Array:
        """Return (rows, columns), NaN where the file has no row."""
        if not self.missing:
            return values
        whole = np.full((self.rows, values.shape[1]), np.nan)
        whole[self.places] = values
        return whole

    def describe(self) -> str:
        """Say how many rows are missing of how many, and where."""
        first, longest = int((self.gaps > 0).argmax()), int(self.gaps.argmax())
        said = f"{self.missing:,} of {self.rows:,} rows ({100 * self.missing / self.rows:.2g} %)"
        more = f", the longest gap of {self.gaps[longest]:,} after {_shown(self.dates[longest])}"
        return f"{said} are missing, the first after {_shown(self.dates[first])}{more * (first != longest)}"


def grid_of(dates: Dates, expected: str | None, missing: Missing) -> Grid:
    """Return the even steps on which the rows stand: `expected`, or the commonest.

    There are gaps only where `missing` says to fill them.

    Raises IrregularSteps where there are no even steps, or more is missing than is ever filled.
    """
    try:
        return Grid(dates, frequency_of(dates, expected), np.arange(len(dates)))
    except IrregularSteps as error:
        uneven = error
    steps, spelled = steps_of(dates)
    counts = Counter(steps.tolist()).most_common()
    if missing == "refuse" and (change := clock_change(dates, counts[0][0])) is not None:
        raise IrregularSteps(change.row, f"before the time stamp {dates[change.row]} {change.advice}")
    named = [step for step, _ in counts if spelled(step) == expected] if expected else [counts[0][0]]
    if not named or (steps % named[0]).any():
        seen = ", ".join(f"{spelled(step)} ({count:,} times)" for step, count in counts[:COMMONEST])
        what = f"{str(uneven).partition(';')[0]}; the commonest steps are {seen}"
        raise IrregularSteps(uneven.row, f"{what}, and no row fits between; resample to one step")
    places = np.concatenate([[0], np.cumsum(steps // named[0])])
    grid = Grid(dates, spelled(named[0]), places)
    if missing == "refuse":
        days = "the rows are business days: " if _are_business_days(grid) else ""
        said = (
            f"{str(uneven).partition(';')[0]}; {days}{grid.describe()}; fill the gap or resample to one step"
        )
        raise IrregularSteps(uneven.row, f"{said}: {FILL}")
    _check_bounds(grid)
    return grid


def _check_bounds(grid: Grid) -> None:
    longest = int(grid.gaps.argmax())
    most = max(LONGEST_GAP, int(LONGEST_GAP_SHARE * grid.rows))
    if grid.missing <= MOST_MISSING * grid.rows and grid.gaps[longest] <= most:
        return
    raise IrregularSteps(
        longest + 1,
        f"{grid.describe()}; --missing fills up to a third of the rows, and up to {most:,} in a row; bring "
        "the missing rows, resample to a coarser step, or begin the file here",
    )


def _are_business_days(grid: Grid) -> bool:
    return grid.freq == "D" and bool(np.is_busday(grid.dates.astype("datetime64[D]")).all())


def _shown(date: np.datetime64) -> str:
    return str(date).replace("T", " ").removesuffix(" 00:00:00")

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

    @property
    def bound(self) -> int:
        """Return how many rows in one gap are filled."""
        return max(LONGEST_GAP, int(LONGEST_GAP_SHARE * self.rows))

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
        are = "is" if self.missing == 1 else "are"
        return f"{said} {are} missing, the first after {_shown(self.dates[first])}{more * (first != longest)}"


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
    what = str(uneven).partition(";")[0]
    step = _step_of_all(steps, [step for step, _ in counts if expected in (None, spelled(step))])
    if step is None:
        seen = ", ".join(f"{spelled(step)} ({count:,} times)" for step, count in counts[:COMMONEST])
        raise IrregularSteps(
            uneven.row,
            f"{what}; the commonest steps are {seen}, and none of them leads to all rows; resample to one "
            "step",
        )
    grid = Grid(dates, spelled(step), np.concatenate([[0], np.cumsum(steps // step)]))
    bound, longest = grid.bound, int(grid.gaps.argmax())
    too_long = grid.gaps[longest] > bound
    if grid.missing > MOST_MISSING * grid.rows or too_long:
        raise IrregularSteps(
            longest + 1 if too_long else uneven.row,
            f"{what}; {grid.describe()}; --missing fills up to a third of the rows, and up to {bound:,} in a "
            "row; bring the missing rows, resample to a coarser step, or begin the file after the gap",
        )
    if missing == "refuse":
        days = "the rows are business days: " if _are_business_days(grid) else ""
        said = f"{what}; {days}{grid.describe()}; fill the gap or resample to one step"
        raise IrregularSteps(uneven.row, f"{said}: {FILL}")
    return grid


def _step_of_all(steps: NDArray[np.int64], likely: list[int]) -> int | None:
    """Return the commonest step, or else the shortest, of which all others are multiples."""
    return next((step for step in (*likely[:1], *sorted(likely)[:1]) if not (steps % step).any()), None)


def _are_business_days(grid: Grid) -> bool:
    return grid.freq == "D" and bool(np.is_busday(grid.dates.astype("datetime64[D]")).all())


def _shown(date: np.datetime64) -> str:
    return str(date).replace("T", " ").removesuffix(" 00:00:00")

"""Daylight saving in the time stamps of a local clock: an hour skipped, one shown twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from nas_system.space.time_steps import SECONDS

Dates = NDArray[np.datetime64]

HOUR = SECONDS["h"]


@dataclass(frozen=True)
class Zone:
    """When the clocks of a region change: `(month, which Sunday, hour)` skipped and shown twice.

    Sundays are counted from 1, and -1 is the last; the hour is the one that is skipped, or shown twice.
    """

    place: str
    name: str
    """In the time zone database."""
    forward: tuple[int, int, int]
    back: tuple[int, int, int]


ZONES = (
    Zone("central Europe", "Europe/Berlin", (3, -1, 2), (10, -1, 2)),
    Zone("Britain", "Europe/London", (3, -1, 1), (10, -1, 1)),
    Zone("eastern Europe", "Europe/Helsinki", (3, -1, 3), (10, -1, 3)),
    Zone("North America", "America/New_York", (3, 2, 2), (11, 1, 1)),
    Zone("south-eastern Australia", "Australia/Sydney", (10, 1, 2), (4, 1, 2)),
    Zone("New Zealand", "Pacific/Auckland", (9, -1, 2), (4, 1, 2)),
)


@dataclass(frozen=True)
class ClockChange:
    """The first change of the clock that the time stamps show; `row` is the row after it."""

    row: int
    zone: Zone
    back: bool

    @property
    def advice(self) -> str:
        """Say what the rows show, and what to do without losing an hour of data."""
        shown = "an hour comes twice" if self.back else "an hour is skipped"
        return (
            f"{shown}, as local time with daylight saving does in {self.zone.place}: no row is wrong, so "
            "delete none; write every time stamp with its offset from UTC, or all in UTC (in pandas: "
            f".tz_localize({self.zone.name!r}, ambiguous='infer'))"
        )


def clock_change(dates: Dates, step: int) -> ClockChange | None:
    """Return the first uneven step, if it is a change of the clock; `step` is the usual one in seconds.

    None where the first uneven step is something else, or the steps are longer than an hour.
    """
    if not 0 < step <= HOUR:
        return None
    steps = np.diff(dates.astype(np.int64))
    uneven = np.flatnonzero(steps != step)
    if not uneven.size:
        return None
    row = int(uneven[0]) + 1
    jump = int(steps[row - 1]) - step
    if abs(jump) != HOUR:
        return None
    # What the clock would have shown: the hour skipped, or shown again.
    due = (dates[row - 1] + np.timedelta64(step, "s")).astype(datetime)
    hour = due if jump > 0 else due - timedelta(seconds=HOUR)
    for zone in ZONES:
        month, sunday, clock = zone.forward if jump > 0 else zone.back
        if (hour.month, hour.hour) == (month, clock) and hour.date() == _sunday(hour.year, month, sunday):
            return ClockChange(row, zone, back=jump < 0)
    return None


def _sunday(year: int, month: int, number: int) -> date:
    if number > 0:
        first = date(year, month, 1)
        return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() + 1) % 7)

"""Time features: clock and calendar of each row, as numbers a model can read.

Two kinds: continuous features in [-0.5, 0.5], coarser than the step of the series (Alexandrov et
al. 2020, "GluonTS", JMLR 21(116)), and whole calendar numbers for embedding tables. Both are known
for the future as well as for the past, so reading them ahead is no look-ahead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.space.families import TimeMarks

Dates = NDArray[np.datetime64]
Numbers = NDArray[np.int64]

EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0.
QUARTER_HOUR = 15


def _count(dates: Dates, unit: str) -> Numbers:
    return dates.astype(f"datetime64[{unit}]").astype(np.int64)


def second(dates: Dates) -> Numbers:
    """0..59"""
    return _count(dates, "s") % 60


def minute(dates: Dates) -> Numbers:
    """0..59"""
    return _count(dates, "m") % 60


def hour(dates: Dates) -> Numbers:
    """0..23"""
    return _count(dates, "h") % 24


def weekday(dates: Dates) -> Numbers:
    """0 (Monday) .. 6"""
    return (_count(dates, "D") + EPOCH_WEEKDAY) % 7


def day(dates: Dates) -> Numbers:
    """1..31"""
    first = dates.astype("datetime64[M]").astype("datetime64[D]")
    return _count(dates, "D") - first.astype(np.int64) + 1


def yearday(dates: Dates) -> Numbers:
    """1..366"""
    first = dates.astype("datetime64[Y]").astype("datetime64[D]")
    return _count(dates, "D") - first.astype(np.int64) + 1


def week(dates: Dates) -> Numbers:
    """1..53, ISO 8601: the week belongs to the year that holds its Thursday."""
    thursday: Dates = dates.astype("datetime64[D]") + (3 - weekday(dates)).astype("timedelta64[D]")
    return (yearday(thursday) - 1) // 7 + 1


def month(dates: Dates) -> Numbers:
    """1..12"""
    return _count(dates, "M") % 12 + 1


Feature = tuple[Callable[[Dates], Numbers], int, int]
"""A calendar function with its lowest value and the span above it."""

SECOND: Feature = (second, 0, 59)
MINUTE: Feature = (minute, 0, 59)
HOUR: Feature = (hour, 0, 23)
WEEKDAY: Feature = (weekday, 0, 6)
DAY: Feature = (day, 1, 30)
YEARDAY: Feature = (yearday, 1, 365)
WEEK: Feature = (week, 1, 52)
MONTH: Feature = (month, 1, 11)

CONTINUOUS: dict[str, tuple[Feature, ...]] = {
    "s": (SECOND, MINUTE, HOUR, WEEKDAY, DAY, YEARDAY),
    "min": (MINUTE, HOUR, WEEKDAY, DAY, YEARDAY),
    "h": (HOUR, WEEKDAY, DAY, YEARDAY),
    "D": (WEEKDAY, DAY, YEARDAY),
    "W": (DAY, WEEK),
    "MS": (MONTH,),
}
"""By the unit of the series' step."""

SUB_HOURLY = ("s", "min")


def unit_of(freq: str) -> str:
    """Return the unit of a step: `min` of `15min`."""
    unit = re.sub(r"^\d+", "", freq)
    if unit not in CONTINUOUS:
        raise ValueError(f"unknown frequency {freq!r}; the units are {', '.join(CONTINUOUS)}")
    return unit


def continuous(dates: Dates, freq: str) -> NDArray[np.float32]:
    """Return (rows, features) in [-0.5, 0.5]; hourly: hour, weekday, day of month, day of year."""
    columns = [(number(dates) - low) / span - 0.5 for number, low, span in CONTINUOUS[unit_of(freq)]]
    return np.stack(columns, axis=1).astype(np.float32)


def calendar(dates: Dates, freq: str) -> NDArray[np.int64]:
    """Return (rows, 4 or 5): month, day, weekday, hour, and below an hour the quarter of the hour."""
    columns = [month(dates), day(dates), weekday(dates), hour(dates)]
    if unit_of(freq) in SUB_HOURLY:
        columns.append(minute(dates) // QUARTER_HOUR)
    return np.stack(columns, axis=1)


def marks(dates: Dates, freq: str, kind: TimeMarks) -> NDArray[Any] | None:
    """Return the features of a family's `time_marks`; None for a family that reads none."""
    if kind == "none":
        return None
    return continuous(dates, freq) if kind == "continuous" else calendar(dates, freq)


def marks_of(dates: Dates, freq: str, kind: TimeMarks, known: NDArray[Any]) -> NDArray[Any] | None:
    """Return what a family reads of steps that may be in the future, (rows, marks): time features, and then
    the columns whose future is known, `known` (rows, columns), already scaled. None without any."""
    stamps = marks(dates, freq, kind)
    if not known.shape[1]:
        return stamps
    rows = known.astype(np.float32)
    return rows if stamps is None else np.concatenate([stamps.astype(np.float32), rows], axis=1)


def n_marks(freq: str, kind: TimeMarks) -> int:
    """Return the number of columns that `marks` returns."""
    if kind == "none":
        return 0
    if kind == "continuous":
        return len(CONTINUOUS[unit_of(freq)])
    return 5 if unit_of(freq) in SUB_HOURLY else 4

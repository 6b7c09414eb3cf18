"""Time stamps that are bare numbers: years, `20210131`, counts since 1970, days of Excel."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.spellings import TextColumn, WrongStamp
from nas_system.space.time_steps import SECONDS

Dates = NDArray[np.datetime64]

DIGITS = re.compile(r"\d+", re.ASCII)

EPOCHS = (
    ("seconds", 1, 10**8, 10**10),
    ("milliseconds", 10**3, 10**11, 10**13),
    ("microseconds", 10**6, 10**14, 10**16),
    ("nanoseconds", 10**9, 10**17, 10**19),
)
"""Counts since 1970: the unit, how many make a second, and what all lie between (1973 to 2286)."""
EXCEL_ZERO = np.datetime64("1899-12-30T00:00:00", "s")
"""Day 0 of Excel's count, moved by the leap day that 1900 did not have."""
EXCEL_DAYS = (10_000, 100_000)
"""1927 to 2173."""
TIME_NAMES = re.compile(
    r"date|datum|time|tag|day|zeit|fecha|period|stamp|year|jahr|month|week|^ds$", re.IGNORECASE
)
"""Names of a column that holds times: whole numbers such as 2021 and 44197 could be anything else."""
YEARS = (1500, 2300)
WRITTEN_YEARS = (1900, 2100)
"""What the year lies in where a number is a date written without marks; else it is a count."""
MINUTES_A_DAY = 1440
NEAR_A_MINUTE = 0.1
"""Minutes: Excel writes a time of day as a fraction with a few digits."""


@dataclass(frozen=True, eq=False)
class Counted:
    """Times, (rows,), whether their clock is UTC, and what the numbers turned out to be."""

    dates: Dates
    in_utc: bool
    said: str


def counted(cells: TextColumn, column: str) -> Counted | None:
    """Return the times that the numbers of a column mean; None where they could be anything.

    Counts since 1970 are in UTC. Raises WrongStamp for a fraction of a second.
    """
    if all(map(DIGITS.fullmatch, cells)):
        return (
            _written(cells, column) or _since_1970(cells.astype(np.float64), cells) or _excel(cells, column)
        )
    numbers = cells.astype(np.float64)
    return _since_1970(numbers, cells) or _excel(cells, column)


def _written(cells: TextColumn, column: str) -> Counted | None:
    """Read `2021`, `202101`, `20210131`, `202101311400` and `20210131140000`."""
    lengths = np.unique(np.strings.str_len(cells))
    if len(lengths) != 1 or lengths[0] not in (4, 6, 8, 12, 14):
        return None
    if lengths[0] == 4 and not TIME_NAMES.search(column):
        return None
    length, numbers = int(lengths[0]), cells.astype(np.int64)
    low, high = YEARS if length == 4 else WRITTEN_YEARS
    digits = numbers * 10 ** (14 - length)
    year, rest = np.divmod(digits, 10**10)
    month, rest = np.divmod(rest, 10**8)
    day, rest = np.divmod(rest, 10**6)
    hour, rest = np.divmod(rest, 10**4)
    minute, second = np.divmod(rest, 100)
    month, day = np.where(length < 6, 1, month), np.where(length < 8, 1, day)
    if not ((year >= low) & (year < high) & (month >= 1) & (month <= 12)).all():
        return None
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days_in_month = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    if not ((day >= 1) & (day <= days_in_month) & (hour < 24) & (minute < 60) & (second < 60)).all():
        return None
    seconds = ((day - 1) * SECONDS["D"] + hour * 3600 + minute * 60 + second).astype("timedelta64[s]")
    what = {4: "years", 6: "years and months"}.get(length, "dates without marks")
    return Counted(months.astype("datetime64[s]") + seconds, False, f"time stamps are {what}")


def _since_1970(numbers: NDArray[np.float64], cells: TextColumn) -> Counted | None:
    for unit, per_second, low, high in EPOCHS:
        if not ((numbers >= low) & (numbers < high)).all():
            continue
        # As integers where they are: a nanosecond is lost in a float.
        whole = all(map(DIGITS.fullmatch, cells))
        exact = cells.astype(np.int64) if whole else numbers
        seconds, rest = np.divmod(exact, per_second)
        if rest.any():
            row = int(np.flatnonzero(rest)[0])
            raise WrongStamp(
                row,
                f"{str(cells[row])!r}, {unit} since 1970, has a fraction of a second; steps are whole "
                "seconds",
            )
        dates = seconds.astype(np.int64).astype("datetime64[s]")
        return Counted(dates, True, f"time stamps are {unit} since 1970, in UTC")
    return None


def _excel(cells: TextColumn, column: str) -> Counted | None:
    numbers = cells.astype(np.float64)
    low, high = EXCEL_DAYS
    if not ((numbers >= low) & (numbers < high)).all():
        return None
    if not (numbers % 1).any() and not TIME_NAMES.search(column):
        return None
    minutes = numbers * MINUTES_A_DAY
    if (np.abs(minutes - np.round(minutes)) < NEAR_A_MINUTE).all():
        seconds = np.round(minutes).astype(np.int64) * 60
    else:
        seconds = np.round(numbers * SECONDS["D"]).astype(np.int64)
    return Counted(
        EXCEL_ZERO + seconds.astype("timedelta64[s]"), False, "time stamps are days as Excel counts"
    )

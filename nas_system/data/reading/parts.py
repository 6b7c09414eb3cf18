"""Time stamps of one spelling taken apart into numbers, a row each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.spellings import TextColumn, WrongStamp, month_of

Numbers = NDArray[np.integer[Any]]

NO_ZONE = 10**6
"""In place of an offset from UTC in minutes."""
NUMBERS = ("first", "second", "third", "first_length", "third_length", "mark", "H", "M", "S", "zone", "clock")
HALVES = {"a": 1, "p": 2}
OF_LAST_CENTURY = 69
"""Of two digits for a year: from here on they are of the last century, as `strptime` reads them."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The numbers of a column of time stamps."""

    pattern: re.Pattern[str]
    numbers: Numbers
    """(rows, numbers), as `NUMBERS` names them"""
    last: str
    """The last cell."""

    def __getitem__(self, name: str) -> Numbers:
        return self.numbers[:, NUMBERS.index(name)]

    def seconds_of_day(self) -> tuple[Numbers, NDArray[np.bool_]]:
        """Return the seconds since midnight, and which of them there are: 24:00 is the next midnight."""
        hours, minutes, seconds, half = self["H"], self["M"], self["S"], self["clock"]
        right = (minutes < 60) & (seconds < 60)
        right &= np.where(half > 0, (hours >= 1) & (hours <= 12), hours < 24) | (
            (half == 0) & (hours == 24) & (minutes == 0) & (seconds == 0)
        )
        hours = np.where(half > 0, hours % 12 + 12 * (half == HALVES["p"]), hours)
        return hours * 3600 + minutes * 60 + seconds, right

    def offset_seconds(self) -> Numbers | None:
        """Return the offsets from UTC; None for none. Raises WrongStamp where some rows have one."""
        minutes = self["zone"]
        without = minutes == NO_ZONE
        if without.all():
            return None
        if without.any():
            row = int(np.flatnonzero(without != without[0])[0])
            raise WrongStamp(
                row, "some time stamps have an offset from UTC and some have none; write all alike"
            )
        return minutes * 60

    def last_zone(self) -> str:
        """Return the offset of the last row, as `+02:00` or `Z`."""
        return "Z" if self.last.rstrip()[-1].isalpha() else spelled_offset(int(self["zone"][-1]))


def spelled_offset(minutes: int) -> str:
    """Return an offset from UTC as ISO 8601 writes it: `+02:00`."""
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def parts_of(pattern: re.Pattern[str], cells: TextColumn) -> Parts:
    """Take a column apart. Raises WrongStamp for the first row that is written otherwise than row 0."""
    flat = chain.from_iterable(_numbers(pattern, cells))
    rows = np.fromiter(flat, np.int32, len(cells) * len(NUMBERS)).reshape(len(cells), len(NUMBERS))
    parts = Parts(pattern, rows, str(cells[-1]))
    other = parts["mark"] != parts["mark"][0]
    for name in ("first_length", "third_length"):
        other |= (parts[name] == 4) != (parts[name][0] == 4)
    if other.any():
        row = int(other.argmax())
        raise WrongStamp(row, _unlike(cells, row))
    return parts


def _numbers(pattern: re.Pattern[str], cells: TextColumn) -> Iterator[tuple[int, ...]]:
    in_order = "first" not in pattern.groupindex
    for row, cell in enumerate(cells):
        match = pattern.fullmatch(cell.strip())
        if match is None:
            raise WrongStamp(row, _unlike(cells, row))
        found = match.groupdict()
        if (found.get("fraction") or "").strip("0"):
            raise WrongStamp(row, f"{str(cell)!r} has a fraction of a second; steps are whole seconds")
        if in_order:
            first, second, third = _year_month_day(found)
            lengths, mark = (4, 2), 0
        else:
            texts = found["first"], found["second"], found["third"]
            first, second, third = map(int, texts)
            lengths, mark = (len(texts[0]), len(texts[2])), ord(found["mark"])
        hours, minutes, seconds = (int(found.get(name) or 0) for name in "HMS")
        half = HALVES.get((found.get("half") or "").lower(), 0)
        zone = _zone_minutes(found.get("zone"))
        yield first, second, third, *lengths, mark, hours, minutes, seconds, zone, half


def _unlike(cells: TextColumn, row: int) -> str:
    return (
        f"{str(cells[row])!r} is not a time stamp written as the first one is, {str(cells[0])!r}; write all "
        "alike"
    )


def _year_month_day(found: dict[str, str | None]) -> tuple[int, int, int]:
    """Return what a spelling with a clear order says; month 0 for what there is not."""
    year = int(found["y"] or 0)
    if len(found["y"] or "") == 2:
        year += 1900 if year >= OF_LAST_CENTURY else 2000
    if found.get("q"):
        return year, 3 * int(found["q"] or 0) - 2, 1
    if found.get("w"):
        try:
            monday = date.fromisocalendar(year, int(found["w"] or 0), 1)
        except ValueError:
            return year, 0, 1
        return monday.year, monday.month, monday.day
    month = month_of(found["name"] or "") if "name" in found else int(found.get("m") or 1)
    return year, month, int(found.get("d") or 1)


def _zone_minutes(zone: str | None) -> int:
    if zone is None:
        return NO_ZONE
    if zone[0].isalpha():
        return 0
    digits = zone[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return -minutes if zone[0] == "-" else minutes

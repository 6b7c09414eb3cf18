"""Time stamps of one spelling taken apart into numbers, a row each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.spellings import TextColumn, WrongStamp, month_of

Numbers = NDArray[np.integer[Any]]
Codes = NDArray[np.uint32]

NO_ZONE = 2**15 - 1
"""In place of an offset from UTC in minutes."""
NUMBERS = np.dtype(
    [
        ("first", np.int16),
        ("second", np.int8),
        ("third", np.int16),
        ("first_length", np.int8),
        ("third_length", np.int8),
        ("mark", np.int8),
        ("H", np.int8),
        ("M", np.int8),
        ("S", np.int8),
        ("zone", np.int16),
        ("clock", np.int8),
    ]
)
"""A row in 14 bytes: as many numbers of Python would fill the memory."""
HALVES = {"a": 1, "p": 2}
OF_LAST_CENTURY = 69
"""Of two digits for a year: from here on they are of the last century, as `strptime` reads them."""
ROWS_AT_A_TIME = 20_000
CHARACTERS_AT_A_TIME = 400_000
END = "."
"""Set after each cell, where numpy would drop a zero byte."""
ZERO, NINE = ord("0"), ord("9")


@dataclass(frozen=True, eq=False)
class Parts:
    """The numbers of a column of time stamps."""

    pattern: re.Pattern[str]
    numbers: NDArray[np.void]
    """(rows,) of `NUMBERS`"""
    last: str
    """The last cell."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, name: str) -> Numbers:
        return self.numbers[name].astype(np.int64)

    def of(self, row: int, name: str) -> int:
        """Return one number of a row."""
        return int(self.numbers[name][row])

    def between(self, rows: slice) -> Parts:
        """Return the parts of some rows."""
        return replace(self, numbers=self.numbers[rows])

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


def slices_of(rows: int) -> Iterator[slice]:
    """Yield the rows some at a time: what is worked out of all of them together fills the memory."""
    return (slice(start, start + ROWS_AT_A_TIME) for start in range(0, rows, ROWS_AT_A_TIME))


def parts_of(pattern: re.Pattern[str], cells: TextColumn) -> Parts:
    """Take a column apart. Raises WrongStamp for the first row that is written otherwise than row 0."""
    parts = Parts(pattern, np.zeros(len(cells), NUMBERS), str(cells[-1]))
    start = 0
    while start < len(cells):
        marked = np.strings.add(cells[start : start + ROWS_AT_A_TIME], END)
        longest = int(np.strings.str_len(marked).max())
        marked = marked[: max(1, CHARACTERS_AT_A_TIME // longest)]
        codes = marked.astype(f"U{longest}").view(np.uint32).reshape(len(marked), longest)
        rows = slice(start, start + len(marked))
        wrong = _read(pattern, cells[rows], codes, parts.numbers[rows])
        if wrong is not None:
            _refuse(pattern, cells, start + wrong)
        start = rows.stop
    numbers = parts.numbers
    other = numbers["mark"] != numbers["mark"][0]
    for name in ("first_length", "third_length"):
        other |= (numbers[name] == 4) != (numbers[name][0] == 4)
    if other.any():
        row = int(other.argmax())
        raise WrongStamp(row, _unlike(cells, row))
    return parts


def _read(pattern: re.Pattern[str], cells: TextColumn, codes: Codes, numbers: NDArray[np.void]) -> int | None:
    """Set the `numbers` of some cells, whose characters are (rows, longest); return the first wrong row.

    The pattern is matched with one cell of each layout: where cells differ in their digits alone, the same
    digits mean the same.
    """
    digits = (codes >= ZERO) & (codes <= NINE)
    # Which quarters and weeks there are depends on the digits.
    layouts = codes if {"q", "w"} & pattern.groupindex.keys() else np.where(digits, np.uint32(ZERO), codes)
    wrong: list[int] = []
    for rows in _alike(layouts):
        cell = str(cells[rows[0]])
        match = pattern.fullmatch(cell.strip())
        if match is None:
            wrong.append(int(rows[0]))
            continue
        own = codes if len(rows) == len(codes) else codes[rows]
        layout = _Layout(match, len(cell) - len(cell.lstrip()), own)
        layout.set_numbers(numbers, rows)
        if (fractions := layout.fractions()).any():
            wrong.append(int(rows[fractions.argmax()]))
    return min(wrong, default=None)


def _alike(layouts: Codes) -> list[NDArray[np.int64]]:
    """Return the rows of each layout, in their order."""
    if (layouts == layouts[0]).all():
        return [np.arange(len(layouts))]
    texts = np.ascontiguousarray(layouts).view(f"U{layouts.shape[1]}").ravel()
    _, number, counts = np.unique(texts, return_inverse=True, return_counts=True)
    return np.split(np.argsort(number, kind="stable"), np.cumsum(counts)[:-1])


@dataclass(frozen=True, eq=False)
class _Layout:
    """Cells that differ in their digits alone."""

    match: re.Match[str]
    """The match with one of them, without the blanks around it."""
    before: int
    """How many blanks stand before it."""
    codes: Codes
    """(rows, longest) characters."""

    def text(self, name: str) -> str:
        """Return what one of the cells has; nothing for what the spelling has not."""
        return self.match.groupdict().get(name) or ""

    def number(self, name: str) -> Numbers | int:
        """Return (rows,) numbers; 0 for what is not there."""
        return self._whole(*self.match.span(name)) if self.text(name) else 0

    def fractions(self) -> NDArray[np.bool_]:
        """Return, (rows,), which cells have a part of a second."""
        if not self.text("fraction"):
            return np.zeros(len(self.codes), np.bool_)
        start, stop = self.match.span("fraction")
        return (self.codes[:, self.before + start : self.before + stop] != ZERO).any(axis=1)

    def set_numbers(self, numbers: NDArray[np.void], rows: NDArray[np.int64]) -> None:
        """Set these rows of the numbers of all cells."""
        if self.text("first"):
            found = {name: self.number(name) for name in ("first", "second", "third")}
            found |= {f"{name}_length": len(self.text(name)) for name in ("first", "third")}
            found["mark"] = ord(self.text("mark"))
        else:
            found = dict(zip(("first", "second", "third"), self._year_month_day(), strict=True))
            found |= {"first_length": 4, "third_length": 2}
        found |= {name: self.number(name) for name in "HMS"}
        found |= {"zone": self._zone_minutes(), "clock": HALVES.get(self.text("half").lower(), 0)}
        for name, values in found.items():
            numbers[name][rows] = values

    def _whole(self, start: int, stop: int) -> Numbers:
        number = np.zeros(len(self.codes), np.int64)
        for place in range(self.before + start, self.before + stop):
            number = 10 * number + self.codes[:, place] - ZERO
        return number

    def _year_month_day(self) -> tuple[Numbers | int, Numbers | int, Numbers | int]:
        """Return what a spelling with a clear order says; month 0 for what there is not."""
        year = self.number("y")
        if len(self.text("y")) == 2:
            year = year + np.where(np.asarray(year) >= OF_LAST_CENTURY, 1900, 2000)
        if quarter := self.text("q"):
            return year, 3 * int(quarter) - 2, 1
        if week := self.text("w"):
            try:
                monday = date.fromisocalendar(int(self.text("y")), int(week), 1)
            except ValueError:
                return year, 0, 1
            return monday.year, monday.month, monday.day
        month = self.number("m") if self.text("m") else 1
        if name := self.text("name"):
            month = month_of(name)
        return year, month, self.number("d") if self.text("d") else 1

    def _zone_minutes(self) -> Numbers | int:
        zone = self.text("zone")
        if not zone:
            return NO_ZONE
        if zone[0].isalpha():
            return 0
        start, stop = self.match.span("zone")
        minutes = 60 * self._whole(start + 1, start + 3)
        if len(zone) > len("+02"):
            minutes = minutes + self._whole(stop - 2, stop)
        return -minutes if zone[0] == "-" else minutes


def _refuse(pattern: re.Pattern[str], cells: TextColumn, row: int) -> NoReturn:
    if pattern.fullmatch(str(cells[row]).strip()) is None:
        raise WrongStamp(row, _unlike(cells, row))
    raise WrongStamp(row, f"{str(cells[row])!r} has a fraction of a second; steps are whole seconds")


def _unlike(cells: TextColumn, row: int) -> str:
    return (
        f"{str(cells[row])!r} is not a time stamp written as the first one is, {str(cells[0])!r}; write all "
        "alike"
    )

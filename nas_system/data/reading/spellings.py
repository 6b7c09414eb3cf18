"""How people write dates and times, as patterns: what each says of year, month, day and the clock."""

from __future__ import annotations

import re
from typing import Any

from numpy.typing import NDArray

from nas_system.space.time_steps import TIME_STAMP

WITH_EXTRAS = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(\.\d+)?)?(?:Z|[+-](?:0\d|1[0-4]):?[0-5]\d)?", re.ASCII
)
"""A time of day, perhaps with a fraction of a second (group 1) or an offset from UTC."""

COUNT = re.compile(r"\d+(?:\.\d*)?(?:[eE]\+?\d+)?", re.ASCII)

TextColumn = NDArray[Any]
"""(rows,) of numpy's `StringDType`, which takes a third of the memory of as many Python strings."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
"""The first letters of the English months; those of other languages need `--date-format`."""

_CLOCK = (
    r"(?P<H>\d{1,2}):(?P<M>\d\d)(?::(?P<S>\d\d)(?:[.,](?P<fraction>\d+))?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_ZONE = r"(?: ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?"
_TIME = rf"(?:(?:T|,? +){_CLOCK}{_ZONE})?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? )?"
_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"

HOUR_NAMES = {"hour", "hr", "stunde", "heure", "hora"}
LAST_HOUR = 24
TIME_OF_DAY = re.compile(_CLOCK, re.ASCII)


class WrongStamp(ValueError):
    """A time stamp that cannot be read; `row` (from 0) is where it stands."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


SPELLINGS = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"{_WEEKDAY}(?P<first>\d\d?|\d{{4}})(?P<mark>[./-])(?P<second>\d\d?)(?P=mark)(?P<third>\d\d?|\d{{4}}){_TIME}",
        rf"{_WEEKDAY}(?P<d>\d\d?)(?:st|nd|rd|th)?[-./ ]{_NAME}[-./, ]+(?P<y>\d{{4}}|\d\d){_TIME}",
        rf"{_WEEKDAY}{_NAME}[-./ ](?P<d>\d\d?)(?:st|nd|rd|th)?,? (?P<y>\d{{4}}){_TIME}",
        rf"{_NAME}[-./ ](?P<y>\d{{4}})",
        rf"(?P<y>\d{{4}})[-./ ]{_NAME}",
        r"(?P<y>\d{4})[-/ ]?Q(?P<q>[1-4])",
        r"Q(?P<q>[1-4])[-/ ]?(?P<y>\d{4})",
        r"(?P<y>\d{4})-?W(?P<w>\d\d)",
        r"(?P<y>\d{4})[-/.M](?P<m>\d\d?)",
        r"(?P<m>\d\d?)[-/.](?P<y>\d{4})",
        r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)T(?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d)?(?P<zone>Z)?",
        r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d) (?P<H>\d\d):?(?P<M>\d\d)(?::?(?P<S>\d\d))?",
    )
)
"""Date and time as written. `first`, `second` and `third` are three numbers whose order is to be told."""


def is_iso(cell: str) -> bool:
    """Return whether a cell is a month, a day or a time as ISO 8601 writes them, with a blank or a `T`."""
    return bool(WITH_EXTRAS.fullmatch(cell) or TIME_STAMP.fullmatch(cell))


def is_count(cell: str) -> bool:
    """Return whether a cell is a number without a sign."""
    return COUNT.fullmatch(cell) is not None


def is_stamp(cell: str) -> bool:
    """Return whether a cell is a date, perhaps with a time of day, in any spelling but a bare number."""
    return is_iso(cell) or (spelling_of(cell) is not None and not is_count(cell))


def spelling_of(cell: str) -> re.Pattern[str] | None:
    """Return how a time stamp is written; None for what is none."""
    return next((pattern for pattern in SPELLINGS if _is_date(pattern, cell)), None)


def month_of(name: str) -> int:
    """Return 1..12, or 0 for what is no English month."""
    short = name[:3].lower()
    return MONTHS.index(short) + 1 if short in MONTHS else 0


def _is_date(pattern: re.Pattern[str], cell: str) -> bool:
    match = pattern.fullmatch(cell.strip())
    return match is not None and ("name" not in pattern.groupindex or month_of(match["name"]) > 0)


def format_of(match: re.Match[str], order: str) -> str:
    """Return the `--date-format` of three numbers: `%d/%m/%Y %H:%M` where the day comes `first`."""
    parts, mark = match.groupdict(), match["mark"]
    numbers = (match["first"], match["second"], match["third"])
    names = [
        "%" + (part if part in "dm" else "Y" if len(number) == 4 else "y")
        for part, number in zip(order, numbers, strict=True)
    ]
    text = mark.join(names)
    if parts["H"] is None:
        return text
    hours = "%I:%M" if parts["half"] else "%H:%M"
    seconds = ":%S" if parts["S"] else ""
    return f"{text} {hours}{seconds}{' %p' if parts['half'] else ''}"


def are_hours(cells: TextColumn) -> bool:
    """Return whether all cells are hours of a day, 0 to 23 or 1 to 24."""
    return all(cell.isdecimal() and int(cell) <= LAST_HOUR for cell in cells)

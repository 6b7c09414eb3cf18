"""Time stamps and the steps between them as text: `2016-07-01 14:00`, `15min`, `h`, `D`, `MS`."""

from __future__ import annotations

import re
from datetime import datetime

TIME_STAMP = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d:\d\d(:\d\d)?)?)?", re.ASCII)
"""A month, a day, a minute or a second."""

SECONDS = {"W": 7 * 86_400, "D": 86_400, "h": 3_600, "min": 60, "s": 1}
"""Seconds of each unit, coarsest first; the letters are the ones pandas uses."""

MONTHS = {
    **dict.fromkeys(("M", "MS", "ME"), 1),
    **dict.fromkeys(("Q", "QS", "QE"), 3),
    **dict.fromkeys(("Y", "YS", "YE", "A", "AS"), 12),
}
"""Months of each unit. Whether rows are stamped at a month's start or end makes no difference here."""

_SPELLINGS = {unit.lower(): unit for unit in SECONDS} | {"t": "min"}
_STEP = re.compile(r"(\d{0,9})\s*([A-Za-z]+)(-[A-Z]{3})?", re.ASCII)
_REFUSED = {
    "m": "could be minutes or months; write min or MS",
    "B": "skips weekends, but the steps of a series are all of one length; write D, and --missing ffill "
    "fills the days between",
}


def step_of_seconds(seconds: int) -> str:
    """The shortest spelling: 3600 is `h`, 900 is `15min`, 1209600 is `2W`."""
    unit = next(unit for unit, size in SECONDS.items() if seconds % size == 0)
    return _spelled(seconds // SECONDS[unit], unit)


def step_of_months(months: int) -> str:
    """1 is `MS`, 3 is `3MS`."""
    return _spelled(months, "MS")


def rows_in_a_week(step: str | None) -> int | None:
    """Return how many rows a week has.

    None for a step that is unknown, longer, or counted in seconds: what is read so often has other rhythms.
    """
    match = _STEP.fullmatch(step or "")
    if match is None or match[2] not in SECONDS or match[2] == "s":
        return None
    return SECONDS["W"] // (int(match[1] or 1) * SECONDS[match[2]]) or None


def normalised_step(text: str) -> str:
    """One spelling for what pandas and people write in several: `H`, `1h` and `60min` are `h`; `QS` is `3MS`.

    Raises ValueError for what is no step.
    """
    match = _STEP.fullmatch(text.strip())
    count, unit, anchor = match.groups() if match else ("", "", None)
    if unit in _REFUSED:
        raise ValueError(f"the step {text!r} {_REFUSED[unit]}")
    number = int(count or 1)
    # Letters alone cannot tell minutes from months, so only the short units are read in either case.
    if unit in MONTHS and number and (anchor is None or MONTHS[unit] > 1):
        return step_of_months(number * MONTHS[unit])
    unit = _SPELLINGS.get(unit.lower(), "")
    if not unit or not number or (anchor is not None and unit != "W"):
        raise ValueError(
            f"the step {text!r} is not known; write a unit (s, min, h, D, W or MS for months), or a whole "
            "number and a unit, for example 15min"
        )
    return step_of_seconds(number * SECONDS[unit])


def normalised_date(text: str) -> str:
    """A date, with the time of day if there is one: `2017-07` and `2017-07-01 00:00` are `2017-07-01`.

    Raises ValueError for what is no date.
    """
    spelled = text.strip()
    if not TIME_STAMP.fullmatch(spelled):
        raise ValueError(f"{text!r} is no date; write it as 2017-07-01 or 2017-07-01 14:00")
    try:
        date = datetime.fromisoformat(spelled if len(spelled) > len("2017-07") else f"{spelled}-01")
    except ValueError:
        raise ValueError(f"there is no such date as {text!r}") from None
    return date.isoformat(sep=" ").removesuffix(" 00:00:00")


def checked_format(text: str) -> str:
    """Return a way to write time stamps. Raises ValueError for what `strptime` cannot read back."""
    sample = datetime(2021, 10, 25, 13, 47, 59)
    try:
        read = datetime.strptime(sample.strftime(text), text)
    except ValueError:
        read = None
    if read is None or (read.year, read.month) != (sample.year, sample.month):
        raise ValueError(
            f"the date format {text!r} does not say year and month as strptime reads them; write, for "
            "example, %d/%m/%Y %H:%M"
        )
    return text


def _spelled(count: int, unit: str) -> str:
    return unit if count == 1 else f"{count}{unit}"

"""Time stamps of any spelling as times: ISO 8601, days and months in either order, counts since 1970."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.counts import counted
from nas_system.data.reading.orders import are_even, ordered
from nas_system.data.reading.parts import Parts, parts_of, spelled_offset
from nas_system.data.reading.spellings import (
    WITH_EXTRAS,
    TextColumn,
    WrongStamp,
    is_count,
    is_iso,
    is_stamp,
    spelling_of,
)
from nas_system.data.series import Clock
from nas_system.space.time_steps import TIME_STAMP

Dates = NDArray[np.datetime64]

EARLIEST, LATEST = np.datetime64("0002-01-01"), np.datetime64("9999-01-01")
"""Between these a time is also one in UTC."""
EXAMPLE = "write it as 2016-07-01 14:00:00, or say how it is written with --date-format"


@dataclass(frozen=True, eq=False)
class Stamps:
    """The times of all rows, to the second."""

    dates: Dates
    """(rows,); in UTC where the file has offsets."""
    clock: Clock | None = None
    """That of the last row; None for one that the file leaves open."""
    said: tuple[str, ...] = ()
    """How they were read, where that was to be found out."""


@dataclass(frozen=True, eq=False)
class _Times:
    """Times as they are written."""

    dates: Dates
    """(rows,), on the clock that the file shows."""
    seconds: NDArray[np.integer[Any]] | None = None
    """(rows,): its offset from UTC; None for one that the file leaves open."""
    offset: str = ""
    """That of the last row, as `+02:00` or `Z`."""
    said: str = ""
    """How the order of day and month was found."""


def read_stamps(
    cells: TextColumn,
    column: str,
    date_format: str | None = None,
    *,
    series: Sequence[NDArray[np.int64]] | None = None,
    local: bool | None = None,
) -> Stamps:
    """Return the times that a column means; what is written in one row decides how all are read.

    `series` are the rows of each series, by default of one: where even steps decide what is meant, those of
    all series do. `local` keeps the times of a local clock, or counts in UTC; None for what is even.

    Raises WrongStamp for the first row that is written otherwise or names no time, and where the column does
    not tell the day from the month.
    """
    even = partial(are_even, series=[np.arange(len(cells))] if series is None else series)
    if date_format is not None:
        return _on_clock(_formatted(cells, date_format), even, local)
    if all(map(TIME_STAMP.fullmatch, cells)):
        with suppress(ValueError):  # then the loop of `_one_by_one` finds the row
            return Stamps(cells.astype("datetime64[s]"))
    if all(map(is_iso, cells)) and not any(cell[11:13] == "24" for cell in cells):
        return _on_clock(_in_parts(cells, even) or _one_by_one(cells), even, local)
    if all(map(is_count, cells)) and (read := counted(cells, column)) is not None:
        return Stamps(read.dates, Clock("Z", 0) if read.in_utc else None, (read.said,))
    spelling = spelling_of(cells[0])
    if spelling is None:
        raise WrongStamp(0, f"{str(cells[0])!r} is not a time stamp; {_advice(cells)}")
    times = _times_in(parts_of(spelling, cells), cells, even)
    stamps = _on_clock(times, even, local)
    return replace(stamps, said=(*filter(None, [times.said]), *stamps.said))


def _advice(cells: TextColumn) -> str:
    first, _, last = str(cells[0]).rpartition(" ")
    if last.isalpha() and is_stamp(first):
        return f"write the offset from UTC instead of {last}, as in 2016-07-01T14:00:00+02:00"
    if all(map(is_count, cells)) and counted(cells, "date") is not None:
        return f"if it counts days as Excel does, name the column date; else {EXAMPLE}"
    return EXAMPLE


def _in_parts(cells: TextColumn, even: Callable[[Dates], bool]) -> _Times | None:
    """Read stamps of ISO 8601 all at once; None where one is wrong, or they are not alike."""
    spelling = spelling_of(cells[0])
    with suppress(WrongStamp):
        if spelling is not None:
            times = _times_in(parts_of(spelling, cells), cells, even)
            inner = (times.dates >= EARLIEST) & (times.dates < LATEST)
            return times if inner.all() else None
    return None


def _times_in(parts: Parts, cells: TextColumn, even: Callable[[Dates], bool]) -> _Times:
    read = ordered(parts, cells, even)
    seconds = parts.offset_seconds()
    return _Times(read.dates, seconds, "" if seconds is None else parts.last_zone(), read.said)


def _one_by_one(cells: TextColumn) -> _Times:
    """Read stamps of ISO 8601; raise WrongStamp for the first that is wrong."""
    times, last = [], None
    for row, stamp in enumerate(cells):
        match = WITH_EXTRAS.fullmatch(stamp)
        if match and (match[1] or "").strip(".0"):
            raise WrongStamp(row, f"{stamp!r} has a fraction of a second; steps are whole seconds")
        try:
            time = datetime.fromisoformat(f"{stamp}-01" if len(stamp) == len("2016-07") else stamp)
            if time.tzinfo is not None:
                time.astimezone(UTC)  # year 0 is none
        except (ValueError, OverflowError):
            raise WrongStamp(row, f"there is no such time as {stamp!r}") from None
        if last is not None and (last.tzinfo is None) != (time.tzinfo is None):
            raise WrongStamp(
                row, "some time stamps have an offset from UTC and some have none; write all alike"
            )
        last = time
        times.append(time)
    return _times_of(times, "Z" if str(cells[-1]).endswith("Z") else None)


def _formatted(cells: TextColumn, date_format: str) -> _Times:
    times = []
    for row, cell in enumerate(cells):
        try:
            time = datetime.strptime(cell.strip(), date_format)
            times.append(time)
        except ValueError:
            raise WrongStamp(
                row, f"{str(cell)!r} is not written as --date-format (task.date_format) says: {date_format}"
            ) from None
        if time.microsecond:
            raise WrongStamp(row, f"{str(cell)!r} has a fraction of a second; steps are whole seconds")
    return _times_of(times, None)


def _times_of(times: Sequence[datetime], zulu: str | None) -> _Times:
    """Return times with their offsets, all or none."""
    local = np.array([time.replace(tzinfo=None) for time in times], dtype="datetime64[s]")
    offsets = [time.utcoffset() for time in times]
    if offsets[-1] is None:
        return _Times(local)
    seconds = np.array([(offset or timedelta()).total_seconds() for offset in offsets]).astype(np.int64)
    return _Times(local, seconds, zulu or spelled_offset(int(seconds[-1]) // 60))


def _on_clock(times: _Times, even: Callable[[Dates], bool], local: bool | None) -> Stamps:
    """Return the times in UTC, but local ones where only these are evenly spaced: days across a change of the
    clock are of 23 and 25 hours."""
    if times.seconds is None:
        return Stamps(times.dates)
    seconds = times.seconds
    utc = times.dates - seconds.astype("timedelta64[s]")
    if local is None:
        local = bool((seconds != seconds[0]).any()) and not even(utc) and even(times.dates)
    if local:
        said = ("the steps are even by the local clock, which is kept",)
        return Stamps(times.dates, Clock(times.offset, 0), said)
    return Stamps(utc, Clock(times.offset, int(seconds[-1])))

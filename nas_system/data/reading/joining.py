"""The column, or the columns, that hold the time stamps of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_system.data.reading.panel.keys import FLAG as SERIES_FLAG
from nas_system.data.reading.panel.keys import spelled_columns
from nas_system.data.reading.spellings import (
    HOUR_NAMES,
    TIME_OF_DAY,
    TextColumn,
    are_hours,
    is_count,
    is_iso,
    is_stamp,
)
from nas_system.data.reading.table import SHORTEST_SERIES, Table

NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
NAMELESS = re.compile(r"|Unnamed: \d+", re.IGNORECASE)
"""The name of an index that was written with a table."""
DATE_PARTS = ("year", "month", "day", "hour")


@dataclass(frozen=True, eq=False)
class TimeColumn:
    """The time stamps as text, with what else the table holds."""

    cells: TextColumn
    name: str
    rest: Table
    """The other columns."""
    said: tuple[str, ...] = ()


def time_column(table: Table, series_columns: Sequence[str] = ()) -> TimeColumn:
    """Return the time stamps: the first column, or a date joined with the time of day next to it.

    `series_columns` told series apart and are in the table no more.

    Raises ConfigError where the header is missing, or another column holds the time stamps.
    """
    said: tuple[str, ...] = ()
    if _counts_rows(table):
        table, said = table.without(0), ("the first column, without a name, counts the rows and is left out",)
    first, second = table.columns[:2]
    # With plain time stamps below it a column may have any name.
    plain = is_iso(first[0]) and not is_iso(table.header[0])
    if not plain and (is_stamp(table.header[0]) or all(map(is_count, table.header))):
        table.refuse_header("a header with the column names is missing")
    parts = [name.lower() for name in table.header[: len(DATE_PARTS)]]
    if parts[:2] == ["year", "month"] and not plain:
        named = sum(part == name for part, name in zip(parts, DATE_PARTS, strict=False))
        return _joined_parts(table, named, said)
    if ":" not in first[0] and all(map(TIME_OF_DAY.fullmatch, second)):
        return _joined(table, second, said)
    if table.header[1].lower() in HOUR_NAMES and first[0] == first[1] and are_hours(second):
        return _joined(table, np.strings.add(second, ":00"), said)
    if not is_stamp(first[0]):
        stamped = [
            name for name, cells in zip(table.header, table.columns, strict=True) if is_stamp(cells[0])
        ]
        if stamped:
            where = f"column {stamped[0]!r} holds them; make that the first"
            before = table.header[: table.header.index(stamped[0])]
            # Who has named what tells series apart has hardly left out a column of numbers.
            tells = not series_columns or not NUMBER.fullmatch(first[0])
            if tells and len(set(first)) * SHORTEST_SERIES <= len(first):
                where += _advice_for_series(before, series_columns)
            table.refuse(0, table.header[0], f"{str(first[0])!r} is not a time stamp, but {where}")
    return TimeColumn(first, table.header[0], table.without(0), said)


def _advice_for_series(before: Sequence[str], told: Sequence[str]) -> str:
    """Return what to do if the columns before the time stamps are whose they are."""
    tell = "tells" if len(before) == 1 else "tell"
    return (
        f", or, if {' and '.join(map(repr, before))} {tell} series apart, train one model on all with "
        f"{SERIES_FLAG} {spelled_columns([*told, *before])} (task.series_columns)"
    )


def _counts_rows(table: Table) -> bool:
    """Return whether the first column is the row number that some programs write before the time."""
    first = table.columns[0]
    if len(table.header) < 3 or not NAMELESS.fullmatch(table.header[0]) or first[0] not in ("0", "1"):
        return False
    rows = range(int(first[0]), int(first[0]) + len(first))
    return is_stamp(table.columns[1][0]) and all(
        cell == str(row) for cell, row in zip(first, rows, strict=True)
    )


def _joined(table: Table, clock: TextColumn, said: tuple[str, ...]) -> TimeColumn:
    date, time = table.header[:2]
    cells = np.strings.add(np.strings.add(table.columns[0], " "), clock)
    joined = f"columns {date!r} and {time!r} are joined to the time stamp"
    return TimeColumn(cells, f"{date} {time}", table.without(0, 1), (*said, joined))


def _joined_parts(table: Table, count: int, said: tuple[str, ...]) -> TimeColumn:
    """Join `year`, `month` and, where they are there, `day` and `hour`."""
    cells = table.columns[0]
    for part, mark in zip(table.columns[1 : min(count, 3)], "--", strict=False):
        cells = np.strings.add(np.strings.add(cells, mark), part)
    if count == len(DATE_PARTS):
        cells = np.strings.add(np.strings.add(np.strings.add(cells, " "), table.columns[3]), ":00")
    names = table.header[:count]
    joined = f"columns {', '.join(map(repr, names))} are joined to the time stamp"
    return TimeColumn(cells, " ".join(names), table.without(*range(count)), (*said, joined))

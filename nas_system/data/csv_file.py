"""Reading a CSV file into a `Series`, refusing everything that would silently spoil a score.

The standard library's reader and numpy take 60 ms for ETTh1; importing pandas alone takes three
times as long, and a training starts with this file.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import IrregularSteps, Series, frequency_of
from nas_system.errors import ConfigError
from nas_system.space.time_steps import TIME_STAMP

WITH_EXTRAS = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?)(\.\d+)?(Z|[+-](?:0\d|1[0-4]):?[0-5]\d)?", re.ASCII
)
"""A time stamp with a fraction of a second, an offset from UTC, or both."""
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
HEADER_LINES = 1
SHORTEST_SERIES = 3
"""Rows from which a step can be told."""


def parse_csv(
    content: bytes, name: str, *, freq: str | None = None, missing: Literal["refuse", "ffill"] = "refuse"
) -> Series:
    """A series from the bytes of a CSV file whose first column is the time stamp.

    `freq` is the step a person expects: where steps differ it says which row is wrong. `missing`
    says what an empty cell is: an error, or as much as the cell above (`Series.filled` counts them).
    Nothing is ever interpolated: that would look ahead.

    Raises ConfigError naming `name`, the line (the header is line 1) and the column.
    """
    header, rows = _table(content, name)
    stamps, *columns = zip(*rows, strict=True)
    _check_first_column(rows[0], header, name)
    dates = _dates(stamps, name, header[0])
    try:
        found = frequency_of(dates, freq)
    except IrregularSteps as problem:
        _refuse(name, problem.row, header[0], str(problem))
    values, filled = np.empty((len(rows), len(columns))), {}
    for index, (column, cells) in enumerate(zip(header[1:], columns, strict=True)):
        numbers = _numbers(cells, name, column, keep_gaps=missing == "ffill")
        gaps = np.isnan(numbers)
        if gaps.any():
            filled[column] = int(gaps.sum())
            numbers = _carried_forward(numbers, gaps, name, column)
        values[:, index] = numbers
    return Series(values, tuple(header[1:]), dates, found, filled)


def _table(content: bytes, name: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows, all of one width."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise ConfigError(f"{name}, line {line}: not UTF-8; save the file as UTF-8") from None
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except csv.Error as problem:
        raise ConfigError(f"{name}: not a CSV file ({problem})") from None
    header = [column.strip() for column in header]
    while rows and not rows[-1]:
        rows.pop()
    _check_header(header, name)
    for row, cells in enumerate(rows):
        if len(cells) != len(header):
            _refuse(name, row, None, f"{len(cells)} values, but the header names {len(header)} columns")
    if len(rows) < SHORTEST_SERIES:
        raise ConfigError(f"{name}: {len(rows)} rows are too few for a series")
    return header, rows


def _check_header(header: list[str], name: str) -> None:
    if len(header) < 2:
        semicolons = bool(header) and ";" in header[0]
        hint = "separate with commas, not semicolons" if semicolons else "expected a time stamp and numbers"
        raise ConfigError(f"{name}, line 1: fewer than two columns; {hint}")
    for place, column in enumerate(header):
        if not column and place > 0:
            raise ConfigError(f"{name}, line 1: column {place + 1} has no name")
        if column in header[:place]:
            raise ConfigError(f"{name}, line 1: two columns are named {column!r}")
    if _is_stamp(header[0]):
        raise ConfigError(f"{name}, line 1: a header with the column names is missing")


def _check_first_column(cells: Sequence[str], header: Sequence[str], name: str) -> None:
    if _is_stamp(cells[0]):
        return
    for column, cell in zip(header, cells, strict=True):
        if _is_stamp(cell):
            problem = (
                f"{cells[0]!r} is not a time stamp, but column {column!r} holds them; make that the first"
            )
            _refuse(name, 0, header[0], problem)


def _is_stamp(cell: str) -> bool:
    return bool(TIME_STAMP.fullmatch(cell) or WITH_EXTRAS.fullmatch(cell))


def _dates(stamps: Sequence[str], name: str, column: str) -> NDArray[np.datetime64]:
    """(rows,), to the second; stamps with an offset are turned into UTC."""
    if not all(map(TIME_STAMP.fullmatch, stamps)):
        return _dates_with_extras(stamps, name, column)
    try:
        return np.array(stamps, dtype="datetime64[s]")
    except ValueError:
        for row, stamp in enumerate(stamps):
            try:
                np.datetime64(stamp, "s")
            except ValueError:
                _refuse(name, row, column, f"there is no such time as {stamp!r}")
        raise


def _dates_with_extras(stamps: Sequence[str], name: str, column: str) -> NDArray[np.datetime64]:
    plain, offsets = [], []
    for row, stamp in enumerate(stamps):
        match = WITH_EXTRAS.fullmatch(stamp)
        if match is None:
            if not TIME_STAMP.fullmatch(stamp):
                _refuse(name, row, column, f"{stamp!r} is not a time stamp; write it as 2016-07-01 14:00:00")
            plain.append(stamp)
            offsets.append(None)
            continue
        time, fraction, offset = match.groups()
        if fraction and fraction.strip(".0"):
            _refuse(name, row, column, f"{stamp!r} has a fraction of a second; steps are whole seconds")
        plain.append(time)
        offsets.append(offset)
    for row, offset in enumerate(offsets):
        if (offset is None) != (offsets[0] is None):
            _refuse(
                name,
                row,
                column,
                "some time stamps have an offset from UTC and some have none; write all alike",
            )
    seconds = np.array([_seconds_of(offset) for offset in offsets], dtype="timedelta64[s]")
    return _dates(plain, name, column) - seconds


def _seconds_of(offset: str | None) -> int:
    """Of an offset from UTC: `+01:30` is 5400."""
    if offset is None or offset == "Z":
        return 0
    hours, minutes = int(offset[1:3]), int(offset[-2:])
    return (-1 if offset[0] == "-" else 1) * (3_600 * hours + 60 * minutes)


def _numbers(cells: Sequence[str], name: str, column: str, *, keep_gaps: bool) -> NDArray[np.float64]:
    """(rows,); NaN for a missing value, if these are kept."""
    try:
        numbers = np.array(list(map(float, cells)))
    except ValueError:
        pass
    else:
        if np.isfinite(numbers).all():
            return numbers
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if cell.strip().lower() not in MISSING:
            if not _is_finite_number(cell):
                _refuse(name, row, column, f"{cell!r} is not a finite number; mend it or remove the column")
            numbers[row] = float(cell)
        elif not keep_gaps:
            _refuse(
                name,
                row,
                column,
                "the value is missing; fill it, remove the column, or carry the last value forward with "
                "--missing ffill (task.missing)",
            )
    return numbers


def _carried_forward(
    numbers: NDArray[np.float64], gaps: NDArray[np.bool_], name: str, column: str
) -> NDArray[np.float64]:
    """Every gap takes the last known value before it."""
    first = int(np.argmin(gaps))
    if gaps[first]:
        _refuse(name, 0, column, "there is no value in the whole column; remove it")
    if first:
        rows = "row has" if first == 1 else f"{first} rows have"
        _refuse(
            name,
            0,
            column,
            f"the first {rows} no value, and there is nothing before to carry forward; begin the file at "
            f"line {first + 1 + HEADER_LINES}, or remove the column",
        )
    known = np.where(gaps, 0, np.arange(len(numbers)))
    return numbers[np.maximum.accumulate(known)]


def _is_finite_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _refuse(name: str, row: int, column: str | None, problem: str) -> NoReturn:
    where = f", column {column!r}" if column is not None else ""
    raise ConfigError(f"{name}, line {row + 1 + HEADER_LINES}{where}: {problem}")

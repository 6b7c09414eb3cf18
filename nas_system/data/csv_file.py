"""Reading a CSV file into a `Series`, refusing everything that would silently distort a score.

The standard library and numpy read ETTh1 in less time than pandas takes to be imported, and every
training starts with this file.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import IrregularSteps, Series, frequency_of
from nas_system.errors import ConfigError
from nas_system.space.time_steps import TIME_STAMP

Missing = Literal["refuse", "ffill"]

WITH_EXTRAS = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(\.\d+)?)?(?:Z|[+-](?:0\d|1[0-4]):?[0-5]\d)?", re.ASCII
)
"""A time of day, perhaps with a fraction of a second (group 1) or an offset from UTC."""
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
HEADER_LINES = 1
SHORTEST_SERIES = 3
"""Rows from which a step can be found."""


def parse_csv(content: bytes, name: str, *, freq: str | None = None, missing: Missing = "refuse") -> Series:
    """Return the series in the bytes of a CSV file whose first column is the time stamp.

    `freq` is the expected step: where steps differ it decides which row is wrong. `missing` decides
    about empty cells: an error, or the value of the cell above (`Series.filled` counts them).
    Nothing is ever interpolated: that would look ahead.

    Raises ConfigError naming `name`, the line (the header is line 1) and the column.
    """
    header, rows = _table(content, name)
    stamps, *columns = zip(*rows, strict=True)
    dates = _dates(stamps, name, header[0])
    try:
        found = frequency_of(dates, freq)
    except IrregularSteps as error:
        _refuse(name, error.row, header[0], str(error))
    values, filled = np.empty((len(rows), len(columns))), {}
    for index, (column, cells) in enumerate(zip(header[1:], columns, strict=True)):
        values[:, index], gaps = _numbers(cells, name, column, missing)
        if gaps:
            filled[column] = gaps
    return Series(values, tuple(header[1:]), dates, found, filled)


def _table(content: bytes, name: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows, all of one width."""
    try:
        text = content.decode("utf-8-sig")
        header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}, line {line}: not UTF-8; save the file as UTF-8") from None
    except csv.Error as error:
        raise ConfigError(f"{name}: not a CSV file ({error})") from None
    header = [column.strip() for column in header]
    while rows and not rows[-1]:
        rows.pop()
    _check_header(header, name)
    for row, cells in enumerate(rows):
        if len(cells) != len(header):
            _refuse(name, row, None, f"{len(cells)} values, but the header names {len(header)} columns")
    if len(rows) < SHORTEST_SERIES:
        raise ConfigError(f"{name}: {len(rows)} rows are too few for a series")
    stamped = [column for column, cell in zip(header, rows[0], strict=True) if _is_stamp(cell)]
    if stamped and stamped[0] != header[0]:
        where = f"column {stamped[0]!r} holds them; make that the first"
        _refuse(name, 0, header[0], f"{rows[0][0]!r} is not a time stamp, but {where}")
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


def _is_stamp(cell: str) -> bool:
    return bool(TIME_STAMP.fullmatch(cell) or WITH_EXTRAS.fullmatch(cell))


def _dates(stamps: Sequence[str], name: str, column: str) -> NDArray[np.datetime64]:
    """Return (rows,) times, to the second; those with an offset are converted to UTC."""
    if all(map(TIME_STAMP.fullmatch, stamps)):
        with suppress(ValueError):  # then the loop below finds the row
            return np.array(stamps, dtype="datetime64[s]")
    times, with_offset = [], None
    for row, stamp in enumerate(stamps):
        if not _is_stamp(stamp):
            _refuse(name, row, column, f"{stamp!r} is not a time stamp; write it as 2016-07-01 14:00:00")
        match = WITH_EXTRAS.fullmatch(stamp)
        if match and (match[1] or "").strip(".0"):
            _refuse(name, row, column, f"{stamp!r} has a fraction of a second; steps are whole seconds")
        try:
            time = datetime.fromisoformat(f"{stamp}-01" if len(stamp) == len("2016-07") else stamp)
            has_offset = time.tzinfo is not None
            times.append(time.astimezone(UTC).replace(tzinfo=None) if has_offset else time)
        except (ValueError, OverflowError):
            _refuse(name, row, column, f"there is no such time as {stamp!r}")
        with_offset = has_offset if with_offset is None else with_offset
        if has_offset != with_offset:
            problem = "some time stamps have an offset from UTC and some have none; write all alike"
            _refuse(name, row, column, problem)
    return np.array(times, dtype="datetime64[s]")


def _numbers(
    cells: Sequence[str], name: str, column: str, missing: Missing
) -> tuple[NDArray[np.float64], int]:
    """Return the values of a column, (rows,), and how many of them were carried forward."""
    with suppress(ValueError):
        numbers = np.array(list(map(float, cells)))
        if np.isfinite(numbers).all():
            return numbers, 0
    numbers = np.array(list(map(_number, cells)))
    gaps = np.isnan(numbers)
    wrong = ~np.isfinite(numbers) if missing == "refuse" else np.isinf(numbers)
    if wrong.any():
        row = int(wrong.argmax())
        problem = f"{cells[row]!r} is not a finite number; fix it or remove the column"
        if gaps[row]:
            problem = (
                "the value is missing; fill it, remove the column, or carry the last value forward with "
                "--missing ffill (task.missing)"
            )
        _refuse(name, row, column, problem)
    first = int(np.argmin(gaps))
    if gaps[first]:
        _refuse(name, 0, column, "there is no value in the whole column; remove it")
    if first:
        leading = "row has" if first == 1 else f"{first} rows have"
        problem = (
            f"the first {leading} no value, and there is nothing before to carry forward; begin the file at "
            f"line {first + 1 + HEADER_LINES}, or remove the column"
        )
        _refuse(name, 0, column, problem)
    known = np.where(gaps, 0, np.arange(len(numbers)))
    return numbers[np.maximum.accumulate(known)], int(gaps.sum())


def _number(cell: str) -> float:
    """Return the number in a cell; NaN for a missing one, infinity for anything but a finite number."""
    if cell.strip().lower() in MISSING:
        return math.nan
    with suppress(ValueError):
        number = float(cell)
        return number if math.isfinite(number) else math.inf
    return math.inf


def _refuse(name: str, row: int, column: str | None, problem: str) -> NoReturn:
    where = f", column {column!r}" if column is not None else ""
    raise ConfigError(f"{name}, line {row + 1 + HEADER_LINES}{where}: {problem}")

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
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import IrregularSteps, Series, frequency_of
from nas_system.errors import ConfigError

TIME_STAMP = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d:\d\d(:\d\d)?)?)?")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
HEADER_LINES = 1
SHORTEST_SERIES = 3
"""Rows from which a step can be told."""


def parse_csv(content: bytes, name: str) -> Series:
    """A series from the bytes of a CSV file whose first column is the time stamp.

    Raises ConfigError naming `name`, the line (the header is line 1) and the column.
    """
    header, rows = _table(content, name)
    stamps, *columns = zip(*rows, strict=True)
    dates = _dates(stamps, name, header[0])
    try:
        freq = frequency_of(dates)
    except IrregularSteps as problem:
        _refuse(name, problem.row, header[0], str(problem))
    values = np.empty((len(rows), len(columns)))
    for index, column in enumerate(columns):
        values[:, index] = _numbers(column, name, header[1 + index])
    return Series(values, tuple(header[1:]), dates, freq)


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
    if TIME_STAMP.fullmatch(header[0]):
        raise ConfigError(f"{name}, line 1: a header with the column names is missing")


def _dates(stamps: Sequence[str], name: str, column: str) -> NDArray[np.datetime64]:
    for row, stamp in enumerate(stamps):
        if not TIME_STAMP.fullmatch(stamp):
            _refuse(name, row, column, f"{stamp!r} is not a time stamp; write it as 2016-07-01 14:00:00")
    try:
        return np.array(stamps, dtype="datetime64[s]")
    except ValueError:
        for row, stamp in enumerate(stamps):
            try:
                np.datetime64(stamp, "s")
            except ValueError:
                _refuse(name, row, column, f"there is no such time as {stamp!r}")
        raise


def _numbers(cells: Sequence[str], name: str, column: str) -> NDArray[np.float64]:
    try:
        numbers = np.array(list(map(float, cells)))
    except ValueError:
        pass
    else:
        if np.isfinite(numbers).all():
            return numbers
    for row, cell in enumerate(cells):
        if cell.strip().lower() in MISSING:
            _refuse(name, row, column, "the value is missing; fill it or remove the column")
        if not _is_finite_number(cell):
            _refuse(name, row, column, f"{cell!r} is not a finite number; mend it or remove the column")
    raise AssertionError("the fast and the slow reading of a column disagree")


def _is_finite_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _refuse(name: str, row: int, column: str | None, problem: str) -> NoReturn:
    where = f", column {column!r}" if column is not None else ""
    raise ConfigError(f"{name}, line {row + 1 + HEADER_LINES}{where}: {problem}")

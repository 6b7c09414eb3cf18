"""Cells as numbers, as people and programs write them: `1.5`, `1,5`, `1,234.50`, `12 %`, `$ 3`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.spellings import TextColumn
from nas_system.data.reading.table import Table

Array = NDArray[np.float64]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
UNITS = ("%", "$", "€", "£", "¥", "₹", "USD", "EUR", "GBP", "CHF", "JPY")
GROUP_MARKS = str.maketrans("", "", " \u00a0\u202f'’")
"""What stands between thousands where that is neither a comma nor a full stop."""
GROUPED = re.compile(r"[+-]?\d{1,3}(?:[ \u00a0\u202f'’]\d{3})+(?:[.,]\d*)?")
MINUS = str.maketrans("−–", "--")
ACCOUNTED = re.compile(r"\(([^()]+)\)")
"""How accountants write what is below zero."""
WITH_MARK = {
    mark: re.compile(
        rf"[+-]?(?:\d*{mark}(?!\d{{3}}$)\d*|0+{mark}\d+|\d{{4,}}{mark}\d+"
        rf"|\d{{1,3}}(?:{other}\d{{3}})+{mark}\d*|\d{{1,3}}(?:{other}\d{{3}}){{2,}})"
    )
    for mark, other in ((",", r"\."), (r"\.", ","))
}
"""By the mark, as patterns write it: what only a number with that looks like. `1,234` could have either."""
IN_THOUSANDS = {
    ",": re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?"),
    ".": re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?"),
}


def decimal_mark(table: Table) -> str:
    """Return the decimal mark of the file. Raises ConfigError where nothing tells, or both are used."""
    if not any((np.strings.find(cells, ",") >= 0).any() for cells in table.columns):
        return "."
    comma, point = (_first(table, mark[-1], pattern) for mark, pattern in WITH_MARK.items())
    if comma and point:
        row, column, cell = point
        table.refuse(
            row,
            column,
            f"{cell!r} has a decimal point, but {comma[2]!r} in column {comma[1]!r} a decimal comma; write "
            "all alike",
        )
    doubtful = None if comma or point else _first(table, ",", IN_THOUSANDS["."])
    if doubtful:
        row, column, cell = doubtful
        table.refuse(
            row,
            column,
            f"{cell!r} is ambiguous: a decimal comma or thousands, and no number of the file tells which; "
            "write numbers as 1234.5",
        )
    return "," if comma else "."


def _first(table: Table, mark: str, pattern: re.Pattern[str]) -> tuple[int, str, str] | None:
    """Return row, column and text of the first number that is written like this."""
    for column, cells in zip(table.header, table.columns, strict=True):
        for row in np.flatnonzero(np.strings.find(cells, mark) >= 0):
            text, _ = _without_unit(cells[row])
            if pattern.fullmatch(text):
                return int(row), column, str(cells[row])
    return None


def read_numbers(cells: TextColumn, mark: str) -> tuple[Array, str]:
    """Return the numbers of a column, (rows,), and the unit that stood in every cell, or nothing.

    NaN stands for a missing one, infinity for anything but a finite number: so for one with another unit
    than the first.
    """
    with suppress(ValueError):
        numbers = np.fromiter(map(float, _with_points(cells, mark)), np.float64, count=len(cells))
        if np.isfinite(numbers).all():
            return numbers, ""
    numbers = np.fromiter((_number(cell, mark) for cell in cells), np.float64, count=len(cells))
    if not np.isinf(numbers).any():
        return numbers, ""
    stripped = [_without_unit(cell) for cell in cells]
    unit = next((unit for text, unit in stripped if text.lower() not in MISSING), "")
    cleaned = (
        _number(_without_groups(text), mark) if own == unit or text.lower() in MISSING else math.inf
        for text, own in stripped
    )
    return np.fromiter(cleaned, np.float64, count=len(cells)), unit


def _with_points(cells: TextColumn, mark: str) -> Iterable[str]:
    """Return numbers as Python writes them. Raises ValueError where a full stop stands between thousands."""
    if mark == ".":
        return cells
    if (np.strings.find(cells, ".") >= 0).any():
        raise ValueError(mark)
    return (cell.replace(mark, ".") for cell in cells)


def _number(cell: str, mark: str) -> float:
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    with suppress(ValueError):
        number = float(cell if mark == "." and "," not in cell else _with_point(text, mark))
        return number if math.isfinite(number) else math.inf
    return math.inf


def _with_point(text: str, mark: str) -> str:
    """Return a number as Python writes it. Raises ValueError where the marks are not those of one number."""
    thousands = "." if mark == "," else ","
    if thousands in text:
        if not IN_THOUSANDS[mark].fullmatch(text):
            raise ValueError(text)
        text = text.replace(thousands, "")
    return text.replace(mark, ".")


def _without_unit(cell: str) -> tuple[str, str]:
    """Return a number without the sign of its unit, and that; `(3)` as `-3`."""
    text = cell.strip().translate(MINUS)
    if match := ACCOUNTED.fullmatch(text):
        text = f"-{match[1]}"
    sign = text[:1] if text[:1] in ("-", "+") else ""
    bare = text[len(sign) :].strip()
    for unit in UNITS:
        if bare.startswith(unit) or bare.endswith(unit):
            inner = bare.removeprefix(unit).removesuffix(unit).strip()
            return (inner if inner[:1] == "-" else sign + inner), unit
    return text, ""


def _without_groups(text: str) -> str:
    return text.translate(GROUP_MARKS) if GROUPED.fullmatch(text) else text

"""The one sheet of an Excel workbook as CSV text. Needs the extra `files`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import date, datetime, time
from types import ModuleType
from typing import Any
from zipfile import BadZipFile, ZipFile

from nas_system.data.reading.kinds import most_unpacked
from nas_system.errors import ConfigError


def csv_in(content: bytes, name: str, openpyxl: ModuleType) -> bytes:
    """Return the rows of the only sheet that has any, each on a line of its own.

    Dates become time stamps, formulas the values that were last seen. Raises ConfigError for a file that is
    damaged or locked, and for several sheets with rows.
    """
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > most_unpacked(content):
            raise ConfigError(f"{name}: this is an Excel workbook of {size // 2**20:,} MiB; save it as CSV")
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        tables = {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}
    except (OSError, KeyError, ValueError, TypeError, SyntaxError, BadZipFile) as error:
        raise ConfigError(
            f"{name}: this is an Excel workbook that cannot be read ({type(error).__name__}); save it again, "
            "or as CSV"
        ) from None
    filled = {title: rows for title, rows in tables.items() if any(map(_has_values, rows))}
    if len(filled) != 1:
        what = f"{len(filled)} sheets with rows ({', '.join(filled)})" if filled else "no sheet with rows"
        raise ConfigError(f"{name}: this is an Excel workbook with {what}; save the one sheet as a CSV file")
    rows = next(iter(filled.values()))
    width = max(_width(row) for row in rows)
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(
        [_text(row[column]) if column < len(row) else "" for column in range(width)] for row in rows
    )
    return buffer.getvalue().encode()


def _has_values(row: Iterable[Any]) -> bool:
    return any(value is not None for value in row)


def _width(row: tuple[Any, ...]) -> int:
    return max((column + 1 for column, value in enumerate(row) if value is not None), default=0)


def _text(value: Any) -> str:
    """Return a cell as CSV spells it; what stands on several lines becomes one."""
    if value is None:
        return ""
    if isinstance(value, datetime | date | time):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    return " ".join(str(value).split("\n"))

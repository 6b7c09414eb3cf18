"""The file of a forecast, and what of it is shown in a terminal; torch-free."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_system.data.calendar import spelled_dates
from nas_system.data.reading.panel.keys import BETWEEN_KEYS
from nas_system.data.series import Clock, Forecast
from nas_system.errors import ConfigError
from nas_system.files import write_atomic
from nas_system.nas_agent.log_text import one_line

DATE = "date"
SERIES = "series"
FIRST_ROWS, LAST_ROWS, MOST_COLUMNS = 4, 2, 6
"""How much of the forecast is shown in the terminal."""
LONGEST_CELL = 16
MOST_DECIMALS = 15
"""Where a forecast takes more it is written with a power of ten."""
FLOAT_DIGITS = 7
"""What a 32-bit network resolves, counted from the size of a standard deviation."""


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the file: a target's forecast, or a border of its intervals."""

    name: str
    values: NDArray[np.float64]
    """(pred_len,)"""
    decimals: int
    of_interval: bool = False


@dataclass(frozen=True, eq=False)
class ForecastTable:
    """The forecasts of one series, or of several, which follow each other."""

    forecasts: Sequence[tuple[str, Forecast]]
    """With the name of the series; empty where there is one."""
    series_columns: tuple[str, ...] = ()
    """What tells several series apart, as in the file that they come from."""
    clock: Clock | None = None

    def save(self, path: Path) -> None:
        """Write a CSV file. Raises OSError, and ConfigError for two columns of one name."""
        columns = self._columns
        header = [DATE, *self._keys, *(column.name for column in columns)]
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(
                f"{path} would have two columns {twice!r}: a target, and a border of an interval, or what "
                "tells rows apart; rename one"
            )
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(self._rows(columns))
        write_atomic(path, buffer.getvalue().encode())

    def shown(self) -> str:
        """Format the first and last rows, aligned; intervals are shown of one target, counted of several."""
        every = self._columns
        one = len(self.forecasts[0][1].columns) == 1
        columns = [column for column in every if one or not column.of_interval][:MOST_COLUMNS]
        header = [DATE, *self._keys, *(column.name for column in columns)]
        rows = self._rows(columns)
        if len(rows) > FIRST_ROWS + LAST_ROWS + 1:
            rows = [*rows[:FIRST_ROWS], ["..."] + [""] * (len(header) - 1), *rows[-LAST_ROWS:]]
        # Time stamps are whole: what would be cut off is where they differ.
        shown = [[row[0], *(one_line(cell, LONGEST_CELL) for cell in row[1:])] for row in (header, *rows)]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in shown
        ]
        hidden = len(every) - len(columns)
        return "\n".join(lines + ([f"and {hidden} more columns in the file"] if hidden > 0 else []))

    @property
    def _columns(self) -> list[Column]:
        """Return the columns of the series that has most: for one of few rows there may be no intervals."""
        return max((_columns(forecast) for _, forecast in self.forecasts), key=len)

    @property
    def _keys(self) -> tuple[str, ...]:
        """Return the columns that tell series apart: one for all where a cell has what stands between."""
        if not self.series_columns:
            return ()
        count = len(self.series_columns)
        if all(len(name.split(BETWEEN_KEYS)) == count for name, _ in self.forecasts):
            return self.series_columns
        return (SERIES,)

    def _rows(self, columns: Sequence[Column]) -> list[list[str]]:
        """Return a row per step of every series: its time stamp, its series, and its values.

        They have their significant digits; a cell is empty where a series has no such column.
        """
        rows: list[list[str]] = []
        columns_of_keys = self._keys
        for name, forecast in self.forecasts:
            keys = name.split(BETWEEN_KEYS) if columns_of_keys == self.series_columns else [name]
            known = {column.name: column for column in _columns(forecast)}
            texts = [_spelled_values(known.get(column.name), len(forecast.dates)) for column in columns]
            dates = spelled_dates(forecast.dates, self.clock)
            rows += [
                [date, *(keys if columns_of_keys else ()), *values]
                for date, *values in zip(dates, *texts, strict=True)
            ]
        return rows


def _spelled_values(column: Column | None, steps: int) -> list[str]:
    if column is None:
        return [""] * steps
    return [_spelled(value, column.decimals) for value in column.values]


def _columns(forecast: Forecast) -> list[Column]:
    """Return the columns in the order of the file."""
    found: list[Column] = []
    for target, name in enumerate(forecast.columns):
        decimals = _decimals(float(forecast.spread[target]))
        found.append(Column(name, forecast.values[:, target], decimals))
        for level, bounds in sorted(forecast.intervals.items()):
            for side, bound in zip(("lo", "hi"), bounds, strict=True):
                found.append(Column(f"{name}_{side}_{level}", bound[:, target], decimals, of_interval=True))
    return found


def _spelled(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if decimals <= MOST_DECIMALS else f"{value:.{FLOAT_DIGITS}e}"


def _decimals(spread: float) -> int:
    return max(0, FLOAT_DIGITS - 1 - math.floor(math.log10(spread)))

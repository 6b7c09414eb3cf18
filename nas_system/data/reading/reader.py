"""From the bytes of a file to its `Series`, refusing everything that would silently distort a score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.gaps import Grid, grid_of
from nas_system.data.reading.joining import time_column
from nas_system.data.reading.kinds import text_in
from nas_system.data.reading.numbers import decimal_mark, read_numbers
from nas_system.data.reading.several import is_newest_first, refuse_disorder
from nas_system.data.reading.spellings import WrongStamp
from nas_system.data.reading.stamps import read_stamps
from nas_system.data.reading.table import DELIMITERS, Table, parse_table
from nas_system.data.series import IrregularSteps, Series
from nas_system.space.tasks.forecasting import Missing

Array = NDArray[np.float64]

HOW_FILLED = {"ffill": "the row before", "interpolate": "a line between the rows on both sides"}


def read_series(
    content: bytes,
    name: str,
    *,
    freq: str | None = None,
    missing: Missing = "refuse",
    date_format: str | None = None,
) -> Series:
    """Return the series in the bytes of a file whose first column is the time stamp.

    `freq` is the expected step: where steps differ it decides which row is wrong. `missing` decides about
    empty cells and missing rows: an error, the value before, or a line between the values on both sides,
    which within a gap looks ahead. `date_format` is how time stamps are written, as `strptime` spells it.

    Raises ConfigError naming `name`, the line and the column.
    """
    table = parse_table(text_in(content, name), name)
    time = time_column(table)
    try:
        stamps = read_stamps(time.cells, time.name, date_format)
    except WrongStamp as error:
        time.rest.refuse(error.row, time.name, str(error))
    said = [*_layout_of(table), *time.said, *stamps.said]
    if stamps.clock is not None and stamps.clock.ahead_s:
        said.append(f"times are counted in UTC; the clock of the last row is at {stamps.clock.offset}")
    dates, rest = stamps.dates, time.rest
    if is_newest_first(dates):
        dates, rest = dates[::-1], rest.reversed()
        said.append("rows are newest first, and were turned round")
    grid = _grid(dates, rest, time.name, freq, missing)
    if grid.missing:
        said.append(f"{grid.describe()}; filled with {HOW_FILLED[missing]} (--missing {missing})")
    values, filled, units = _values(rest, grid, missing)
    if filled and missing == "interpolate":
        said.append("interpolated values look ahead: a window that ends in a gap sees where it leads")
    return Series(values, rest.header, grid.all_dates(), grid.freq, filled, stamps.clock, (*said, *units))


def _layout_of(table: Table) -> list[str]:
    said = [f"the file is {what}" for what in table.text.said]
    return said + (
        [f"cells are separated by {DELIMITERS[table.delimiter]}"] if table.delimiter != "," else []
    )


def _grid(
    dates: NDArray[np.datetime64], rest: Table, column: str, freq: str | None, missing: Missing
) -> Grid:
    try:
        if (np.diff(dates.astype(np.int64)) <= 0).any():
            refuse_disorder(rest, column, dates)
        return grid_of(dates, freq, missing)
    except IrregularSteps as error:
        rest.refuse(error.row, column, str(error))


def _values(rest: Table, grid: Grid, missing: Missing) -> tuple[Array, dict[str, int], list[str]]:
    """Return (rows, columns), the cells that were filled by column, and how numbers were written."""
    mark = decimal_mark(rest)
    said = ["numbers have a decimal comma"] if mark == "," else []
    values, filled = np.empty((len(rest), len(rest.columns))), {}
    for index, (column, cells) in enumerate(zip(rest.header, rest.columns, strict=True)):
        values[:, index], unit = read_numbers(cells, mark)
        if unit:
            said.append(f"the numbers of column {column!r} are in {unit}")
        _refuse_cells(values[:, index], rest, column, unit, missing)
    values = grid.all_rows(values)
    for index, column in enumerate(rest.header):
        gaps = np.isnan(values[:, index])
        if gaps.any():
            filled[column] = int(gaps.sum())
            values[:, index] = _filled(values[:, index], gaps, missing)
    return values, filled, said


def _refuse_cells(numbers: Array, rest: Table, column: str, unit: str, missing: Missing) -> None:
    """Raise ConfigError for the first cell that is no number, or that is missing and cannot be filled."""
    gaps = np.isnan(numbers)
    wrong = ~np.isfinite(numbers) if missing == "refuse" else np.isinf(numbers)
    if wrong.any():
        row = int(wrong.argmax())
        cell = str(rest.columns[rest.header.index(column)][row])
        problem = f"{cell!r} is not a finite number; fix it or remove the column"
        if unit and not gaps[row]:
            problem = f"{cell!r} is no number in {unit}, as those above are; write all alike"
        if gaps[row]:
            problem = (
                "the value is missing; fill it, remove the column, or carry the last value forward with "
                "--missing ffill (task.missing)"
            )
        rest.refuse(row, column, problem)
    first = int(np.argmin(gaps))
    if gaps[first]:
        rest.refuse(0, column, "there is no value in the whole column; remove it")
    if first:
        leading = "row has" if first == 1 else f"{first} rows have"
        problem = (
            f"the first {leading} no value, and there is nothing before to carry forward; begin the file at "
            f"{rest.place(first)}, or remove the column"
        )
        rest.refuse(0, column, problem)


def _filled(numbers: Array, gaps: NDArray[np.bool_], missing: Missing) -> Array:
    """Return the numbers with the ones before in the gaps, or with a line across: none at the end."""
    rows = np.arange(len(numbers))
    if missing == "interpolate":
        return np.interp(rows, rows[~gaps], numbers[~gaps])
    return numbers[np.maximum.accumulate(np.where(gaps, 0, rows))]

"""From the bytes of a file to its `Series`, refusing everything that would silently distort a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.gaps import Grid, grid_of
from nas_system.data.reading.joining import time_column
from nas_system.data.reading.kinds import text_in
from nas_system.data.reading.numbers import decimal_mark, read_numbers
from nas_system.data.reading.panel.agreement import Steps, check_agreement
from nas_system.data.reading.panel.future_rows import (
    advice_for_the_future,
    check_future,
    known_places,
    rows_before_the_future,
)
from nas_system.data.reading.panel.keys import Group, Grouped, grouped
from nas_system.data.reading.several import NAMES_SHOWN, is_newest_first, refuse_disorder
from nas_system.data.reading.spellings import WrongStamp
from nas_system.data.reading.stamps import Stamps, read_stamps
from nas_system.data.reading.table import DELIMITERS, SHORTEST_SERIES, Table, parse_table, shown_series
from nas_system.data.series import Ahead, IrregularSteps, Series
from nas_system.errors import ConfigError
from nas_system.space.tasks.forecasting import Missing

Array = NDArray[np.float64]
Dates = NDArray[np.datetime64]

HOW_FILLED = {"ffill": "the row before", "interpolate": "a line between the rows on both sides"}


@dataclass(frozen=True, eq=False)
class _Timed:
    """The rows of a file once their times are read."""

    whole: Grouped
    """The columns of numbers, and whose row it is."""
    column: str
    """What the column of the time stamps is named."""
    stamps: Stamps
    said: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one series before their numbers are read."""

    past: Group
    grid: Grid
    future: Group


@dataclass(frozen=True, eq=False)
class _Numbers:
    """The numbers of all rows."""

    values: Array
    """(rows, columns), NaN for what is missing and infinity for what is none."""
    units: tuple[str, ...]
    """By column; empty for none."""
    said: tuple[str, ...]


def read_series(
    content: bytes,
    name: str,
    *,
    freq: str | None = None,
    missing: Missing = "refuse",
    date_format: str | None = None,
    future: Sequence[str] = (),
) -> Series:
    """Return the series in the bytes of a file whose first column is the time stamp.

    `freq` is the expected step: where steps differ it decides which row is wrong. `missing` decides about
    empty cells and missing rows: an error, the value before, or a line between the values on both sides,
    which within a gap looks ahead. `date_format` is how time stamps are written, as `strptime` spells it.
    `future` are columns whose future is known; rows at the end that have nothing else become `ahead`.

    Raises ConfigError naming `name`, the line and the column.
    """
    (series,) = read_all(content, name, freq=freq, missing=missing, date_format=date_format, future=future)
    return series


def read_all(
    content: bytes,
    name: str,
    *,
    freq: str | None = None,
    missing: Missing = "refuse",
    date_format: str | None = None,
    series_columns: Sequence[str] = (),
    future: Sequence[str] = (),
) -> tuple[Series, ...]:
    """Return the series of a file that `series_columns` tell apart, in the order of their first rows.

    All have the same columns and one step, and stand on one calendar; their lengths differ. What is said of
    the file is said by the first of them. A series of fewer than three rows is left out. Without
    `series_columns` there is one series, without a name. The others are as `read_series` has them.

    Raises ConfigError naming `name`, the line, the series and the column.
    """
    timed = _timed(content, name, series_columns, date_format)
    whole, rest, stamps = timed.whole, timed.whole.rest, timed.stamps
    known = known_places(rest, future, timed.column)
    said = [*timed.said]
    if stamps.clock is not None and stamps.clock.ahead_s:
        said.append(f"times are counted in UTC; the clock of the last row is at {stamps.clock.offset}")
    groups = [_oldest_first(group, stamps.dates) for group in whole.groups]
    if turned := sum(one is not other for one, other in zip(groups, whole.groups, strict=True)):
        which = f" of {turned:,} series" if whole.columns else ""
        said.append(f"rows{which} are newest first, and were turned round")
    whole = Grouped(whole.columns, rest, tuple(groups))
    kept, left_out = _long_enough(whole, known)
    said += left_out
    rows = [
        _rows_of(whole, group, length, stamps.dates, timed.column, freq, missing) for group, length in kept
    ]
    if whole.columns:
        check_agreement(name, [Steps(one.past.name, one.grid.dates, one.grid.freq) for one in rows])
        said.insert(0, f"the file holds {len(rows):,} series, {whole.told_apart}")
    said += _said_of_gaps(rows, missing)
    numbers = _numbers_of(rest)
    series = [_series_of(one, rest, numbers, known, stamps, missing) for one in rows]
    said += _said_of_the_ends(rows, rest, numbers, known)
    if any(one.filled for one in series) and missing == "interpolate":
        said.append("interpolated values look ahead: a window that ends in a gap sees where it leads")
    series[0] = replace(series[0], said=(*said, *numbers.said))
    return tuple(series)


def _timed(content: bytes, name: str, series_columns: Sequence[str], date_format: str | None) -> _Timed:
    # No name for the table: its text of the series is let go here, that of the times when this returns.
    whole = grouped(parse_table(text_in(content, name), name), series_columns)
    time = time_column(whole.rest, whole.columns)
    try:
        stamps = read_stamps(time.cells, time.name, date_format, series=whole.all_rows())
    except WrongStamp as error:
        whole.refuse(time.rest, error.row, time.name, str(error))
    said = (*_layout_of(whole.rest), *time.said, *stamps.said)
    return _Timed(replace(whole, rest=time.rest), time.name, stamps, said)


def _layout_of(table: Table) -> list[str]:
    said = [f"the file is {what}" for what in table.text.said]
    return said + (
        [f"cells are separated by {DELIMITERS[table.delimiter]}"] if table.delimiter != "," else []
    )


def _oldest_first(group: Group, dates: Dates) -> Group:
    return group.reversed() if is_newest_first(dates[group.rows]) else group


def _long_enough(whole: Grouped, known: Sequence[int]) -> tuple[list[tuple[Group, int]], list[str]]:
    """Return the series that have enough rows, with how many that are, and what is said of the others."""
    lengths = [(group, rows_before_the_future(whole.rest, group, known)) for group in whole.groups]
    kept = [(group, length) for group, length in lengths if length >= SHORTEST_SERIES]
    short = [(group, length) for group, length in lengths if length < SHORTEST_SERIES]
    if not kept:
        rows = (
            f"{short[0][1]} rows are" if len(short) == 1 else f"{len(short):,} series of 2 rows at most are"
        )
        raise ConfigError(f"{whole.rest.name}: {rows} too few for a series")
    if len(short) > NAMES_SHOWN:
        names = ", ".join(
            shown_series(group.name).removeprefix("series ") for group, _ in short[:NAMES_SHOWN]
        )
        return kept, [f"{len(short):,} series are left out, for they have 2 rows at most: {names}, ..."]
    return kept, [
        f"{shown_series(group.name)} is left out: it has {length} row{'s' * (length != 1)}"
        for group, length in short
    ]


def _rows_of(
    whole: Grouped, group: Group, length: int, dates: Dates, column: str, freq: str | None, missing: Missing
) -> _Rows:
    """Find the steps of a series of `length` rows; those after them are of the future."""
    own, past = dates[group.rows], group.before(length)
    if (np.diff(own.astype(np.int64)) <= 0).any():
        refuse_disorder(whole, group, column, dates)
    try:
        grid = grid_of(own[:length], freq, missing)
    except IrregularSteps as error:
        past.table(whole.rest).refuse(error.row, column, str(error))
    later = Group(group.name, group.rows[length:])
    if len(later):
        check_future(later.table(whole.rest), own[length:], grid.dates, grid.freq, column)
    return _Rows(past, grid, later)


def _said_of_gaps(rows: Sequence[_Rows], missing: Missing) -> list[str]:
    gaps = [one for one in rows if one.grid.missing]
    if not gaps:
        return []
    what = gaps[0].grid.describe()
    if len(rows) > 1:
        longest = max(gaps, key=lambda one: one.grid.gaps.max())
        count, of = sum(one.grid.missing for one in gaps), sum(one.grid.rows for one in rows)
        what = (
            f"{count:,} of {of:,} rows ({100 * count / of:.2g} %) are missing, in {len(gaps):,} of "
            f"{len(rows):,} series, the longest gap of {longest.grid.gaps.max():,} in "
            f"{shown_series(longest.past.name)}"
        )
    return [f"{what}; filled with {HOW_FILLED[missing]} (--missing {missing})"]


def _numbers_of(rest: Table) -> _Numbers:
    """Read every column once, all series together."""
    mark = decimal_mark(rest)
    said = ["numbers have a decimal comma"] if mark == "," else []
    values, units = np.empty((len(rest), len(rest.columns))), []
    for index, (column, cells) in enumerate(zip(rest.header, rest.columns, strict=True)):
        values[:, index], unit = read_numbers(cells, mark)
        units.append(unit)
        if unit:
            said.append(f"the numbers of column {column!r} are in {unit}")
    return _Numbers(values, tuple(units), tuple(said))


def _said_of_the_ends(
    rows: Sequence[_Rows], rest: Table, numbers: _Numbers, known: Sequence[int]
) -> list[str]:
    """Say if what was filled at the end of a series looks as rows of the future do."""
    for one in rows:
        values = numbers.values[one.past.rows]
        empty = np.isnan(values)
        if not empty[-1].any():
            continue
        column = int(empty[-1].argmax())
        count = int((~empty[::-1, column]).argmax())
        if advice := advice_for_the_future(values, rest.header, known, len(values) - count):
            which = f" of {shown_series(one.past.name)}" if one.past.name else ""
            filled = f"the last {count:,} values of column {rest.header[column]!r}{which} were filled"
            return [f"{filled}{advice}"]
    return []


def _series_of(
    rows: _Rows, rest: Table, numbers: _Numbers, known: Sequence[int], stamps: Stamps, missing: Missing
) -> Series:
    """Return a series whose missing cells and rows are filled.

    Raises ConfigError for a cell that is no number, and for a missing one that is not to be filled.
    """
    values, filled = numbers.values[rows.past.rows], {}
    if not np.isfinite(values).all():
        for index in range(values.shape[1]):
            _refuse_cells(values, index, rows.past, rest, numbers.units[index], known, missing)
    values = rows.grid.all_rows(values)
    if np.isnan(values).any():
        for index, column in enumerate(rest.header):
            gaps = np.isnan(values[:, index])
            if gaps.any():
                filled[column] = int(gaps.sum())
                values[:, index] = _filled(values[:, index], gaps, missing)
    return Series(
        values,
        rest.header,
        rows.grid.all_dates(),
        rows.grid.freq,
        filled,
        stamps.clock,
        name=rows.past.name,
        known=tuple(rest.header[place] for place in known),
        ahead=_ahead_of(rows.future, rest, numbers, known, stamps.dates) if len(rows.future) else None,
    )


def _ahead_of(future: Group, rest: Table, numbers: _Numbers, known: Sequence[int], dates: Dates) -> Ahead:
    """Return the known columns of the rows of the future, NaN where a cell is empty."""
    values = numbers.values[future.rows][:, list(known)]
    if np.isinf(values).any():
        row, index = (int(place) for place in np.argwhere(np.isinf(values))[0])
        _refuse_cell(future, rest, row, known[index], numbers.units[known[index]])
    return Ahead(tuple(rest.header[place] for place in known), dates[future.rows], values)


def _refuse_cells(
    values: Array,
    index: int,
    group: Group,
    rest: Table,
    unit: str,
    known: Sequence[int],
    missing: Missing,
) -> None:
    """Raise ConfigError for the first cell that is no number, or that is missing and cannot be filled."""
    numbers, column = values[:, index], rest.header[index]
    gaps = np.isnan(numbers)
    wrong = ~np.isfinite(numbers) if missing == "refuse" else np.isinf(numbers)
    if wrong.any():
        row = int(wrong.argmax())
        if not gaps[row]:
            _refuse_cell(group, rest, row, index, unit)
        group.table(rest).refuse(
            row,
            column,
            "the value is missing; fill it, remove the column, or carry the last value forward with "
            f"--missing ffill (task.missing){advice_for_the_future(values, rest.header, known, row)}",
        )
    first = int(np.argmin(gaps))
    if gaps[first]:
        group.table(rest).refuse(0, column, "there is no value in the whole column; remove it")
    if first:
        leading = "row has" if first == 1 else f"{first} rows have"
        own = group.table(rest)
        problem = (
            f"the first {leading} no value, and there is nothing before to carry forward; begin the "
            f"{'series' if own.series else 'file'} at {own.place(first)}, or remove the column"
        )
        own.refuse(0, column, problem)


def _refuse_cell(group: Group, rest: Table, row: int, index: int, unit: str) -> None:
    cell = str(rest.columns[index][group.rows[row]])
    problem = (
        f"{cell!r} is no number in {unit}, as those above are; write all alike"
        if unit
        else f"{cell!r} is not a finite number; fix it or remove the column"
    )
    group.table(rest).refuse(row, rest.header[index], problem)


def _filled(numbers: Array, gaps: NDArray[np.bool_], missing: Missing) -> Array:
    """Return the numbers with the ones before in the gaps, or with a line across: none at the end."""
    rows = np.arange(len(numbers))
    if missing == "interpolate":
        return np.interp(rows, rows[~gaps], numbers[~gaps])
    return numbers[np.maximum.accumulate(np.where(gaps, 0, rows))]

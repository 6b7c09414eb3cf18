"""The columns that tell the series of a table apart, and which rows each of them has."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.table import Table

Rows = NDArray[np.int64]

FLAG = "--series-column"
MOST_SERIES = 10_000
BETWEEN_KEYS = " / "
"""Stands between the cells of several columns in the name of a series."""


@dataclass(frozen=True, eq=False)
class Group:
    """The rows of one series."""

    name: str
    rows: Rows
    """Which rows of the table, from 0, in the order of time once that is known."""

    def __len__(self) -> int:
        return len(self.rows)

    def reversed(self) -> Group:
        """Return the group with its last row first."""
        return replace(self, rows=self.rows[::-1])

    def before(self, row: int) -> Group:
        """Return the group without its rows from here on."""
        return replace(self, rows=self.rows[:row])

    def table(self, whole: Table) -> Table:
        """Return its rows of a table: copies of all cells, so it is asked for in a message only."""
        return whole.take(self.rows, self.name)


@dataclass(frozen=True, eq=False)
class Grouped:
    """A table whose rows are told apart."""

    columns: tuple[str, ...]
    """Those that tell; none where all rows are of one series."""
    rest: Table
    """The others."""
    groups: tuple[Group, ...]
    """In the order of their first rows."""

    @property
    def told_apart(self) -> str:
        """Return `told apart by column 'shop'`."""
        return f"told apart by column {' and '.join(map(repr, self.columns))}"

    def all_rows(self) -> list[Rows]:
        """Return the rows of each group."""
        return [group.rows for group in self.groups]

    def numbers(self) -> list[Rows]:
        """Return the number of each row's series, (rows,); nothing where all rows are of one."""
        of = np.empty(len(self.rest), np.int64)
        for number, group in enumerate(self.groups):
            of[group.rows] = number
        return [of] if self.columns else []

    def refuse(self, table: Table, row: int, column: str, problem: str) -> NoReturn:
        """Raise ConfigError for a row of `table`, which has all rows; it names the series."""
        name = next((group.name for group in self.groups if self.columns and row in group.rows), "")
        replace(table, series=name).refuse(row, column, problem)


def grouped(table: Table, columns: Sequence[str]) -> Grouped:
    """Tell the rows apart by the cells of `columns`; without any, all are of one series without a name.

    Raises ConfigError for a missing column, an empty cell, and for more series than any model is trained on.
    """
    if not columns:
        return Grouped((), table, (Group("", np.arange(len(table))),))
    places = [table.place_of(column, f"{FLAG} (task.series_columns)") for column in columns]
    rest = table.without(*places)
    if len(rest.header) < 2:
        table.refuse_header(
            f"besides {FLAG} {spelled_columns(columns)} there are fewer than two columns; expected a time "
            "stamp and numbers"
        )
    numbers: dict[tuple[str, ...], int] = {}
    cells = zip(*(map(str.strip, table.columns[place]) for place in places), strict=True)
    series_of = np.fromiter(
        (numbers.setdefault(key, len(numbers)) for key in cells), np.int64, count=len(table)
    )
    if len(numbers) > MOST_SERIES:
        _refuse_too_many(table, columns, len(numbers))
    for key, number in numbers.items():
        if "" in key:
            row = int((series_of == number).argmax())
            problem = f"the cell is empty, so that {FLAG} cannot tell which series the row is of; fill it"
            table.refuse(row, columns[key.index("")], f"{problem}, or remove the row")
    names = [BETWEEN_KEYS.join(key) for key in numbers]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        table.refuse_header(f"two series would have the name {twice!r}; leave out {BETWEEN_KEYS!r} in cells")
    order = np.argsort(series_of, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(series_of))[:-1])
    return Grouped(tuple(columns), rest, tuple(map(Group, names, rows)))


def spelled_columns(columns: Sequence[str]) -> str:
    """Return columns as a flag takes them: `shop,article`; a name with a comma stands in double quotes."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(columns)
    return shlex.quote(buffer.getvalue())


def _refuse_too_many(table: Table, columns: Sequence[str], count: int) -> NoReturn:
    one = len(columns) == 1
    what = f"column {columns[0]!r} has" if one else f"columns {', '.join(map(repr, columns))} have together"
    are = "it is no series column" if one else "they are no series columns"
    table.refuse_header(
        f"{what} {count:,} different values: {are}; a file holds up to {MOST_SERIES:,} series"
    )

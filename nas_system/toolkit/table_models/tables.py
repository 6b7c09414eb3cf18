"""Tables (DataFrame, Series, array) as numbers that a network can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_system.toolkit.table_models.row_order import time_order

if TYPE_CHECKING:
    import pandas as pd

    TableLike = pd.DataFrame | pd.Series | ArrayLike

LARGEST = float(np.finfo(np.float32).max)
"""Of the numbers that networks compute with."""
NO_NUMBERS = {"M": "dates and times", "m": "spans of time", "c": "complex numbers"}
"""By numpy's kind of a type that would become a number without a word."""
DATES = "put them into the index, or turn them into numbers such as the hour or the weekday"


@dataclass(frozen=True, eq=False)
class Table:
    """Finite numbers by row and column, with the labels of both."""

    values: NDArray[np.float64]
    """(rows, columns)"""
    columns: tuple[Any, ...] | None
    """Names of the columns; None for an array."""
    index: pd.Index | None
    """Labels of the rows; None for an array."""
    is_single: bool
    """True for a single column without a second dimension."""

    def __len__(self) -> int:
        return len(self.values)

    def in_time_order(self, name: str) -> Table:
        """Return the table with rows that are dated in the order of time. Raises ValueError for gaps."""
        order = time_order(self.index, name)
        return self if order is None else self.take(order)

    def take(self, rows: NDArray[np.intp]) -> Table:
        """Return these rows, in this order."""
        index = None if self.index is None else self.index.take(rows)
        return Table(self.values[rows], self.columns, index, self.is_single)


def read_table(source: TableLike, name: str) -> Table:
    """Read `source` as numbers. Raises ValueError, naming row and column, for anything else.

    `name` is its name in error messages.
    """
    index, columns = labels_of(source)
    _refuse_other_types(source, columns, name)
    try:
        values = np.asarray(source, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(_no_number(source, index, columns, name, error)) from None
    is_single = values.ndim == 1
    if is_single:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"{name} has the shape {values.shape}; rows and columns are expected")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = map(int, bad[0])
        place = _cell_name(row, column, index, columns)
        raise ValueError(f"{name}: {place} is {values[row, column]}; fill it or drop the row")
    return Table(values, columns, index, is_single)


def labels_of(source: TableLike) -> tuple[pd.Index | None, tuple[Any, ...] | None]:
    """Return row labels and column names of a DataFrame or Series; None twice for an array."""
    index = getattr(source, "index", None)
    if index is None or callable(index):  # a list has a method of that name
        return None, None
    columns = getattr(source, "columns", None)
    return index, (getattr(source, "name", None),) if columns is None else tuple(columns)


def row_name(row: int, index: pd.Index | None) -> str:
    """Return what a message calls a row: its number, and its label if it has one."""
    return f"row {row}" if index is None else f"row {row} ({index[row]})"


def is_missing(cell: Any) -> bool:
    """Return whether a cell is empty: None, NaN, NaT or pandas' NA."""
    if isinstance(cell, float):
        return cell != cell
    return cell is None or type(cell).__name__ in ("NAType", "NaTType")


def refuse_far(table: Table, scaled: NDArray[np.float64], limit: float, name: str) -> None:
    """Raise ValueError, naming row and column, for a value beyond the limit; `scaled` are the first rows."""
    far = np.argwhere(~(np.abs(scaled) <= limit))
    if len(far):
        row, column = map(int, far[0])
        place = _cell_name(row, column, table.index, table.columns)
        raise ValueError(
            f"{name}: {place} is {table.values[row, column]:g}, which single precision cannot hold at this "
            "scale; correct it, drop the row, or give it in another unit"
        )


def _cell_name(row: int, column: int, index: pd.Index | None, columns: Sequence[Any] | None) -> str:
    place = row_name(row, index)
    if columns is None:
        return f"{place}, column {column}"
    return place if columns[column] is None else f"{place}, column {columns[column]!r}"


def _refuse_other_types(source: TableLike, columns: Sequence[Any] | None, name: str) -> None:
    """Refuse columns that numpy would make numbers of which mean nothing, such as nanoseconds since 1970."""
    types = list(getattr(source, "dtypes", ())) if hasattr(source, "columns") else []
    if not types and hasattr(source, "dtype"):
        types = [source.dtype]  # pyright: ignore[reportAttributeAccessIssue]
    strange = [place for place, kind in enumerate(types) if getattr(kind, "kind", "") in NO_NUMBERS]
    if not strange:
        return
    what = NO_NUMBERS[types[strange[0]].kind]
    alike = [place for place in strange if NO_NUMBERS[types[place].kind] == what]
    advice = DATES if what == NO_NUMBERS["M"] else "turn them into plain numbers or drop them"
    holders = "it holds" if columns is None else _holders(alike, columns)
    raise ValueError(f"{name} holds something that is no number: {holders} {what}; {advice}")


def _no_number(
    source: TableLike,
    index: pd.Index | None,
    columns: Sequence[Any] | None,
    name: str,
    error: Exception,
) -> str:
    """Return the message about a table that numpy cannot turn into numbers: which columns, and where."""
    cells = np.asarray(source, dtype=object)
    cells = cells[:, None] if cells.ndim == 1 else cells
    found = [] if cells.ndim != 2 else list(_strange_cells(cells))
    if not found:
        return f"{name} holds something that is no number ({error}); encode or drop it"
    row, column = found[0]
    cell = cells[row, column]
    if is_missing(cell):
        return f"{name}: {_cell_name(row, column, index, columns)} is {cell}; fill it or drop the row"
    is_date = type(cell).__module__.startswith(("pandas", "datetime"))
    what = NO_NUMBERS["M"] if is_date else "text" if isinstance(cell, str) else f"a {type(cell).__name__}"
    advice = DATES if is_date else "encode or drop it" if len(found) == 1 else "encode or drop them"
    holders = _holders([at for _, at in found], columns)
    return (
        f"{name} holds something that is no number: {holders} {what}, such as {str(cell)!r} in "
        f"{row_name(row, index)}; {advice}"
    )


def _holders(places: Sequence[int], columns: Sequence[Any] | None) -> str:
    if columns is not None and columns[places[0]] is None:
        return "it holds"
    names = ", ".join(str(place) if columns is None else repr(columns[place]) for place in places)
    return f"column {names} holds" if len(places) == 1 else f"columns {names} hold"


def _strange_cells(cells: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield the first cell of every column that float() refuses."""
    for column in range(cells.shape[1]):
        for row, cell in enumerate(cells[:, column]):
            try:
                float(cell)
            except (TypeError, ValueError):
                yield row, column
                break

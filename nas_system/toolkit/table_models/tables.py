"""Tables (DataFrame, Series, array) as numbers that a network can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

    TableLike = pd.DataFrame | pd.Series | ArrayLike


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


def read_table(source: TableLike, name: str) -> Table:
    """Read `source` as numbers. Raises ValueError, naming row and column, for anything else.

    `name` is its name in error messages.
    """
    index, columns = labels_of(source)
    try:
        values = np.asarray(source, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} holds something that is no number ({error}); encode or drop it") from None
    is_single = values.ndim == 1
    if is_single:
        values = values[:, None]
    if values.ndim != 2:
        raise ValueError(f"{name} has the shape {values.shape}; rows and columns are expected")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = map(int, bad[0])
        label = "" if index is None else f" ({index[row]})"
        place = column if columns is None else repr(columns[column])
        raise ValueError(
            f"{name}: row {row}{label}, column {place} is {values[row, column]}; fill it or drop the row"
        )
    return Table(values, columns, index, is_single)


def labels_of(source: TableLike) -> tuple[pd.Index | None, tuple[Any, ...] | None]:
    """Return row labels and column names of a DataFrame or Series; None twice for an array."""
    index = getattr(source, "index", None)
    if index is None or callable(index):  # a list has a method of that name
        return None, None
    columns = getattr(source, "columns", None)
    return index, (getattr(source, "name", None),) if columns is None else tuple(columns)

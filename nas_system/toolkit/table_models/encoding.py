"""How a table becomes numbers around zero, and a network's outputs become answers with their row's label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nas_system.data.scaling import Scaler
from nas_system.toolkit.table_models.tables import (
    LARGEST,
    Table,
    is_missing,
    labels_of,
    read_table,
    refuse_far,
    row_name,
)
from nas_system.training.checkpoint import StateDict

if TYPE_CHECKING:
    import pandas as pd

    from nas_system.toolkit.table_models.tables import TableLike


LARGEST_TARGET = LARGEST**0.5
"""Targets are decided by a squared error."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The original y: its numbers, or the numbers of its classes."""

    values: NDArray[np.float64]
    """(rows, columns)"""
    index: pd.Index | None
    names: tuple[Any, ...]
    """Of the columns; None for one that has no name."""
    is_single: bool
    classes: tuple[Any, ...] | None = None
    """The labels whose numbers `values` are."""

    def take(self, rows: NDArray[np.intp]) -> Targets:
        """Return these rows, in this order."""
        index = None if self.index is None else self.index.take(rows)
        return replace(self, values=self.values[rows], index=index)


def read_numbers(y: TableLike, name: str) -> Targets:
    """Read the y of a regression. Raises ValueError for what is no finite number, naming the row."""
    table = read_table(y, name)
    names = table.columns
    if names is None:
        names = (None,) if table.is_single else tuple(range(table.values.shape[1]))
    return Targets(table.values, table.index, names, table.is_single)


def read_classes(y: TableLike, name: str, classes: tuple[Any, ...] | None = None) -> Targets:
    """Read the y of a classification: text, whole numbers or truth values; `classes` are those already known.

    Raises ValueError for other kinds, for a single class and for an unknown one.
    """
    index, columns = labels_of(y)
    labels = np.asarray(y, dtype=object)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"{name} has the shape {labels.shape}; a classification has one label for each row")
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    _check_labels(plain, index, name)
    if classes is None:
        classes = tuple(sorted(set(plain)))
        if len(classes) < 2:
            raise ValueError(f"{name} holds {len(classes)} classes; at least 2 are needed")
    numbers = {label: number for number, label in enumerate(classes)}
    strange = next((label for label in plain if label not in numbers), None)
    if strange is not None:
        raise ValueError(f"{name} holds the class {strange!r}, which y does not; there are: {classes}")
    values = np.array([numbers[label] for label in plain], dtype=np.float64)[:, None]
    return Targets(values, index, columns or (None,), True, classes)


def _check_labels(labels: Sequence[Any], index: pd.Index | None, name: str) -> None:
    """Raise ValueError for the row whose label is missing, of no kind, or of another than those before."""
    rule = "labels are text or whole numbers, all of one kind and none missing"
    missing = next((row for row, label in enumerate(labels) if is_missing(label)), None)
    if missing is not None:
        raise ValueError(f"{name}: {row_name(missing, index)} has no label ({labels[missing]!r}); {rule}")
    for row, label in enumerate(labels):
        if type(label) not in (str, int, bool):
            raise ValueError(f"{name}: {row_name(row, index)} is {label!r}; {rule}")
        if type(label) is not type(labels[0]):
            raise ValueError(
                f"{name}: {row_name(row, index)} is {label!r}, but {row_name(0, index)} is {labels[0]!r}; "
                f"{rule}"
            )


@dataclass(frozen=True, eq=False)
class Encoding:
    """Scaling, columns and classes of the tables that a model was trained on."""

    inputs: Scaler
    columns: tuple[Any, ...] | None
    """Names of X's columns; None for an array."""
    targets: Scaler | None
    """Of a regression's y."""
    classes: tuple[Any, ...] | None
    """Of a classification, in the order of the network's outputs."""
    names: tuple[Any, ...]
    """Of y's columns."""
    is_single: bool
    """Whether y was a single column, so that an answer is a Series."""

    @classmethod
    def fit(cls, X: Table, y: Targets, rows: int) -> Self:
        """Fit on the first `rows` rows, which are the training part."""
        scaler = None if y.classes else _scaler(y.values[:rows], y.names, "y")
        inputs = _scaler(X.values[:rows], X.columns, "X")
        return cls(inputs, X.columns, scaler, y.classes, y.names, y.is_single)

    @property
    def n_inputs(self) -> int:
        return len(self.inputs.mean)

    @property
    def n_outputs(self) -> int:
        """Channels of the network's output."""
        return len(self.classes or self.names)

    def encoded_inputs(self, X: Table) -> NDArray[np.float64]:
        """Scale X as the training rows were; named columns are found by name, in any order."""
        values = X.values
        if self.columns is not None and X.columns is not None and X.columns != self.columns:
            missing = [name for name in self.columns if name not in X.columns]
            if missing:
                raise ValueError(f"X lacks columns the model was trained on: {missing}")
            values = values[:, [X.columns.index(name) for name in self.columns]]
        if values.shape[1] != self.n_inputs:
            raise ValueError(f"X has {values.shape[1]} columns; the model was trained on {self.n_inputs}")
        with np.errstate(over="ignore"):
            scaled = self.inputs.transform(values)
        # Of the last row only its y is predicted; its X is read by no window.
        refuse_far(replace(X, values=values, columns=self.columns), scaled[:-1], LARGEST, "X")
        return scaled

    def encoded_targets(self, y: Targets) -> NDArray[np.float64]:
        """Return the targets that the network's outputs are compared with."""
        if y.values.shape[1] != len(self.names):
            raise ValueError(f"y has {y.values.shape[1]} columns; the model was trained on {len(self.names)}")
        if self.targets is None:
            return y.values
        with np.errstate(over="ignore"):
            scaled = self.targets.transform(y.values)
        refuse_far(Table(y.values, y.names, y.index, y.is_single), scaled, LARGEST_TARGET, "y")
        return scaled

    def answers(self, outputs: Tensor, index: pd.Index) -> pd.Series | pd.DataFrame:
        """Convert the network's outputs `(N, 1, channels)` into units of y, or the most likely labels."""
        import pandas as pd

        if self.classes is not None:
            numbers = outputs[:, 0].argmax(-1).tolist()
            return pd.Series([self.classes[number] for number in numbers], index=index, name=self.names[0])
        assert self.targets is not None
        values = self.targets.inverse(outputs[:, 0].double().numpy())
        if self.is_single:
            return pd.Series(values[:, 0], index=index, name=self.names[0])
        return pd.DataFrame(values, index=index, columns=pd.Index(self.names))

    def probabilities(self, outputs: Tensor, index: pd.Index) -> pd.DataFrame:
        """Return the probability of every class, in columns named after them."""
        import pandas as pd

        assert self.classes is not None
        shares = outputs[:, 0].double().softmax(-1).numpy()
        return pd.DataFrame(shares, index=index, columns=pd.Index(self.classes))

    def to_plain(self) -> StateDict:
        """Return plain values for a checkpoint. Raises ValueError for column names that are none."""
        for name in (*(self.columns or ()), *self.names):
            if not isinstance(name, str | int | None):
                raise ValueError(f"the column name {name!r} cannot be saved; rename it to text")
        return {
            "inputs": self.inputs.to_json(),
            "columns": self.columns,
            "targets": None if self.targets is None else self.targets.to_json(),
            "classes": self.classes,
            "names": self.names,
            "is_single": self.is_single,
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        scalers = {
            name: None if values[name] is None else Scaler.from_json(values[name])
            for name in ("inputs", "targets")
        }
        return cls(**{**values, **scalers})


def _scaler(values: NDArray[np.float64], columns: Sequence[Any] | None, name: str) -> Scaler:
    """Fit a scaler; the columns of an array are named by their place. Raises ValueError, with the advice."""
    try:
        return Scaler.of_rows(values, range(values.shape[1]) if columns is None else columns)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None

"""Scaling each column to mean 0 and standard deviation 1, by the training rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import Series
from nas_system.data.splits import Split
from nas_system.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Scaler:
    """`(value - mean) / std` per column; std is that of the population (ddof 0), 1 for a constant column."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fit(cls, series: Series, split: Split) -> Self:
        """Return the statistics of the training rows. Raises ConfigError for numbers too large to square."""
        try:
            return cls.of_rows(series.values[: split.train_end], series.columns)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @classmethod
    def of_rows(cls, rows: NDArray[np.float64], columns: Sequence[object]) -> Self:
        """Return the statistics of `rows`, (rows, columns). Raises ValueError naming a column too large."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = rows.mean(axis=0), rows.std(axis=0)
        for column, spread in zip(columns, std, strict=True):
            if not np.isfinite(spread):
                raise ValueError(f"the values of column {column!r} are too large to be scaled")
        # By its range, not by std == 0: the rounded mean gives a constant column a std of about 1e-17.
        constant = rows.max(axis=0) == rows.min(axis=0)
        return cls(mean, np.where(constant, 1.0, std))

    def transform(self, values: NDArray[Any]) -> NDArray[Any]:
        """Scale `values`, (..., columns)."""
        return (values - self.mean) / self.std

    def inverse(self, scaled: NDArray[Any]) -> NDArray[Any]:
        """Convert `scaled`, (..., columns), back to the units of the data."""
        return scaled * self.std + self.mean

    def of_columns(self, indices: Sequence[int]) -> Scaler:
        """Return the scaler of some columns; that of the targets converts forecasts back to their units."""
        return Scaler(self.mean[list(indices)], self.std[list(indices)])

    def to_json(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[float]]) -> Self:
        return cls(np.array(value["mean"]), np.array(value["std"]))

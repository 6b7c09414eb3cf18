"""Scaling each column by the training rows alone: to mean 0 and standard deviation 1, or robustly.

Robust scaling subtracts the median and divides by the interquartile range over 1.349, which is the
standard deviation of a normal distribution, so that single extreme values do not set the scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import Series
from nas_system.data.splits import Split
from nas_system.errors import ConfigError

Array = NDArray[np.float64]
Scaling = Literal["standard", "robust"]

NORMAL_IQR = 1.349
"""Interquartile range of a normal distribution of standard deviation 1."""

LARGEST_SQUARED = 1e150
"""Beyond it squares of numbers have none."""
SQUARES_UNDERFLOW = 1e-150
"""A standard deviation below this is not to be trusted: the squares it was made of may be 0."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """`(value - mean) / std` per column; std is that of the population (ddof 0), 1 for a constant column.

    With robust scaling `mean` is the median and `std` the interquartile range over 1.349; a column
    of which half is one value keeps its standard deviation.
    """

    mean: Array
    std: Array

    @classmethod
    def fit(cls, series: Series, split: Split, scaling: Scaling = "standard") -> Self:
        """Return the statistics of the training rows.

        Raises ConfigError for numbers too large to square, or too close to each other to divide by.
        """
        try:
            return cls.of_rows(series.values[: split.train_end], series.columns, scaling)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @classmethod
    def of_rows(cls, rows: Array, columns: Sequence[object], scaling: Scaling = "standard") -> Self:
        """Return the statistics of `rows`, (rows, columns). Raises ValueError naming a column (see `fit`)."""
        # By its range, not by std == 0: the rounded mean gives a constant column a std of about 1e-17.
        constant = rows.max(axis=0) == rows.min(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = rows.mean(axis=0), rows.std(axis=0)
            tiny = ~constant & (std < SQUARES_UNDERFLOW)
            if tiny.any():
                std[tiny] = _std_of_tiny(rows[:, tiny])
            if scaling == "robust":
                low, mean, high = np.quantile(rows, (0.25, 0.5, 0.75), axis=0)
                std = np.where(high > low, (high - low) / NORMAL_IQR, std)
        for column, spread, is_constant, values in zip(columns, std, constant, rows.T, strict=True):
            if not np.isfinite(spread):
                row, usual = int(np.abs(values).argmax()), float(np.median(np.abs(values)))
                one = f": row {row} is {values[row]:g}, the usual size is {usual:g}; correct that row, or"
                raise ValueError(
                    f"the values of column {column!r} are too large to be scaled"
                    f"{one if usual < LARGEST_SQUARED else ';'} write them in a larger unit"
                )
            if spread < np.finfo(np.float64).tiny and not is_constant:
                raise ValueError(
                    f"the values of column {column!r} are too close to each other to be scaled: they differ "
                    f"by about {spread:.0e}, where numbers lose their digits; write them in a smaller unit"
                )
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


def _std_of_tiny(rows: Array) -> Array:
    """Return the standard deviations of columns whose values are too small to square."""
    largest = np.abs(rows).max(axis=0)
    return (rows / largest).std(axis=0) * largest

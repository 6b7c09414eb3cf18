"""MASE, sMAPE, RMSE and MAE of forecasts, in the units of the data and for every step of the horizon.

MASE: Hyndman and Koehler 2006, "Another look at measures of forecast accuracy", IJF 22, section 3. sMAPE as
in Makridakis, Spiliotis and Assimakopoulos 2020, "The M4 Competition", IJF 36.

Unlike there, an error is not that of one forecast but the mean over all windows of a part. Every figure is
computed for each target alone; the mean over targets comes last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_system.data.scaling import Scaler
from nas_system.space.accuracy import LARGEST_SMAPE, Accuracy, accuracies_from

__all__ = ["Accuracy", "RunningAccuracy", "accuracies_from", "accuracy_of", "naive_scales"]

Array = NDArray[np.float64]

CHUNK_NUMBERS = 2**16
"""Numbers of a chunk of windows that are handled at a time: what a cache holds."""
ROUNDING = 1e-12
"""A naive error of this share of a column's largest value is only rounding."""


def naive_scales(train: Array, season: int) -> Array:
    """Return the error by which MASE divides, (targets,): that of the seasonal naive forecast in-sample.

    `train` are training rows, (rows, targets), `season` is in steps; where they hold no two seasons, rows are
    compared with the one before. 0 where there is no such error: the column is constant or repeats exactly.
    """
    lag = season if len(train) >= 2 * season else 1
    if len(train) <= lag:
        return np.zeros(train.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        scales = np.abs(train[lag:] - train[:-lag]).mean(axis=0)
    usable = np.isfinite(scales) & (scales > ROUNDING * np.abs(train).max(axis=0))
    return np.where(usable, scales, 0.0)


class RunningAccuracy:
    """Sums of errors over windows that come in chunks of any size."""

    def __init__(self, steps: int, scales: Array, scaler: Scaler | None = None) -> None:
        """`scales` are the targets' `naive_scales`; `scaler` is theirs where scaled values are added."""
        self._scaler = scaler
        self._scales = np.asarray(scales, dtype=np.float64)
        # Errors are added up in units of the scale: squares of 1e-200 are 0.
        self._unit = np.where(self._scales > 0, self._scales, 1.0)
        shape = (len(self._scales), steps)
        self._absolute, self._squares, self._relative = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._windows = np.zeros(len(self._scales), dtype=np.int64)

    def add(self, forecasts: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
        """Add windows of all targets, (windows, steps, targets)."""
        for target in range(len(self._scales)):
            self.add_target(target, forecasts[:, :, target], truth[:, :, target])

    def add_target(self, target: int, forecasts: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
        """Add windows of one target, (windows, steps)."""
        rows = max(CHUNK_NUMBERS // truth.shape[1], 1)
        for first in range(0, len(truth), rows):
            chunk = slice(first, first + rows)
            self._add(target, self._unscaled(forecasts[chunk], target), self._unscaled(truth[chunk], target))

    def _unscaled(self, values: NDArray[np.floating], target: int) -> Array:
        values = values.astype(np.float64)
        if self._scaler is None:
            return values
        return values * self._scaler.std[target] + self._scaler.mean[target]

    def _add(self, target: int, forecasts: Array, truth: Array) -> None:
        # What is no number stays none to the end, where it is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.abs(forecasts - truth)
            size = np.abs(forecasts) + np.abs(truth)
            # A forecast of 0 for a 0 has no error.
            self._relative[target] += np.divide(error, size, out=np.zeros_like(error), where=size != 0).sum(0)
            error /= self._unit[target]
            self._absolute[target] += error.sum(0)
            self._squares[target] += np.einsum("ij,ij->j", error, error)
        self._windows[target] += len(truth)

    def accuracy(self) -> Accuracy | None:
        """Return the figures of all that was added; None for no window and for numbers too large."""
        if not self._windows.all():
            return None
        count, unit = self._windows[:, None], self._unit[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            absolute, squares = self._absolute / count, self._squares / count
            per_step = (absolute * unit).mean(0), (np.sqrt(squares) * unit).mean(0)
            mae = float((absolute.mean(1) * self._unit).mean())
            rmse = float((np.sqrt(squares.mean(1)) * self._unit).mean())
            # Rounding alone would make it more.
            smape = float(np.minimum(200 * (self._relative / count).mean(), LARGEST_SMAPE))
            mase = float(absolute.mean()) if self._scales.all() else None
        if not np.isfinite([mae, rmse, smape, *([] if mase is None else [mase])]).all():
            return None
        steps = (tuple(float(f"{error:.6g}") for error in errors) for errors in per_step)
        return Accuracy(mase, smape, rmse, mae, next(steps), next(steps))


def accuracy_of(
    forecasts: NDArray[np.floating], truth: NDArray[np.floating], scales: Array
) -> Accuracy | None:
    """Return the accuracy of `forecasts`, (windows, steps, targets), in the units of the data, as is `truth`.

    `scales` are `naive_scales` of the training rows, (targets,). None for no window and for numbers that are
    not finite or too large to square.
    """
    running = RunningAccuracy(truth.shape[1], scales)
    running.add(forecasts, truth)
    return running.accuracy()

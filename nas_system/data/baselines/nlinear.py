"""NLinear in closed form, one map for every target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nas_system.data.baselines.method import Array, Forecast, windows_before

LOOK_BACK = 336
"""Two weeks of hours: the best look-back of a linear map on ETTh1."""

RIDGE = 10.0
"""Added to the diagonal of the normal equations, about 1e-3 per window on ETTh1; the intercept goes free."""

CHUNK = 1_024
"""Windows handled at a time: bounds the memory at about 20 MB for any series and horizon."""


@dataclass(frozen=True)
class NLinear:
    """NLinear (Zeng et al. 2023, arXiv:2205.13504) by ridge regression instead of gradient descent.

    The last value is subtracted from the look-back and added to the forecast; one map with an
    intercept serves all columns. Only the normal equations are kept.
    """

    look_back: int

    @classmethod
    def that_fits(cls, rows: int, pred_len: int) -> NLinear | None:
        """Return that of the published tables, or with the look-back that `rows` allow; None for too few."""
        look_back = min(LOOK_BACK, (rows - pred_len) // 2)
        return cls(look_back) if look_back > 1 else None

    @property
    def name(self) -> str:
        return f"nlinear-{self.look_back}"

    def rows_needed(self, pred_len: int) -> int:
        return 2 * self.look_back + pred_len

    def reads(self, rows: int) -> str:
        return f"was fitted to all {rows} rows"

    def fit(self, train: Array, pred_len: int) -> Forecast:
        look_back = self.look_back
        gram, moment = np.zeros((look_back, look_back)), np.zeros((look_back, pred_len))
        for windows in _training_windows(train, look_back + pred_len):
            past, last = windows[:, :look_back], windows[:, look_back - 1 : look_back]
            features = _features(past, last)
            gram += features.T @ features
            moment += features.T @ (windows[:, look_back:] - last)
        penalty = np.full(look_back, RIDGE)
        penalty[-1] = 0.0
        weights = np.linalg.solve(gram + np.diag(penalty), moment)

        def forecast(column: Array, origins: range, target: int) -> Array:
            past = windows_before(column, origins, look_back)
            last = past[:, -1:]
            return last + _features(past, last) @ weights

        return forecast


def _features(past: Array, last: Array) -> Array:
    """Return (windows, look_back) differences to the last value, whose own 0 is replaced by the intercept."""
    features = past - last
    features[:, -1] = 1.0
    return features


def _training_windows(train: Array, length: int) -> Iterator[Array]:
    """Yield the windows of every column, (at most CHUNK, length) at a time."""
    for column in np.ascontiguousarray(train.T):
        windows = sliding_window_view(column, length)
        for first in range(0, len(windows), CHUNK):
            yield windows[first : first + CHUNK]

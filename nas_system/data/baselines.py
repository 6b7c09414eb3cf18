"""Baselines: what simple forecasts reach on exactly the windows that a model is scored on.

A result without them means little. Repeating the last value beats a careless Informer on ETTh1,
and one linear map in closed form beats nearly everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nas_system.data.loading import OpenTask
from nas_system.data.splits import SplitName
from nas_system.data.time_features import unit_of
from nas_system.space.task_info import Baseline

Array = NDArray[np.float64]
Forecast = Callable[[Array], Array]
"""(windows, look-back) -> (windows, pred_len), one column at a time."""

SEASON = {"s": 86_400, "min": 1_440, "h": 24, "D": 7, "W": 52, "MS": 12}
"""Steps in the most obvious period, for a step of one unit: the day, the week or the year."""

LOOK_BACK = 336
"""Two weeks of hours: the best look-back of a linear map on ETTh1."""

RIDGE = 10.0
"""Added to the diagonal of the normal equations, about 1e-3 per window on ETTh1; the intercept goes free."""

CHUNK = 1_024
"""Windows handled at a time: bounds the memory at about 20 MB for any series and horizon."""


def score_baselines(data: OpenTask, parts: Sequence[SplitName] = ("val", "test")) -> tuple[Baseline, ...]:
    """Return the mean squared error, on scaled data, of three forecasts that need no training.

    Last value, last season, and NLinear in closed form; one whose look-back does not fit is left out.
    """
    pred_len, train_end = data.task.pred_len, data.split.train_end
    targets = data.series.column_indices(data.task.targets)
    table = data.scaler.transform(data.series.values)[:, list(targets)]
    parts = [part for part in parts if data.split.window_starts(part, 1, pred_len)]

    def row(name: str, look_back: int, forecast: Forecast) -> Baseline:
        starts = {part: data.split.window_starts(part, look_back, pred_len) for part in parts}
        scores = {f"{part}_mse": _mse(table, starts[part], look_back, pred_len, forecast) for part in parts}
        return Baseline(name, scores)

    rows = [row("last-value", 1, lambda past: np.repeat(past[:, -1:], pred_len, axis=1))]
    season = season_of(data.series.freq)
    if season > 1 and season <= train_end:
        phase = np.arange(pred_len) % season
        rows.append(row(f"seasonal-{season}", season, lambda past: past[:, phase]))
    look_back = min(LOOK_BACK, (train_end - pred_len) // 2)
    if look_back > 1:
        nlinear = fit_nlinear(table[:train_end], look_back, pred_len)
        rows.append(row(f"nlinear-{look_back}", look_back, nlinear))
    return tuple(rows)


def season_of(freq: str) -> int:
    """Return steps in the obvious period: 24 for `h`, 96 for `15min`; 1 if the step does not divide it."""
    unit = unit_of(freq)
    count = int(freq.removesuffix(unit) or 1)
    return SEASON[unit] // count if SEASON[unit] % count == 0 else 1


def fit_nlinear(train: Array, look_back: int, pred_len: int) -> Forecast:
    """Fit NLinear (Zeng et al. 2023, arXiv:2205.13504) by ridge regression instead of gradient descent.

    The last value is subtracted from the look-back and added to the forecast; one map with an
    intercept serves all columns of `train`, (rows, targets). Only the normal equations are kept.
    """
    gram, moment = np.zeros((look_back, look_back)), np.zeros((look_back, pred_len))
    starts = range(len(train) - look_back - pred_len + 1)
    for windows in _chunks(train, starts, look_back + pred_len):
        past, last = windows[:, :look_back], windows[:, look_back - 1 : look_back]
        features = _nlinear_features(past, last)
        gram += features.T @ features
        moment += features.T @ (windows[:, look_back:] - last)
    penalty = np.full(look_back, RIDGE)
    penalty[-1] = 0.0
    weights = np.linalg.solve(gram + np.diag(penalty), moment)

    def forecast(past: Array) -> Array:
        last = past[:, -1:]
        return last + _nlinear_features(past, last) @ weights

    return forecast


def _nlinear_features(past: Array, last: Array) -> Array:
    """Return (windows, look_back) differences to the last value, whose own 0 is replaced by the intercept."""
    features = past - last
    features[:, -1] = 1.0
    return features


def _mse(table: Array, starts: range, look_back: int, pred_len: int, forecast: Forecast) -> float:
    """Return the mean over windows, steps and targets."""
    squares = 0.0
    for windows in _chunks(table, starts, look_back + pred_len):
        errors = forecast(windows[:, :look_back]) - windows[:, look_back:]
        squares += float(np.vdot(errors, errors))
    return squares / (len(starts) * pred_len * table.shape[1])


def _chunks(table: Array, starts: range, length: int) -> Iterator[Array]:
    """Yield the windows of every column, (at most CHUNK, length) at a time."""
    for column in np.ascontiguousarray(table.T):
        windows = sliding_window_view(column, length)[starts.start : starts.stop]
        for first in range(0, len(windows), CHUNK):
            yield windows[first : first + CHUNK]

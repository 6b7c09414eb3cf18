"""Gradient-boosted trees over lags: one LightGBM model for every target and every step of the horizon.

Ke et al. 2017, "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS. Imports lightgbm
when it is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_system.data.baselines.method import Array, Forecast, windows_before

LAGS = 24
"""Latest values that are read, at most."""
SEASONS, REPEATS = 2, 3
"""Of how many periods values of the same phase are read, and how many of each."""
SAMPLES = 60_000
"""Most (window, step) pairs of a fit; of more windows every second, third, ... is taken."""
TREES = 300
PARAMETERS = {
    "objective": "l2",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbosity": -1,
}


@dataclass(frozen=True)
class BoostedLags:
    """Trees that see the latest values, and those of the same phase in earlier periods, less the last value.

    What they forecast is a difference to the last value as well, so they follow a level they never saw.
    """

    seasons: tuple[int, ...] = ()
    name: str = "lightgbm"

    def rows_needed(self, pred_len: int) -> int:
        return 2 * self._look_back(10**9, pred_len) + pred_len

    def reads(self, rows: int) -> str:
        return f"was fitted to all {rows} rows"

    def fit(self, train: Array, pred_len: int) -> Forecast:
        """Fit to scaled values. Raises ValueError for too few rows."""
        from lightgbm import Dataset
        from lightgbm import train as boost

        look_back = self._look_back(len(train), pred_len)
        seasons = tuple(season for season in self.seasons if season * REPEATS <= look_back)[:SEASONS]
        count = len(train) - look_back - pred_len + 1
        if count < 1:
            raise ValueError(f"{len(train)} rows are too few for one window")
        step = -(-count * pred_len * train.shape[1] // SAMPLES)
        origins = range(look_back, look_back + count, step)
        lags = min(LAGS, look_back)
        samples = [
            _features(column, origins, pred_len, lags, seasons, target) for target, column in _columns(train)
        ]
        answers = [_answers(column, origins, pred_len) for _, column in _columns(train)]
        model = boost(PARAMETERS, Dataset(np.concatenate(samples), np.concatenate(answers)), TREES)

        def forecast(column: Array, origins: range, target: int) -> Array:
            inputs = _features(column, origins, pred_len, lags, seasons, target)
            found = np.asarray(model.predict(inputs, num_threads=1))
            return windows_before(column, origins, 1) + found.reshape(len(origins), pred_len)

        return forecast

    def _look_back(self, rows: int, pred_len: int) -> int:
        """Return how far back the features reach, where half of the rows at least are left for windows."""
        longest = max(2, (rows - pred_len) // 2)
        fitting = [season * REPEATS for season in self.seasons if season * REPEATS <= longest]
        return max([min(LAGS, longest), *fitting[:SEASONS]])


def _columns(table: Array) -> list[tuple[int, Array]]:
    return list(enumerate(np.ascontiguousarray(table.T)))


def _answers(column: Array, origins: range, pred_len: int) -> Array:
    """Return (origins * pred_len,) differences to the last value."""
    truth = windows_before(
        column, range(origins.start + pred_len, origins.stop + pred_len, origins.step), pred_len
    )
    return (truth - windows_before(column, origins, 1)).ravel()


def _features(
    column: Array, origins: range, pred_len: int, lags: int, seasons: tuple[int, ...], target: int
) -> Array:
    """Return (origins * pred_len, features): lags, same phases, a mean, step, phase, target."""
    origin, ahead = np.array(origins)[:, None], np.arange(pred_len)
    last = windows_before(column, origins, 1)
    shape = (len(origins), pred_len)
    latest = windows_before(column, origins, lags)[:, :-1] - last
    features = [np.broadcast_to(lag[:, None], shape) for lag in latest.T]
    features += [np.broadcast_to(latest.mean(axis=1, keepdims=True) if lags > 1 else last * 0, shape)]
    for season in seasons:
        # The phase of a step, one period before the origin at the latest.
        same_phase = origin - season + ahead % season
        features += [column[same_phase - repeat * season] - last for repeat in range(REPEATS)]
        features += [(origin + ahead) % season]
    features += [np.broadcast_to(ahead, shape), np.full(shape, target)]
    return np.stack([feature.ravel() for feature in features], axis=1).astype(np.float64)

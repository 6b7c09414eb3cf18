"""Forecasts that repeat or extend what was seen last: nothing is learned.

Hyndman and Athanasopoulos 2021, "Forecasting: Principles and Practice", 3rd edition, section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_system.data.baselines.method import Array, Forecast, windows_before


@dataclass(frozen=True)
class LastValue:
    """The last value, at every step."""

    name: str = "last-value"

    def rows_needed(self, pred_len: int) -> int:
        return 1

    def reads(self, rows: int) -> str:
        return f"read the last of {rows} rows"

    def fit(self, train: Array, pred_len: int) -> Forecast:
        def forecast(column: Array, origins: range, target: int) -> Array:
            return np.repeat(windows_before(column, origins, 1), pred_len, axis=1)

        return forecast


@dataclass(frozen=True)
class Drift:
    """The straight line through the first and the last known value, continued."""

    name: str = "drift"

    def rows_needed(self, pred_len: int) -> int:
        return 2

    def reads(self, rows: int) -> str:
        return f"read the first and the last of {rows} rows"

    def fit(self, train: Array, pred_len: int) -> Forecast:
        ahead = np.arange(1, pred_len + 1)

        def forecast(column: Array, origins: range, target: int) -> Array:
            last = windows_before(column, origins, 1)
            slope = (last - column[0]) / (np.array(origins)[:, None] - 1)
            return last + slope * ahead

        return forecast


@dataclass(frozen=True)
class SeasonalNaive:
    """The last `season` values, again and again."""

    season: int

    @property
    def name(self) -> str:
        return f"seasonal-{self.season}"

    def rows_needed(self, pred_len: int) -> int:
        return self.season

    def reads(self, rows: int) -> str:
        return f"read the last {self.season} of {rows} rows"

    def fit(self, train: Array, pred_len: int) -> Forecast:
        phase = np.arange(pred_len) % self.season

        def forecast(column: Array, origins: range, target: int) -> Array:
            return windows_before(column, origins, self.season)[:, phase]

        return forecast

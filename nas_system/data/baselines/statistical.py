"""AutoETS, DynamicOptimizedTheta and AutoARIMA of statsforecast, fitted once and carried on to every origin.

Hyndman and Khandakar 2008, "Automatic Time Series Forecasting: The forecast Package for R", JSS 27(3);
Fiorucci et al. 2016, "Models for optimising the theta method", IJF 32(4). Imports statsforecast when
it is fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nas_system.data.baselines.method import Array, Forecast

Kind = Literal["ets", "theta", "arima"]

HISTORY = 1_000
"""Latest training rows that a model is fitted to: several thousand take seconds, or minutes."""
RUN_UP = {"theta": 1_000, "arima": 500}
"""Most rows before an origin that move the states on to it. Neither model starts from a level of the fit that
a trend has left since; ETS does, so it reads all rows since the first of its fit."""
LONGEST_SEASON = 24
"""Of ETS and ARIMA: the former knows no longer ones, the latter becomes too slow."""
LONG_FOR_ARIMA = (150, 12)
"""Rows and season beyond which orders are chosen by an approximate likelihood, as in `forecast` for R."""


@dataclass(frozen=True)
class Statistical:
    """A local model for each target, in the units of the data: some are only for positive values.

    The coefficients come from the last `HISTORY` rows of the fit; a later origin moves the states on by
    the rows since then and estimates nothing again.
    """

    name: Kind
    seasons: tuple[int, ...] = ()
    """Periods of the data, the best first; the first that the model can have and see twice is used."""

    def rows_needed(self, pred_len: int) -> int:
        return 10

    def reads(self, rows: int) -> str:
        which = f"the last {HISTORY} of" if rows > HISTORY else "all"
        return f"was fitted to {which} {rows} rows"

    def fit(self, train: Array, pred_len: int) -> Forecast:
        """Fit to unscaled values. Raises any exception of statsforecast for a model that cannot be fitted."""
        first = max(0, len(train) - HISTORY)
        build = _BUILD[self.name]
        fitted = [
            build(self._season(len(train) - first), len(train)).fit(column[first:]) for column in train.T
        ]

        def forecast(column: Array, origins: range, target: int) -> Array:
            model = fitted[target]
            rows = [
                model.forward(column[self.first_row(origin, len(train)) : origin], pred_len)["mean"]
                for origin in origins
            ]
            values = np.array(rows, dtype=np.float64).reshape(len(origins), pred_len)
            if not np.isfinite(values).all():
                raise ArithmeticError("its forecast is not a finite number")
            return values

        return forecast

    def first_row(self, origin: int, train_end: int) -> int:
        """Return the first row that a forecast from `origin` reads, after a fit to `train_end` rows."""
        first = max(0, train_end - HISTORY)
        return max(first, origin - RUN_UP[self.name]) if self.name in RUN_UP else first

    def _season(self, rows: int) -> int:
        longest = rows // 2 if self.name == "theta" else min(LONGEST_SEASON, rows // 2)
        return next((season for season in self.seasons if season <= longest), 1)


def _build_ets(season: int, rows: int) -> Any:
    from statsforecast.models import AutoETS

    return AutoETS(season_length=season)


def _build_theta(season: int, rows: int) -> Any:
    from statsforecast.models import DynamicOptimizedTheta

    return DynamicOptimizedTheta(season_length=season)


def _build_arima(season: int, rows: int) -> Any:
    from statsforecast.models import AutoARIMA

    many, long = LONG_FOR_ARIMA
    return AutoARIMA(season_length=season, approximation=rows > many or season > long)


_BUILD: Mapping[Kind, Callable[[int, int], Any]] = {
    "ets": _build_ets,
    "theta": _build_theta,
    "arima": _build_arima,
}

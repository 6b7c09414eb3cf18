"""Linear forecasters: one linear map over time, which many a Transformer fails to beat.

Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?", arXiv:2205.13504:
NLinear (subtract the last value), DLinear (moving average and rest, one map each).

Unlike the paper the normalisation is free (none, last, mean, RevIN) and may be joined with the
decomposition.
"""

from __future__ import annotations

from torch import Tensor

from nas_system.sequential.forecaster import Forecaster
from nas_system.sequential.layers.time_linear import TimeLinear
from nas_system.space.families import LinearConfig
from nas_system.space.shape import SeriesShape


class LinearForecaster(Forecaster):
    """The linear family. It reads the target columns only; other inputs and time marks are ignored."""

    def __init__(self, config: LinearConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        self.map = self.time_map(config, shape)

    def time_map(self, config: LinearConfig, shape: SeriesShape) -> TimeLinear:
        individual = config.individual and shape.n_targets > 1
        return TimeLinear(shape.seq_len, shape.pred_len, shape.n_targets if individual else None)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self.map(x)

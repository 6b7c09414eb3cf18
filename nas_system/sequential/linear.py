"""Linear forecasters: one linear map over time, which many a Transformer fails to beat.

Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?", arXiv:2205.13504:
NLinear (subtract the last value), DLinear (moving average and rest, one map each).

Unlike the paper the normalisation is free (none, last, mean, RevIN) and may be joined with the
decomposition.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.layers.normalization import InstanceNormalization
from nas_system.sequential.layers.time_linear import TimeLinear
from nas_system.space.families import LinearConfig
from nas_system.space.shape import SeriesShape


class LinearForecaster(nn.Module):
    """The linear family. It reads the target columns only; other inputs and time marks are ignored."""

    target_columns: Tensor

    def __init__(self, config: LinearConfig, shape: SeriesShape) -> None:
        super().__init__()
        n_maps = shape.n_targets if config.individual else None
        self.kernel = config.kernel
        self.normalization = InstanceNormalization(config.normalization, shape.n_targets)
        self.map = TimeLinear(shape.seq_len, shape.pred_len, n_maps)
        self.trend_map = TimeLinear(shape.seq_len, shape.pred_len, n_maps) if config.decomposition else None
        self.register_buffer("target_columns", torch.tensor(shape.target_columns), persistent=False)

    def forward(self, x: Tensor, x_mark: Tensor | None = None, y_mark: Tensor | None = None) -> Tensor:
        """`(B, seq_len, inputs)` -> `(B, pred_len, targets)`."""
        x, statistics = self.normalization.normalise(x.index_select(-1, self.target_columns))
        if self.trend_map is None:
            forecast = self.map(x)
        else:
            trend = moving_average(x, self.kernel)
            forecast = self.map(x - trend) + self.trend_map(trend)
        return self.normalization.restore(forecast, statistics)


def moving_average(x: Tensor, kernel: int) -> Tensor:
    """Centred average of `kernel` (odd) steps of `(B, L, C)`; the ends are continued by their own values."""
    padded = F.pad(x.mT, (kernel // 2, kernel // 2), mode="replicate")
    return F.avg_pool1d(padded, kernel, stride=1).mT

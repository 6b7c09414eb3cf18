"""Linear forecasters: one linear map over time, which many a Transformer fails to beat.

Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?", arXiv:2205.13504:
NLinear (subtract the last value), DLinear (moving average and rest, one map each), trained by gradient
descent or, as the ridge family, fitted in closed form.

Unlike the paper the normalisation is free (none, last, mean, RevIN, seasonal) and may be joined with the
decomposition.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.data.measures.closed_form import SLOW_FEATURES, WAVES
from nas_system.sequential.forecaster import Forecaster
from nas_system.sequential.layers.ridge_regression import RidgeRegression
from nas_system.sequential.layers.time_linear import TimeLinear
from nas_system.space.families import LinearConfig, RidgeConfig
from nas_system.space.families.family import NormalizedConfig
from nas_system.space.shape import SeriesShape


class LinearForecaster(Forecaster):
    """The linear family. It reads the target columns only; other inputs and time marks are ignored."""

    def __init__(self, config: LinearConfig | RidgeConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        self.map = self.time_map(config, shape)
        self.starts_solved = isinstance(config, LinearConfig) and config.linear_start == "ridge"

    def time_map(self, config: NormalizedConfig, shape: SeriesShape) -> TimeLinear:
        individual = getattr(config, "individual", False) and shape.n_targets > 1
        return TimeLinear(shape.seq_len, shape.pred_len, shape.n_targets if individual else None)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self.map(x)

    def solve_map(self, batches: Iterable[Any], windows: int) -> None:
        weights = self._regressed(batches, windows, None)
        self.map.set_to(weights)
        if self.trend_path is not None:
            self.trend_path.set_to(weights, bias=False)

    def _regressed(self, batches: Iterable[Any], windows: int, strength: float | None) -> Tensor:
        regression = RidgeRegression(windows, individual=self.map.weight.dim() == 3)
        return self.regressed(batches, regression).solution(strength)


class RidgeForecaster(LinearForecaster):
    """The ridge family: the linear map that minimises the squared error plus a penalty on its weights."""

    def __init__(self, config: RidgeConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        self.starts_solved = True
        self.strength = config.strength
        n_waves = WAVES * max(shape.n_marks - SLOW_FEATURES, 0) if config.time_features else 0
        maps = shape.n_targets if self.map.weight.dim() == 3 else 1
        self.clock = nn.Parameter(torch.zeros(maps, shape.pred_len, n_waves)) if n_waves else None

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        forecast = self.map(x)
        if self.clock is None or y_mark is None:
            return forecast
        return forecast + torch.einsum("chw,bw->bhc", self.clock, clock_waves(y_mark))

    def solve_map(self, batches: Iterable[Any], windows: int) -> None:
        weights = self._regressed(batches, windows, self.strength)
        n_waves = 0 if self.clock is None else self.clock.shape[-1]
        look_back = weights.shape[-1] - 1 - n_waves
        self.map.set_to(torch.cat([weights[..., :look_back], weights[..., -1:]], dim=-1))
        if self.clock is not None:
            with torch.no_grad():
                self.clock.copy_(weights[..., look_back:-1])

    def regression_terms(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        features, wanted = super().regression_terms(x, x_mark, y_mark, target)
        if self.clock is None or y_mark is None:
            return features, wanted
        # A window's scale, where it has one, is in its constant.
        clock = clock_waves(y_mark)[..., None] * features[:, -1:]
        return torch.cat([features[:, :-1], clock, features[:, -1:]], dim=1), wanted


def clock_waves(y_mark: Tensor) -> Tensor:
    """Return the cosines (B, waves) of `closed_form.clock_waves` at the first forecast step."""
    numbers = torch.arange(1, WAVES + 1, device=y_mark.device)
    clock = y_mark[:, 0, : y_mark.shape[2] - SLOW_FEATURES, None]
    return torch.cos(math.pi * (clock + 0.5) * numbers).flatten(1)

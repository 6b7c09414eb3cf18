"""The frame around every network: normalise the window, forecast, add the linear paths, restore.

Instance normalisation, channel independence, decomposition and a linear path to the output decide
more on real series than the network between them, so every family gets them from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.layers.moving_average import moving_average
from nas_system.sequential.layers.normalization import InstanceNormalization, WindowStatistics
from nas_system.sequential.layers.ridge_regression import RidgeRegression
from nas_system.sequential.layers.time_linear import TimeLinear
from nas_system.space.families.family import NormalizedConfig
from nas_system.space.shape import SeriesShape


class Forecaster(nn.Module, ABC):
    """Base of the families: a subclass implements `forecast` on a normalised window.

    Subclasses build their network for `self.inner`, the shape that `forecast` sees: one channel when
    channels are treated one by one, else that of the problem.
    """

    input_columns: Tensor
    target_columns: Tensor

    def __init__(self, config: NormalizedConfig, shape: SeriesShape) -> None:
        super().__init__()
        self.one_by_one = shape.n_targets > 1 and getattr(config, "channel_independence", False)
        self.targets_only = self.one_by_one or not config.reads_covariates
        linear_path = getattr(config, "linear_path", False)
        decomposition = getattr(config, "decomposition", False)
        if not shape.target_columns and (self.targets_only or linear_path or decomposition):
            raise ConfigError(
                f"family {config.family!r}: linear_path, decomposition and channel_independence forecast "
                "targets from their own past, but here the targets are not among the inputs; turn them off, "
                "or choose a family that can do without"
            )
        n_channels = shape.n_targets if self.targets_only else shape.n_inputs
        self.inner = inner_shape(shape, one_by_one=self.one_by_one, targets_only=self.targets_only)
        self.kernel = getattr(config, "kernel", 0)
        self.normalization = InstanceNormalization(config.normalization, n_channels, config.season)
        self.linear_path = TimeLinear(shape.seq_len, shape.pred_len) if linear_path else None
        self.trend_path = self.time_map(config, shape) if decomposition else None
        starts_linear = linear_path and getattr(config, "linear_start", "mean") == "ridge"
        # From 0 (Bachlechner et al. 2020, arXiv:2003.04887): the first forecast is that of the linear path.
        self.gate = nn.Parameter(torch.zeros(())) if starts_linear else None
        columns = range(shape.n_targets) if self.targets_only else shape.target_columns
        self.register_buffer("input_columns", torch.tensor(shape.target_columns), persistent=False)
        self.register_buffer("target_columns", torch.tensor(columns, dtype=torch.long), persistent=False)

    def time_map(self, config: NormalizedConfig, shape: SeriesShape) -> TimeLinear:
        """Build the linear map that forecasts the moving average."""
        return TimeLinear(shape.seq_len, shape.pred_len)

    @abstractmethod
    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        """`(B, seq_len, inner.n_inputs)` and time marks -> `(B, pred_len, inner.n_targets)`."""
        ...

    def forward(self, x: Tensor, x_mark: Tensor | None = None, y_mark: Tensor | None = None) -> Tensor:
        """`(B, seq_len, inputs)` and time marks of look-back and horizon -> `(B, pred_len, targets)`."""
        x, trend, statistics = self._normalised(x)
        if self.one_by_one:
            alone = self._channels_as_items(x, x_mark, y_mark)
            forecast = self.forecast(*alone).reshape(*x.shape[::2], -1).mT
        else:
            forecast = self.forecast(x, x_mark, y_mark)
        if self.gate is not None:
            forecast = self.gate * forecast
        if self.linear_path is not None:
            forecast = forecast + self.linear_path(x.index_select(-1, self.target_columns))
        if self.trend_path is not None and trend is not None:
            forecast = forecast + self.trend_path(trend.index_select(-1, self.target_columns))
        if not len(self.target_columns):
            return forecast  # what is forecast is no input: the window's scale is not its scale
        return self.normalization.restore(forecast, statistics, self.target_columns)

    @property
    def in_closed_form(self) -> bool:
        """Whether `solve` gives the model, or its linear path, the solution of a ridge regression."""
        return self.gate is not None

    def solve(self, batches: Iterable[Any], windows: int) -> None:
        """Set the linear path to the ridge regression of `windows` training windows, in their order.

        The penalty is the one with which the last fifth of them is forecast best.
        """
        assert self.linear_path is not None
        weights = self.regressed(batches, RidgeRegression(windows)).solution()
        self.linear_path.set_to(weights)
        if self.trend_path is not None:
            self.trend_path.set_to(weights, bias=False)

    def regressed(self, batches: Iterable[Any], regression: RidgeRegression) -> RidgeRegression:
        """Return the regression with all windows of the batches added."""
        for batch in batches:
            x, x_mark, y_mark = batch.args
            regression.add(*self.regression_terms(x, x_mark, y_mark, batch.target))
        return regression

    def regression_terms(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what a linear map reads, `(B, seq_len + 1, targets)` with a constant last, and should give.

        Both in the scale of the data, so that a window counts as much as in the score.
        """
        if self.targets_only:
            x = x.index_select(-1, self.input_columns)
        x, statistics = self.normalization.normalise(x)
        features = x.index_select(-1, self.target_columns)
        features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        if statistics.scale is not None:
            features = features * statistics.scale.index_select(-1, self.target_columns)
        alone = self.normalization.restore(torch.zeros_like(target), statistics, self.target_columns)
        return features, target - alone

    def network_inputs(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the input of `forecast`; with channel independence `(B * targets, seq_len, 1)`."""
        x, _, _ = self._normalised(x)
        return self._channels_as_items(x, x_mark, y_mark) if self.one_by_one else (x, x_mark, y_mark)

    def _normalised(self, x: Tensor) -> tuple[Tensor, Tensor | None, WindowStatistics]:
        """Return the normalised window without its trend, the trend if split off, and the statistics."""
        if self.targets_only:
            x = x.index_select(-1, self.input_columns)
        x, statistics = self.normalization.normalise(x)
        if self.trend_path is None:
            return x, None, statistics
        trend = moving_average(x, self.kernel)
        return x - trend, trend, statistics

    def _channels_as_items(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Turn every channel into a batch item, so that one network serves all."""
        x_mark, y_mark = (
            None if mark is None else mark.repeat_interleave(x.shape[2], 0) for mark in (x_mark, y_mark)
        )
        return x.mT.reshape(-1, x.shape[1], 1), x_mark, y_mark


def inner_shape(shape: SeriesShape, *, one_by_one: bool, targets_only: bool) -> SeriesShape:
    """Return the shape that the network inside the frame sees."""
    if one_by_one:
        return replace(shape, n_inputs=1, target_columns=(0,))
    if targets_only:
        return replace(shape, n_inputs=shape.n_targets, target_columns=tuple(range(shape.n_targets)))
    return shape


def with_marks(x: Tensor, marks: Tensor | None) -> Tensor:
    """`x (B, T, C)` with the time features of its steps as further channels, if there are any."""
    return x if marks is None else torch.cat([x, marks], dim=-1)

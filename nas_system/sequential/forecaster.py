"""The frame around every network: normalise the window, forecast, add the linear paths, restore.

Instance normalisation, channel independence, decomposition and a linear path to the output decide
more on real series than the network between them, so every family gets them from here. So do columns
whose future is known: what they add to the targets is taken off the window first and put onto the
forecast last (`layers/known_effects.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.layers.known_effects import EffectRegression, KnownEffects
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

    reads_known: ClassVar[bool] = False
    """Whether `forecast` reads the known columns behind the time marks, `inner.n_marks` counting both; else
    they reach the forecast by their effects alone."""

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
        if shape.n_known and not shape.target_columns:
            raise ConfigError(
                f"family {config.family!r}: columns with a known future are read with the targets' own past, "
                "but here the targets are not among the inputs; leave those columns out"
            )
        n_channels = shape.n_targets if self.targets_only else shape.n_inputs
        self.inner = inner_shape(shape, one_by_one=self.one_by_one, targets_only=self.targets_only)
        if self.reads_known:
            self.inner = replace(self.inner, n_marks=shape.n_marks + shape.n_known)
        self.n_clock_marks = shape.n_marks
        self.effects = KnownEffects(shape.n_known, shape.n_targets) if shape.n_known else None
        self.kernel = getattr(config, "kernel", 0)
        self.normalization = InstanceNormalization(config.normalization, n_channels, config.season)
        self.linear_path = TimeLinear(shape.seq_len, shape.pred_len) if linear_path else None
        self.trend_path = self.time_map(config, shape) if decomposition else None
        starts_linear = linear_path and getattr(config, "linear_start", "mean") == "ridge"
        # From 0 (Bachlechner et al. 2020, arXiv:2003.04887): the first forecast is that of the linear path.
        self.gate = nn.Parameter(torch.zeros(())) if starts_linear else None
        self.starts_solved = starts_linear
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
        """`(B, seq_len, inputs)` and marks of look-back and horizon -> `(B, pred_len, targets)`.

        Marks are time features, then the known columns.
        """
        x, x_mark, y_mark, effect = self._without_effects(x, x_mark, y_mark)
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
        forecast = self.normalization.restore(forecast, statistics, self.target_columns)
        return forecast if effect is None else forecast + effect

    @property
    def in_closed_form(self) -> bool:
        """Whether `solve` gives the model, or a part of it, the solution of a ridge regression."""
        return self.effects is not None or self.starts_solved

    @torch.no_grad()
    def solve(self, batches: Iterable[Any], windows: int) -> None:
        """Set the effects of known columns, then what else has a closed form.

        `batches` gives the `windows` training windows in their order, each time that it is iterated.
        """
        if self.effects is not None:
            self.effects.set_to(self._estimated_effects(batches, windows))
        if self.starts_solved:
            self.solve_map(batches, windows)

    def solve_map(self, batches: Iterable[Any], windows: int) -> None:
        """Set the linear path to the ridge regression of the windows without effects of known columns.

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
            x, x_mark, y_mark, effect = self._without_effects(*batch.args)
            target = batch.target if effect is None else batch.target - effect
            regression.add(*self.regression_terms(x, x_mark, y_mark, target))
        return regression

    def regression_terms(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what a linear map reads, `(B, seq_len + 1, targets)` with a constant last, and should give.

        Both in the scale of the data, so that a window counts as much as in the score. Window, marks and
        target are those that are left without the known columns.
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
        x, x_mark, y_mark, _ = self._without_effects(x, x_mark, y_mark)
        x, _, _ = self._normalised(x)
        return self._channels_as_items(x, x_mark, y_mark) if self.one_by_one else (x, x_mark, y_mark)

    def _without_effects(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Return the window without the effects of known columns, the marks that `forecast` reads, and the
        effects in the horizon, `(B, pred_len, targets)`; None where no column is known."""
        if self.effects is None:
            return x, x_mark, y_mark, None
        assert x_mark is not None and y_mark is not None
        clock = self.n_clock_marks
        effect = self.effects(x_mark[..., clock:])
        x = x.index_add(-1, self.input_columns, effect.to(x.dtype), alpha=-1)
        effect = self.effects(y_mark[..., clock:])
        if self.reads_known:
            return x, x_mark, y_mark, effect
        if not clock:
            return x, None, None, effect
        return x, x_mark[..., :clock], y_mark[..., :clock], effect

    def _estimated_effects(self, batches: Iterable[Any], windows: int) -> Tensor:
        """Return the linear effects `(targets, known)` that the windows show."""
        regression: EffectRegression | None = None
        for batch in batches:
            x, x_mark, y_mark = batch.args
            past, known_past = x.index_select(-1, self.input_columns), x_mark[..., self.n_clock_marks :]
            known_next = y_mark[:, 0, self.n_clock_marks :]
            if regression is None:
                sizes = (past.shape[1], past.shape[2], known_next.shape[1])
                regression = EffectRegression(windows, *sizes)
            regression.add(past, known_past, known_next, batch.target[:, 0])
        assert regression is not None, "there is no training without a window"
        return regression.solution()

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

"""Temporal convolutional network: causal convolutions whose reach doubles with every level.

Bai, Kolter and Koltun 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks
for Sequence Modeling", arXiv:1803.01271, section 3; weight normalisation is Salimans and Kingma 2016,
arXiv:1602.07868.

Unlike the paper we read the last step's state alone and forecast the whole horizon from it. That
state depends on every second step of the top level's input, on every second of those below, and so
on, so nothing else is computed: a level of dilation 2**i runs undilated on the steps that are left,
which gives the same numbers for about two levels' work instead of `num_layers`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from nas_system.sequential.forecaster import Forecaster, with_marks
from nas_system.sequential.layers.causal_convolution import CausalConv
from nas_system.sequential.layers.convolution import PointwiseConv
from nas_system.sequential.layers.dropout import Dropout
from nas_system.sequential.layers.horizon_head import HorizonHead
from nas_system.space.families import TCNConfig
from nas_system.space.shape import SeriesShape


class ChannelDropout(nn.Module):
    """Drops whole channels of `(batch, time, channels)`: neighbouring steps would reveal a single one."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropout = Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropout.rate == 0.0:
            return x
        return x * self.dropout(x.new_ones(x.shape[0], 1, x.shape[2]))


class ResidualLevel(nn.Module):
    """Two causal convolutions next to a shortcut, every second step: `(B, T, in) -> (B, ceil(T/2), out)`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.first = weight_norm(CausalConv(in_channels, out_channels, kernel_size))
        self.second = weight_norm(CausalConv(out_channels, out_channels, kernel_size, stride=2))
        alike = in_channels == out_channels
        self.shortcut = nn.Identity() if alike else PointwiseConv(in_channels, out_channels)
        self.dropout = ChannelDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(F.relu(self.first(x)))
        out = self.dropout(F.relu(self.second(out)))
        kept = x[:, (x.shape[1] - 1) % 2 :: 2]
        return F.relu(out + self.shortcut(kept))


class TCNForecaster(Forecaster):
    """The temporal convolutional family."""

    def __init__(self, config: TCNConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        widths = [self.inner.n_inputs + self.inner.n_marks, *[config.hidden_size] * config.num_layers]
        self.levels = nn.Sequential(
            *[
                ResidualLevel(width, config.hidden_size, config.kernel_size, config.dropout)
                for width in widths[:-1]
            ]
        )
        self.head = HorizonHead(config.hidden_size, self.inner)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self.head(self.levels(with_marks(x, x_mark))[:, -1])

"""Convolutions over time on `(batch, time, channels)`, computed as matrix products.

Both keep the parameters of `nn.Conv1d` (names, shapes, initialisation), so weights trained
with real convolutions load. On a CPU the products are faster and need no transposes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PointwiseConv(nn.Conv1d):
    """A convolution of width 1: the same linear map at every step."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.squeeze(-1), self.bias)


class CircularConv(nn.Conv1d):
    """A convolution of width 3 on a circle: the last step is the neighbour of the first."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3)

    def forward(self, input: Tensor) -> Tensor:
        before = torch.cat([input[:, -1:], input[:, :-1]], dim=1)
        after = torch.cat([input[:, 1:], input[:, :1]], dim=1)
        neighbours = torch.cat([before, input, after], dim=-1)  # (B, L, 3 C)
        return F.linear(neighbours, self.weight.transpose(1, 2).flatten(1), self.bias)

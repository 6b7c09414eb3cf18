"""A convolution over time that never looks ahead, on `(batch, time, channels)`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv(nn.Conv1d):
    """Step t of the output sees the input's steps t - kernel_size + 1 .. t, zeros before the first.

    With a stride only every so many steps are computed, counted back from the last one, which is
    always among them. Parameters are those of `nn.Conv1d`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)

    def forward(self, input: Tensor) -> Tensor:
        (kernel_size,), (stride,) = self.kernel_size, self.stride
        first = (input.shape[1] - 1) % stride
        # Padding on the left only. Symmetric padding would let a step see its future.
        padded = F.pad(input.mT, (kernel_size - 1, 0))
        return super().forward(padded[..., first:]).mT

"""Instance normalisation: every window is shifted (and scaled) by its own statistics, the forecast back.

It removes the drift between training and test part that a global scaler leaves in. `last` is
NLinear's (Zeng et al. 2023, arXiv:2205.13504); `seasonal` leaves the difference to one season before, and
restores with the last season; `revin` is Kim et al. 2022, "Reversible Instance
Normalization for Accurate Time-Series Forecasting against Distribution Shift" (ICLR).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nas_system.space.families import Normalization

EPSILON = 1e-5


class WindowStatistics(NamedTuple):
    """Per window and channel, `(batch, 1, channels)`, or `(batch, season, channels)` for the centre of
    `seasonal`; None where the kind has no such part."""

    center: Tensor | None
    scale: Tensor | None


class InstanceNormalization(nn.Module):
    """`normalise` a look-back window, `restore` the forecast with the same window's statistics."""

    def __init__(self, kind: Normalization, n_channels: int, season: int = 1) -> None:
        """`season`, in steps, is for `seasonal`."""
        super().__init__()
        self.kind = kind
        self.season = season
        self.affine = nn.ParameterDict()
        if kind == "revin":
            self.affine["weight"] = nn.Parameter(torch.ones(n_channels))
            self.affine["bias"] = nn.Parameter(torch.zeros(n_channels))

    def normalise(self, x: Tensor) -> tuple[Tensor, WindowStatistics]:
        """`(batch, seq_len, channels)` -> the normalised window and what undoes it."""
        if self.kind == "none":
            return x, WindowStatistics(None, None)
        if self.kind == "last":
            center = x[:, -1:]
            return x - center, WindowStatistics(center, None)
        if self.kind == "seasonal":
            before = x[:, : -self.season]
            difference = x[:, self.season :] - before
            # The first season has nothing before it.
            first = torch.zeros_like(x[:, : self.season])
            return torch.cat([first, difference], dim=1), WindowStatistics(x[:, -self.season :], None)
        if self.kind == "mean":
            center = x.mean(dim=1, keepdim=True)
            return x - center, WindowStatistics(center, None)
        variance, center = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        scale = torch.sqrt(variance + EPSILON)  # epsilon: a constant window has no variance
        normal = (x - center) / scale * self.affine["weight"] + self.affine["bias"]
        return normal, WindowStatistics(center, scale)

    def restore(self, y: Tensor, statistics: WindowStatistics, columns: Tensor | None = None) -> Tensor:
        """`(batch, pred_len, targets)` back to the scale of the window.

        `columns` are the normalised channels that are targets; None means all, in order.
        """
        center, scale = statistics
        if center is None:
            return y
        if self.kind == "seasonal":
            steps = torch.arange(y.shape[1], device=y.device) % self.season
            return y + _pick(center, columns).index_select(1, steps)
        if scale is None:
            return y + _pick(center, columns)
        weight, bias = _pick(self.affine["weight"], columns), _pick(self.affine["bias"], columns)
        # As in the original: the square keeps the division finite should a weight reach zero.
        y = (y - bias) / (weight + EPSILON**2)
        return y * _pick(scale, columns) + _pick(center, columns)


def _pick(channels: Tensor, columns: Tensor | None) -> Tensor:
    return channels if columns is None else channels.index_select(-1, columns)

"""N-HiTS: perceptrons at several rates, whose few numbers are interpolated to a forecast.

Challu et al. 2022, "N-HiTS: Neural Hierarchical Interpolation for Time Series Forecasting",
arXiv:2201.12886, section 3. Every block reads the maxima of groups of neighbouring steps (3.1), and a
perceptron (3.2) gives values at a few knots, which are joined by straight lines to a part of the
forecast and to what the block explains of the look-back (3.3). The next block reads what is left;
the forecast is the sum of the parts.

Unlike the paper, whose rates are a list, a stack's group length is a power of one base, and it is
also the distance of its knots. Normalisation of the window and a linear path past the network are
those of all families.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.forecaster import Forecaster
from nas_system.sequential.layers.dropout import Dropout
from nas_system.space.families import NHiTSConfig
from nas_system.space.shape import SeriesShape


class NHiTSForecaster(Forecaster):
    """The N-HiTS family. Every target goes alone through one network; other inputs and marks are ignored."""

    def __init__(self, config: NHiTSConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        sizes = [
            min(config.pooling**power, shape.seq_len)  # no group is longer than the window
            for power in reversed(range(config.stacks))
            for _ in range(config.blocks)
        ]
        last = len(sizes) - 1
        self.blocks = nn.ModuleList(
            Block(config, shape, size, explains=number < last) for number, size in enumerate(sizes)
        )

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        rest, forecast = x.mT, x.new_zeros(())  # (B, C, L)
        for block in self.blocks:
            backcast, part = block(rest)
            forecast = forecast + part
            if backcast is not None:
                rest = rest - backcast
        return forecast.mT


class Block(nn.Module):
    """Pooling, a perceptron, two interpolations: `(..., L)` to backcast `(..., L)` and forecast `(..., H)`.

    Nobody reads what the last block leaves: without `explains` it returns None for a backcast.
    """

    def __init__(self, config: NHiTSConfig, shape: SeriesShape, size: int, *, explains: bool) -> None:
        super().__init__()
        self.size = size
        width = math.ceil(shape.seq_len / size)
        layers: list[nn.Module] = []
        for _ in range(config.num_layers):
            layers += [nn.Linear(width, config.hidden_size), nn.ReLU(), Dropout(config.dropout)]
            width = config.hidden_size
        self.perceptron = nn.Sequential(*layers)
        self.backcast = InterpolatedHead(width, shape.seq_len, size) if explains else None
        self.forecast = InterpolatedHead(width, shape.pred_len, size)

    def forward(self, rest: Tensor) -> tuple[Tensor | None, Tensor]:
        hidden = self.perceptron(group_maxima(rest, self.size))
        return None if self.backcast is None else self.backcast(hidden), self.forecast(hidden)


class InterpolatedHead(nn.Module):
    """A linear map to values at knots about `distance` steps apart, and straight lines between them.

    `(..., width) -> (..., length)`.
    """

    between: Tensor

    def __init__(self, width: int, length: int, distance: int) -> None:
        super().__init__()
        n_knots = math.ceil(length / distance)
        self.knots = nn.Linear(width, n_knots)
        self.register_buffer("between", interpolation(n_knots, length), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.knots(hidden) @ self.between


def interpolation(n_knots: int, length: int) -> Tensor:
    """Return the map `(n_knots, length)` from values at evenly spaced knots to all steps.

    First and last knot are the first and last step; a single knot stands for all steps.
    """
    places = torch.linspace(0, n_knots - 1, length)
    distances = (places - torch.arange(n_knots)[:, None]).abs()
    return (1 - distances).clamp(min=0)


def group_maxima(x: Tensor, size: int) -> Tensor:
    """Max-pool every `size` steps of `(..., L)`; the last group ends with the last step."""
    if size == 1:
        return x
    missing = -x.shape[-1] % size
    return F.pad(x, (missing, 0), value=-math.inf).unflatten(-1, (-1, size)).amax(dim=-1)

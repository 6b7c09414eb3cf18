"""Random-walk return probabilities: how likely a walk of t steps ends where it began.

Dwivedi, Luu, Laurent, Bengio, Bresson 2021, "Graph Neural Networks with Learnable Structural and
Positional Representations", arXiv:2110.07875. Message passing cannot count the cycles through a node;
this can, and it has neither a sign nor a basis to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.graphs.encodings.dense import DenseGraphs


@dataclass(frozen=True)
class RandomWalk:
    """Return the diagonal of (D^-1 A)^t for every t in `steps`, (B, n, len(steps)).

    A walk cannot begin at an isolated node: zero.
    """

    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32)

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1:
            raise ConfigError(
                f"encoding 'random_walk': steps={self.steps}, but it takes whole numbers from 1"
            )

    @property
    def size(self) -> int:
        return len(self.steps)

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        power = graphs.adjacency / graphs.degree.clamp(min=1).unsqueeze(-1)
        wanted: list[Tensor | None] = [None] * len(self.steps)
        # Binary exponentiation of all powers together: one squaring for each bit of the longest walk.
        for bit in range(max(self.steps).bit_length()):
            for place, step in enumerate(self.steps):
                if step >> bit & 1:
                    product = wanted[place]
                    wanted[place] = power if product is None else product @ power
            if bit + 1 < max(self.steps).bit_length():
                power = power @ power
        return torch.stack([walk.diagonal(dim1=-2, dim2=-1) for walk in wanted if walk is not None], dim=-1)

"""Shortest-path distance between every two nodes, as a class of its own for each length.

The spatial encoding of Ying et al. 2021, "Do Transformers Really Perform Bad for Graph
Representation?" (Graphormer), arXiv:2106.05234, section 3.1.2: one learnable bias for each distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.graphs.encodings.dense import DenseGraphs


@dataclass(frozen=True)
class ShortestPath:
    """Return one-hot (B, n, n, max_distance + 2): distance 0, 1, ..., `max_distance` or more, unreachable.

    The channel `unreachable` stands for pairs in different components. Padding is zero everywhere.
    """

    max_distance: int = 8

    def __post_init__(self) -> None:
        if self.max_distance < 1:
            raise ConfigError(
                f"encoding 'shortest_path': max_distance={self.max_distance}, but 1 is the least"
            )

    @property
    def size(self) -> int:
        return self.max_distance + 2

    @property
    def unreachable(self) -> int:
        return self.max_distance + 1

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        reached = torch.diag_embed(graphs.mask.to(graphs.adjacency.dtype))
        distance = torch.where(graphs.connected, self.max_distance, self.unreachable)
        distance = torch.where(reached > 0, 0, distance)
        for length in range(1, self.max_distance):
            grown = (reached + reached @ graphs.adjacency).clamp(max=1)
            distance = torch.where((grown > 0) & (reached == 0), length, distance)
            reached = grown
        distance = distance.masked_fill(~graphs.pair_mask, -1)
        return (distance.unsqueeze(-1) == torch.arange(self.size, device=distance.device)).float()

"""From nodes to an answer: one for every graph, or one for every pair of nodes that is asked about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.graphs.padding import PaddedLayout

POOLINGS: dict[str, Callable[[PaddedLayout, Tensor], Tensor]] = {
    "mean": PaddedLayout.mean,
    "sum": PaddedLayout.sum,
}


class GraphHead(nn.Module):
    """One answer for every graph, (B, outputs), from the mean or the sum of its nodes."""

    def __init__(self, width: int, n_outputs: int, dropout: float, pooling: str) -> None:
        super().__init__()
        self.pool = POOLINGS[pooling]
        self.mlp = _mlp(width, n_outputs, dropout)

    def forward(self, nodes: Tensor, layout: PaddedLayout, batch: Any) -> Tensor:
        return self.mlp(self.pool(layout, nodes))


class EdgeHead(nn.Module):
    """One answer for every pair of nodes in `edge_label_index` (2, L): (L, outputs).

    It reads the product and the distance of the two, so the pair's order does not matter.
    """

    def __init__(self, width: int, n_outputs: int, dropout: float, pooling: str) -> None:
        super().__init__()
        self.mlp = _mlp(2 * width, n_outputs, dropout)

    def forward(self, nodes: Tensor, layout: PaddedLayout, batch: Any) -> Tensor:
        pairs = getattr(batch, "edge_label_index", None)
        if pairs is None:
            raise ConfigError(
                "the graphs have no edge_label_index (2, L): the pairs of nodes that the model shall score"
            )
        one, other = (nodes.index_select(0, end) for end in pairs.unbind())
        return self.mlp(torch.cat([one * other, (one - other).abs()], dim=-1))


HEADS: dict[str, Callable[[int, int, float, str], nn.Module]] = {"graph": GraphHead, "edge": EdgeHead}
"""By what an answer is given for."""


def _mlp(width: int, n_outputs: int, dropout: float) -> nn.Module:
    half = max(width // 2, n_outputs)
    return nn.Sequential(nn.Linear(width, half), nn.ReLU(), nn.Dropout(dropout), nn.Linear(half, n_outputs))

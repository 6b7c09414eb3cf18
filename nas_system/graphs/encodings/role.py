"""Structural role: what a node looks like from nearby, wherever in the graph it is.

Degree; clustering coefficient (Watts and Strogatz 1998, "Collective dynamics of 'small-world'
networks", Nature 393); core number (Seidman 1983, "Network structure and minimum degree", Social
Networks 5): the largest k such that the node lives in a subgraph where everybody has k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_system.graphs.encodings.dense import DenseGraphs


@dataclass(frozen=True)
class Role:
    """Return degree, clustering coefficient and core number of every node, (B, n, 3)."""

    @property
    def size(self) -> int:
        return 3

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        return torch.stack((graphs.degree, _clustering(graphs), _core_numbers(graphs)), dim=-1)


def _clustering(graphs: DenseGraphs) -> Tensor:
    """Return the share of a node's pairs of neighbours that are neighbours; 0 with less than two."""
    closed = ((graphs.adjacency @ graphs.adjacency) * graphs.adjacency).sum(-1)
    return closed / (graphs.degree * (graphs.degree - 1)).clamp(min=1)


def _core_numbers(graphs: DenseGraphs) -> Tensor:
    """Peel off all nodes with fewer than k neighbours left, again and again, for growing k."""
    core = torch.zeros_like(graphs.degree)
    left = graphs.mask.to(core.dtype)
    k = 1
    while bool(left.any()):
        degree = (graphs.adjacency @ left.unsqueeze(-1)).squeeze(-1)
        stays = left * (degree >= k)
        if torch.equal(stays, left):
            core = torch.where(left > 0, float(k), core)
            k += 1
        left = stays
    return core

"""Several graphs as one padded block of adjacency matrices: what every encoding is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

PADDING_EIGENVALUE = 4.0
"""Eigenvalues of a normalised Laplacian lie in [0, 2]; those of padding stand apart and come last."""


@dataclass(frozen=True)
class DenseGraphs:
    """B simple undirected graphs, padded to n nodes.

    `adjacency` (B, n, n) holds 0 and 1, is symmetric with a zero diagonal, and is zero where `mask`
    (B, n) is False. Decompositions are in double precision: small gaps between eigenvalues are common
    in molecules. They are computed once, when the first encoding asks.
    """

    adjacency: Tensor
    mask: Tensor

    @cached_property
    def degree(self) -> Tensor:
        """Number of neighbours, (B, n)."""
        return self.adjacency.sum(-1)

    @cached_property
    def walkable(self) -> Tensor:
        """1 for nodes with a neighbour, else 0, (B, n): where a random walk can go on."""
        return (self.degree > 0).to(self.adjacency.dtype)

    @cached_property
    def laplacian(self) -> Tensor:
        """Symmetric normalised Laplacian I - D^-1/2 A D^-1/2, (B, n, n); an isolated node has a zero row."""
        scale = self.walkable / self.degree.clamp(min=1).sqrt()
        walk = scale.unsqueeze(-1) * self.adjacency * scale.unsqueeze(-2)
        return torch.diag_embed(self.walkable) - walk

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (B, n), ascending, and eigenvectors (B, n, n) in columns of `laplacian`.

        Padding gets an eigenvalue that no graph has. With zeros it would stand among the trivial
        eigenvectors and mix with them.
        """
        padding = torch.diag_embed((~self.mask).to(self.adjacency.dtype) * PADDING_EIGENVALUE)
        values, vectors = torch.linalg.eigh(self.laplacian + padding)
        return values, vectors * self.mask.unsqueeze(-1)

    @cached_property
    def connected(self) -> Tensor:
        """Whether two nodes lie in one component, a node and itself included, (B, n, n) bool."""
        reach = self.adjacency + torch.diag_embed(self.mask.to(self.adjacency.dtype))
        steps = 1
        while steps < self.mask.shape[1] - 1:
            # Squaring doubles the length of the paths seen.
            reach = (reach @ reach).clamp(max=1)
            steps *= 2
        return reach > 0

    @property
    def pair_mask(self) -> Tensor:
        """Where both nodes are real, (B, n, n) bool."""
        return self.mask.unsqueeze(-1) & self.mask.unsqueeze(-2)

    def heat_kernel(self, times: Sequence[float]) -> Tensor:
        """exp(-t L) for every time, (T, B, n, n): what is at j after heat started at i; zero in padding."""
        values, vectors = self.spectrum
        scales = values.new_tensor(times).reshape(-1, 1, 1)
        decay = torch.exp(-scales * values).unsqueeze(-2)
        return (vectors * decay) @ vectors.mT


def dense_graphs(graphs: Sequence[Any], device: torch.device | str = "cpu") -> DenseGraphs:
    """Pad PyTorch Geometric graphs. Bonds count once and in both directions, loops not at all."""
    sizes = [graph_size(graph) for graph in graphs]
    longest = max(sizes, default=0)
    adjacency = torch.zeros(len(graphs), longest, longest, dtype=torch.float64)
    for number, graph in enumerate(graphs):
        source, target = graph.edge_index.cpu()
        adjacency[number, source, target] = 1.0
        adjacency[number, target, source] = 1.0
    adjacency.diagonal(dim1=-2, dim2=-1).zero_()
    mask = torch.arange(longest) < torch.tensor(sizes).unsqueeze(-1)
    return DenseGraphs(adjacency.to(device), mask.to(device))


def graph_size(graph: Any) -> int:
    """Return the number of nodes: rows of `x`, so that isolated nodes at the end count."""
    return int(graph.num_nodes)

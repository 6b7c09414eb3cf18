"""All encodings by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from nas_system.graphs.encodings.dense import DenseGraphs
from nas_system.graphs.encodings.diffusion import Diffusion
from nas_system.graphs.encodings.heat_kernel import HeatKernel
from nas_system.graphs.encodings.laplacian import Laplacian
from nas_system.graphs.encodings.random_walk import RandomWalk
from nas_system.graphs.encodings.resistance import Resistance
from nas_system.graphs.encodings.role import Role
from nas_system.graphs.encodings.shortest_path import ShortestPath


class Encoding(Protocol):
    """Numbers that describe every node, or every pair of nodes, by the graph's structure alone."""

    @property
    def size(self) -> int:
        """How many numbers."""
        ...

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        """(B, n, size) for nodes, (B, n, n, size) for pairs; zero in padding."""
        ...


NODE_ENCODINGS: dict[str, Callable[..., Encoding]] = {
    "laplacian": Laplacian,
    "random_walk": RandomWalk,
    "heat_kernel": HeatKernel,
    "role": Role,
}
PAIR_ENCODINGS: dict[str, Callable[..., Encoding]] = {
    "shortest_path": ShortestPath,
    "diffusion": Diffusion,
    "resistance": Resistance,
}


def attribute_of(name: str) -> str:
    """Return a graph's attribute with an encoding: pe_laplacian (N, k), pair_resistance (n * n, 2)."""
    return f"pe_{name}" if name in NODE_ENCODINGS else f"pair_{name}"

"""Diffusion between every two nodes: how much heat goes from one to the other, at several times.

The kernel of Kondor and Lafferty 2002, "Diffusion Kernels on Graphs and Other Discrete Input Spaces",
ICML; as a bias of attention in Mialon et al. 2021, "GraphiT", arXiv:2106.05667. On the symmetric
normalised Laplacian, as in the heat-kernel signature, which is its diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nas_system.graphs.encodings.dense import DenseGraphs
from nas_system.graphs.encodings.heat_kernel import check_times, log_times


@dataclass(frozen=True)
class Diffusion:
    """exp(-t L) for every t in `times`, (B, n, n, len(times)); exactly zero between components."""

    times: tuple[float, ...] = log_times(4)

    def __post_init__(self) -> None:
        check_times("diffusion", self.times)

    @property
    def size(self) -> int:
        return len(self.times)

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        return (graphs.heat_kernel(self.times) * graphs.connected).permute(1, 2, 3, 0)

"""Resistance distance: the electrical resistance between two nodes if every edge is one ohm.

Klein and Randić 1993, "Resistance distance", Journal of Mathematical Chemistry 12. Unlike the shortest path
it gets smaller with every further way: two neighbours in a ring of k are at (k - 1) / k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_system.graphs.encodings.dense import DenseGraphs


@dataclass(frozen=True)
class Resistance:
    """(B, n, n, 2): the resistance, and whether there is no way at all.

    No current flows between components: their resistance is infinite, which no network can read. There
    the first channel is 0 and the second 1.
    """

    @property
    def size(self) -> int:
        return 2

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        inverse = _pseudo_inverse(graphs)
        potential = inverse.diagonal(dim1=-2, dim2=-1)
        resistance = potential.unsqueeze(-1) + potential.unsqueeze(-2) - 2 * inverse
        apart = graphs.pair_mask & ~graphs.connected
        resistance = resistance.clamp(min=0) * graphs.connected
        return torch.stack((resistance, apart.to(resistance.dtype)), dim=-1)


def _pseudo_inverse(graphs: DenseGraphs) -> Tensor:
    """Of the Laplacian D - A, (B, n, n).

    Its null space is spanned by the indicators of the components. Adding the projector on them makes
    it invertible and changes nothing else, which spares an eigen-decomposition.
    """
    together = graphs.connected.to(graphs.adjacency.dtype)
    null_space = together / together.sum(-1, keepdim=True).clamp(min=1)
    padding = torch.diag_embed((~graphs.mask).to(graphs.adjacency.dtype))
    regular = torch.diag_embed(graphs.degree) - graphs.adjacency + null_space + padding
    return torch.linalg.inv(regular) - null_space - padding

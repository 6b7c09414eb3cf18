"""Laplacian eigenvectors: where a node lies in the coarse shape of its graph.

Dwivedi, Joshi, Luu, Laurent, Bengio, Bresson 2020, "Benchmarking Graph Neural Networks",
arXiv:2003.00982, section on graph positional encodings. Of the symmetric normalised Laplacian, the
eigenvectors of the smallest eigenvalues that are not zero.

An eigenvector has no sign of its own, and an eigenspace of several dimensions no basis. Ours are
chosen by one rule that needs neither the order of LAPACK's answers nor the amount of padding: the
vectors are the steps of a pivoted Cholesky factorisation of the eigenspace's projector. So each one is
greatest, and positive, at its pivot: the node that weighs most in what is left of the eigenspace, and the
first of them if several do. Only such ties, which a symmetry of the graph causes, depend on the
numbering of nodes; no rule could avoid that. A model that shall not rely on the signs flips them while it
trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.graphs.encodings.dense import PADDING_EIGENVALUE, DenseGraphs

SAME_EIGENVALUE = 1e-7
SAME_WEIGHT = 1e-7
"""Rounding stays far below both, and differences that mean something far above."""


@dataclass(frozen=True)
class Laplacian:
    """Return the `k` smoothest non-trivial eigenvectors, (B, n, k); zero where a graph has fewer.

    Trivial are all of eigenvalue 0: they are constant on a component, up to the root of the degree,
    and there is one for each component. An isolated node is a component, so it is zero everywhere.
    """

    k: int = 16

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"encoding 'laplacian': k={self.k}, but it takes at least one eigenvector")

    @property
    def size(self) -> int:
        return self.k

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        values, vectors = graphs.spectrum
        batch, n = values.shape
        space = _eigenspaces(values)
        smooth = (values > SAME_EIGENVALUE) & (values < PADDING_EIGENVALUE - 1)
        # The place of each eigenvector among the non-trivial ones; all others go to a place cut off below.
        place = torch.where(smooth, smooth.cumsum(-1) - 1, self.k).clamp(max=self.k)
        chosen = vectors.new_zeros(batch, n, n)
        out = vectors.new_zeros(batch, n, self.k + 1)
        for column in (place < self.k).any(0).nonzero().flatten().tolist():
            vector = _next_vector(vectors, chosen, space == space[:, column, None])
            chosen[:, :, column] = vector
            out.scatter_(-1, place[:, column, None, None].expand(-1, n, 1), vector.unsqueeze(-1))
        return out[..., : self.k]


def _eigenspaces(values: Tensor) -> Tensor:
    """Return the number of the eigenspace that each of the ascending eigenvalues belongs to, (B, n)."""
    gaps = values.diff(dim=-1) > SAME_EIGENVALUE
    return torch.nn.functional.pad(gaps.cumsum(-1), (1, 0))


def _next_vector(vectors: Tensor, chosen: Tensor, same: Tensor) -> Tensor:
    """Return the next step of the factorisation, (B, n), in the eigenspace marked by `same`."""
    basis, before = vectors * same.unsqueeze(1), chosen * same.unsqueeze(1)
    weight = basis.square().sum(-1) - before.square().sum(-1)
    heaviest = weight >= weight.amax(-1, keepdim=True) - SAME_WEIGHT
    pivot = heaviest.int().argmax(-1)[:, None, None].expand(-1, 1, weight.shape[-1])
    column = (basis @ basis.gather(1, pivot).mT - before @ before.gather(1, pivot).mT).squeeze(-1)
    return torch.nn.functional.normalize(column, dim=-1)

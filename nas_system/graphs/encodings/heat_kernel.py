"""Heat-kernel signature: how much heat is left at a node, t after it was put there.

Sun, Ovsjanikov, Guibas 2009, "A Concise and Provably Informative Multi-Scale Signature Based on Heat
Diffusion", Computer Graphics Forum 28(5). Short times see the node's degree, long ones the whole graph.
The Laplacian is the symmetric normalised one, so that times mean the same in graphs of any degree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.graphs.encodings.dense import DenseGraphs


def log_times(count: int, first: float = 0.1, last: float = 10.0) -> tuple[float, ...]:
    """`count` times from `first` to `last`, each the same multiple of the one before."""
    return tuple(np.geomspace(first, last, count).tolist())


def check_times(name: str, times: Sequence[float]) -> None:
    """Raises ConfigError for times before the beginning, and for none at all."""
    if not times or min(times) < 0:
        raise ConfigError(f"encoding {name!r}: times={times}, but it takes numbers from 0")


@dataclass(frozen=True)
class HeatKernel:
    """Return the diagonal of exp(-t L) for every t in `times`, (B, n, len(times))."""

    times: tuple[float, ...] = log_times(8)

    def __post_init__(self) -> None:
        check_times("heat_kernel", self.times)

    @property
    def size(self) -> int:
        return len(self.times)

    def __call__(self, graphs: DenseGraphs) -> Tensor:
        values, vectors = graphs.spectrum
        decay = torch.exp(-values.unsqueeze(-1) * values.new_tensor(self.times))
        return vectors.square() @ decay

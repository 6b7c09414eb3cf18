"""Batches of networks for the engine, and the meta-features as the model gets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nas_system.netformer.weights.tokens import Tokens

LARGEST_SCALED = 5.0
"""Standard deviations. A feature of an unusual data set must not drown all the others."""

POOL = 8
"""Batches that are sorted by length together."""

Batch = tuple[list[Tensor], Tensor]


@dataclass(frozen=True)
class MetaScaling:
    """Centre and spread of every meta-feature over the training tasks."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, meta: Tensor) -> MetaScaling:
        """From rows of meta-features, (tasks, values), NaN where unknown."""
        known = ~meta.isnan()
        count = known.sum(0).clamp_min(1)
        filled = meta.nan_to_num(0.0)
        mean = filled.sum(0) / count
        spread = ((filled - mean).square() * known).sum(0) / count
        # A feature that never changes says nothing: it becomes zero, not infinity.
        std = spread.sqrt()
        return cls(mean, torch.where(std > 1e-6 * mean.abs().clamp_min(1), std, torch.inf))

    def __call__(self, meta: Tensor) -> Tensor:
        """Scaled values, zero where unknown, and beside them which are known; (..., 2 * values)."""
        known = ~meta.isnan()
        scaled = ((meta - self.mean) / self.std).clamp(-LARGEST_SCALED, LARGEST_SCALED)
        return torch.cat((torch.where(known, scaled, 0.0), known.to(meta.dtype)), dim=-1)


class NetworkBatches:
    """Batches of ([structure, weight, meta-features], positions), as short as their longest network.

    Networks of similar length come together, so that little of a batch is filling. With a `generator`
    the order is random, another one at every pass.
    """

    def __init__(
        self,
        tokens: Tokens,
        meta: Tensor,
        positions: Tensor,
        batch_size: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """`meta`: scaled, one row per network."""
        self.tokens = tokens
        self.meta = meta
        self.positions = positions
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        return -(-len(self.positions) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        lengths = self.tokens.lengths
        batches: list[Tensor] = []
        for pool in self._ordered(self.positions).split(self.batch_size * POOL):
            batches += pool[lengths[pool].argsort(stable=True)].split(self.batch_size)
        for number in self._ordered(torch.arange(len(batches))).tolist():
            chosen = batches[number]
            part = self.tokens.rows(chosen)
            yield [part.structure, part.weight, self.meta[chosen]], chosen

    def _ordered(self, values: Tensor) -> Tensor:
        if self.generator is None:
            return values
        return values[torch.randperm(len(values), generator=self.generator)]

"""Batches of graphs for the engine: shuffled by a generator that a checkpoint remembers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from nas_system.errors import ConfigError
from nas_system.graphs.checks import check_graphs
from nas_system.graphs.pyg import import_pyg


class GraphLoader:
    """Batches of a list of graphs, again at every `for`.

    A generator shuffles each pass again, and the graphs are put together as they are needed; without one
    every pass is the same, so the batches are put together once and stay on the device.
    """

    def __init__(
        self,
        graphs: Sequence[Any],
        batch_size: int,
        device: torch.device,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.graphs = graphs
        self.batch_size = batch_size
        self.device = device
        self.generator = generator
        self._same: list[Any] | None = None

    def __len__(self) -> int:
        return -(-len(self.graphs) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if self.generator is not None:
            return self._pass(torch.randperm(len(self.graphs), generator=self.generator).tolist())
        if self._same is None:
            self._same = list(self._pass(list(range(len(self.graphs)))))
        return iter(self._same)

    def _pass(self, order: list[int]) -> Iterator[Any]:
        for start in range(0, len(order), self.batch_size):
            chosen = [self.graphs[number] for number in order[start : start + self.batch_size]]
            try:
                batch = joined(chosen, self.device)
            except ConfigError:
                check_graphs(self.graphs)  # with the graph's number among all
                raise
            yield batch


def joined(graphs: Sequence[Any], device: torch.device) -> Any:
    """Join graphs into one batch of PyTorch Geometric, on the device. Raises ConfigError (`check_graphs`)."""
    batch = import_pyg("torch_geometric.data").Batch
    try:
        return batch.from_data_list(list(graphs)).to(device)
    except (AttributeError, KeyError, RuntimeError):
        check_graphs(graphs)
        raise

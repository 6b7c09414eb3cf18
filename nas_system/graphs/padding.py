"""Graphs of a batch side by side in one padded block, so that attention is a dense product.

PyTorch Geometric joins the nodes of all graphs end to end, `(N, d)`. The block is `(B, n, d)`, n being
the size of the largest graph. Where each node stands is worked out once for each batch and serves all
layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedLayout:
    """Where the N nodes of B graphs stand in a block with n = `longest` places for each graph."""

    sizes: Tensor
    """Nodes of every graph, (B,)."""
    graph: Tensor
    """The graph of every node, (N,)."""
    place: Tensor
    """The row of every node in the flattened block (B * n, d), (N,)."""
    longest: int

    @classmethod
    def of(cls, batch: Any) -> PaddedLayout:
        """Return the layout of a batch of PyTorch Geometric's loader, or of a single graph."""
        device = batch.edge_index.device
        ends = getattr(batch, "ptr", None)
        if ends is None:
            ends = torch.tensor([0, batch.num_nodes], device=device)
        sizes = ends.diff()
        graph = torch.arange(len(sizes), device=device).repeat_interleave(sizes, output_size=batch.num_nodes)
        longest = int(sizes.max()) if len(sizes) else 0
        inside = torch.arange(len(graph), device=device) - ends[:-1].index_select(0, graph)
        return cls(sizes, graph, graph * longest + inside, longest)

    @property
    def n_graphs(self) -> int:
        return len(self.sizes)

    @cached_property
    def n_pairs(self) -> int:
        """Ordered pairs of nodes of one graph, a node with itself included."""
        return int(self.sizes.square().sum())

    @cached_property
    def mask(self) -> Tensor:
        """Where the block holds a node, (B, n) bool."""
        return torch.arange(self.longest, device=self.sizes.device) < self.sizes[:, None]

    def has_edges_between_graphs(self, edge_index: Tensor) -> bool:
        """Return whether an edge leads from one graph to another; on a CUDA device, always False.

        A CUDA device would have to be waited for; on a CPU it takes 12 us of 8 ms of a small model.
        """
        if edge_index.device.type != "cpu" or self.n_graphs < 2:
            return False
        source, target = (self.graph.index_select(0, ends) for ends in edge_index.unbind())
        return not torch.equal(source, target)

    def pad(self, nodes: Tensor) -> Tensor:
        """`(N, d)` as `(B, n, d)`, zero in padding."""
        # `index_copy_` would do the same at twice the price: 65 us against 30 for (740, 192) on one core.
        block = nodes.new_zeros(self.n_graphs * self.longest, nodes.shape[1])
        return block.index_add(0, self.place, nodes).unflatten(0, (self.n_graphs, self.longest))

    def unpad(self, block: Tensor) -> Tensor:
        """`(B, n, d)` as `(N, d)`."""
        return block.flatten(0, 1).index_select(0, self.place)

    def pad_pairs(self, pairs: Tensor) -> Tensor:
        """Pad one row for every ordered pair of nodes of a graph, graph after graph, to `(B, n, n, c)`."""
        squares = self.sizes.square()
        ends = squares.cumsum(0)
        count = self.n_pairs
        assert len(pairs) == count, (len(pairs), count)
        graph = torch.arange(self.n_graphs, device=pairs.device).repeat_interleave(squares, output_size=count)
        inside = torch.arange(count, device=pairs.device) - (ends - squares).index_select(0, graph)
        size = self.sizes.index_select(0, graph)
        row = inside.div(size, rounding_mode="floor")
        place = (graph * self.longest + row) * self.longest + inside - row * size
        block = pairs.new_zeros(self.n_graphs * self.longest**2, pairs.shape[1])
        padded = block.index_add(0, place, pairs)
        return padded.unflatten(0, (self.n_graphs, self.longest, self.longest))

    def sum(self, nodes: Tensor) -> Tensor:
        """Return the sum over the nodes of every graph, (B, d)."""
        return nodes.new_zeros(self.n_graphs, nodes.shape[1]).index_add(0, self.graph, nodes)

    def mean(self, nodes: Tensor) -> Tensor:
        """Return the mean over the nodes of every graph, (B, d); zero for a graph without nodes."""
        return self.sum(nodes) / self.sizes.clamp(min=1)[:, None]

"""Graph transformer: GPS layers over node types and encodings, attention biased by relative encodings.

Rampášek et al. 2022, "Recipe for a General, Powerful, Scalable Graph Transformer", arXiv:2205.12454.
Node encodings are joined to the embedding of a node's types and projected. Relative encodings become
an additive bias for each head, worked out once and shared by all layers, as in Ying et al. 2021,
arXiv:2106.05234.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.graphs.checks import check_batch
from nas_system.graphs.embeddings import FEATURES, NodeInput, PairBias, encoding_sizes, features_of
from nas_system.graphs.encodings import NODE_ENCODINGS, PAIR_ENCODINGS
from nas_system.graphs.global_attention import attention_bias
from nas_system.graphs.gps_layer import NORMS, GPSLayer
from nas_system.graphs.heads import HEADS, POOLINGS
from nas_system.graphs.padding import PaddedLayout


class GraphTransformer(nn.Module):
    """Maps a batch of PyTorch Geometric graphs to (B, num_classes), or to (L, num_classes) for pairs.

    A graph has node types `x` (N,) or (N, columns), `edge_index` (2, E) with both directions of a bond, and
    bond types `edge_attr` (E,). `num_features` is the number of node types, one number for every column
    of `x`. `num_edge_types` 0: bonds have no types. `num_classes` is the number of outputs.

    With `node_features` "numbers" `x` holds real numbers, (N, num_features); with `edge_features` "numbers"
    so does `edge_attr`, (E, num_edge_types).
    """

    def __init__(
        self,
        num_features: int | Sequence[int],
        num_classes: int,
        hidden_dim: int = 256,
        num_layers: int = 6,
        heads: int = 4,
        encodings: Sequence[str] = (),
        relative: Sequence[str] = (),
        dropout: float = 0.0,
        *,
        level: str = "graph",
        pooling: str = "mean",
        norm: str = "batch",
        num_edge_types: int = 4,
        node_features: str = "types",
        edge_features: str = "types",
        encoding_options: Mapping[str, Mapping[str, Any]] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """`encodings` and `relative` name attributes that `add_encodings` has put into the graphs, with
        the same `encoding_options`. `level` "graph" or "edge": what an answer is given for.

        `generator` draws the signs of Laplacian eigenvectors in training; without one torch's global
        random numbers do, which a Trainer's checkpoint restores. Raises ConfigError.
        """
        super().__init__()
        _check_choice("level", level, HEADS)
        _check_choice("pooling", pooling, POOLINGS)
        _check_choice("norm", norm, NORMS)
        _check_choice("node_features", node_features, FEATURES)
        _check_choice("edge_features", edge_features, FEATURES)
        for name in encodings:
            _check_choice("encodings", name, NODE_ENCODINGS)
        for name in relative:
            _check_choice("relative", name, PAIR_ENCODINGS)
        if hidden_dim < 1 or num_layers < 1 or heads < 1 or hidden_dim % heads:
            raise ConfigError(
                f"hidden_dim={hidden_dim}, num_layers={num_layers}, heads={heads}: all are at least 1, and "
                "hidden_dim is a multiple of heads"
            )
        options = encoding_options or {}
        counts = [num_features] if isinstance(num_features, int) else list(num_features)
        self.nodes = NodeInput(
            node_features, counts, hidden_dim, encoding_sizes(encodings, options), generator
        )
        self.bonds = (
            features_of("edge_attr", edge_features, [num_edge_types], hidden_dim) if num_edge_types else None
        )
        self.bias = PairBias(encoding_sizes(relative, options), heads) if relative else None
        self.layers = nn.ModuleList(GPSLayer(hidden_dim, heads, dropout, norm) for _ in range(num_layers))
        self.head = HEADS[level](hidden_dim, num_classes, dropout, pooling)

    def forward(self, batch: Any) -> Tensor:
        """Raises ConfigError, on a CPU, for edges that the graphs do not have nodes for."""
        try:
            layout = PaddedLayout.of(batch)
            if layout.has_edges_between_graphs(batch.edge_index):
                check_batch(batch)
            bonds, bias = self._surroundings(batch, layout)
            x = self.nodes(batch, layout)
            for layer in self.layers:
                x = layer(x, batch.edge_index, bonds, layout, bias)
            return self.head(x, layout, batch)
        except (AttributeError, IndexError, RuntimeError):
            if next(self.parameters()).device.type == "cpu":  # a CUDA device stops at an assertion of its own
                check_batch(batch)
            raise

    @torch.no_grad()
    def attention_maps(self, batch: Any) -> dict[str, Tensor]:
        """Return the attention of every node to every node of its graph: per layer (B, heads, n, n).

        Rows sum to one, and are zero in padding, n being the size of the largest graph. Computed as in
        evaluation; leaves the model's mode as it was.
        """
        was_training = self.training
        self.eval()
        try:
            layout = PaddedLayout.of(batch)
            bonds, bias = self._surroundings(batch, layout)
            x = self.nodes(batch, layout)
            maps: dict[str, Tensor] = {}
            for number, layer in enumerate(self.layers, 1):
                assert isinstance(layer, GPSLayer)
                maps[f"layer {number}"] = layer.attention.weights(x, layout, bias)
                x = layer(x, batch.edge_index, bonds, layout, bias)
        finally:
            self.train(was_training)
        return maps

    def _surroundings(self, batch: Any, layout: PaddedLayout) -> tuple[Tensor | None, Tensor]:
        """Return what all layers share: vectors of the bonds (E, width), biases of the attention."""
        bonds = None if self.bonds is None else self.bonds(batch)
        return bonds, attention_bias(layout, None if self.bias is None else self.bias(batch, layout))


def _check_choice(argument: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{argument}: there is no {value!r}; choose from: {', '.join(choices)}")

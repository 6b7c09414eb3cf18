"""The graph models by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from nas_system.errors import ConfigError
from nas_system.graphs.transformer import GraphTransformer
from nas_system.space.families import GraphTransformerConfig
from nas_system.space.shape import GraphShape

GRAPH_MODELS: dict[str, Callable[..., nn.Module]] = {"graph_transformer": GraphTransformer}


def get_model(
    name: str = "graph_transformer",
    num_features: int | Sequence[int] = 1,
    num_classes: int = 1,
    hidden_dim: int = 256,
    num_layers: int = 6,
    **options: Any,
) -> nn.Module:
    """A model for graphs with `num_features` node types and `num_classes` outputs.

    `options` are the further arguments of the model's class. Raises ConfigError for a name or an
    option that there is not.
    """
    if name not in GRAPH_MODELS:
        raise ConfigError(f"there is no graph model {name!r}; choose from: {', '.join(GRAPH_MODELS)}")
    try:
        return GRAPH_MODELS[name](num_features, num_classes, hidden_dim, num_layers, **options)
    except TypeError as error:
        raise ConfigError(f"graph model {name!r}: {error}") from None


def build_graph_model(config: GraphTransformerConfig, shape: GraphShape) -> GraphTransformer:
    """Build a configuration's model: a batch of graphs to (B, n_outputs), or to (L, n_outputs) for pairs."""
    return GraphTransformer(
        shape.n_node_types,
        shape.n_outputs,
        config.hidden_dim,
        config.num_layers,
        config.heads,
        config.node_encodings,
        config.pair_encodings,
        config.dropout,
        level=shape.level,
        pooling=config.pooling,
        norm=config.norm,
        num_edge_types=shape.n_edge_types,
        encoding_options=config.encoding_options,
    )

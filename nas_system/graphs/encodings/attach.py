"""Computes encodings once for a whole data set and stores them in its graphs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from nas_system.errors import ConfigError
from nas_system.graphs.checks import check_graph
from nas_system.graphs.encodings.dense import dense_graphs, graph_size
from nas_system.graphs.encodings.registry import NODE_ENCODINGS, PAIR_ENCODINGS, Encoding, attribute_of
from nas_system.training.reproducibility import resolve_device

Options = Mapping[str, Mapping[str, Any]]
"""Per encoding the fields that differ from its defaults: {"laplacian": {"k": 8}}."""


def build_encoding(name: str, options: Mapping[str, Any] | None = None) -> Encoding:
    """Return the encoding called `name`. Raises ConfigError for a name or an option that there is not."""
    known = NODE_ENCODINGS | PAIR_ENCODINGS
    if name not in known:
        raise ConfigError(f"there is no encoding {name!r}; choose from: {', '.join(known)}")
    try:
        return known[name](**(options or {}))
    except TypeError as error:
        raise ConfigError(f"encoding {name!r}: {error}") from None


def encoding_size(name: str, options: Mapping[str, Any] | None = None) -> int:
    """Return how many numbers per node, or per pair, an encoding has."""
    return build_encoding(name, options).size


def add_encodings(
    graphs: Sequence[Any],
    names: Iterable[str],
    options: Options | None = None,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> list[Any]:
    """Copy `graphs`, in their order, with one more attribute for each name; the tensors are shared.

    Encodings of nodes become `pe_<name>` (N, size), those of pairs `pair_<name>` (N * N, size), row by row
    of the matrix, so that both can be joined end to end in a batch. float32. Raises ConfigError.
    """
    place = resolve_device(device)
    encodings = {name: build_encoding(name, (options or {}).get(name)) for name in dict.fromkeys(names)}
    stray = sorted(set(options or {}) - set(encodings))
    if stray:
        raise ConfigError(f"options for encodings that are not asked for: {', '.join(stray)}")
    for number, graph in enumerate(graphs if encodings else ()):
        check_graph(graph, f"graph {number}")
    copies = [copy.copy(graph) for graph in graphs]
    # Graphs of like size together: little padding, and how much there is does not change the result.
    by_size = sorted(range(len(copies)), key=lambda number: graph_size(copies[number]))
    for start in range(0, len(by_size) if encodings else 0, batch_size):
        _encode([copies[number] for number in by_size[start : start + batch_size]], encodings, place)
    return copies


def _encode(graphs: Sequence[Any], encodings: Mapping[str, Encoding], device: torch.device) -> None:
    dense = dense_graphs(graphs, device)
    for name, encoding in encodings.items():
        values = encoding(dense).float().cpu()
        for graph, value in zip(graphs, values, strict=True):
            n = graph_size(graph)
            # Cloned: a view would keep the padded batch alive.
            part = value[:n] if name in NODE_ENCODINGS else value[:n, :n].reshape(n * n, -1)
            graph[attribute_of(name)] = part.clone()

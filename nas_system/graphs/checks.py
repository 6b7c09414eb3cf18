"""Graphs as people bring them, looked through: what does not fit together, in which graph, and what to do.

PyTorch Geometric joins graphs without looking. An edge to a node that a graph does not have leads to a node
of the next graph in the batch, and an attribute that the first graph of a batch lacks is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from nas_system.errors import ConfigError


def is_graph(item: Any) -> bool:
    """Return whether an item of a data set is a graph of PyTorch Geometric, with edges or without."""
    return hasattr(item, "edge_index") and hasattr(item, "num_nodes")


def check_graphs(graphs: Sequence[Any], part: str = "") -> None:
    """Raise ConfigError for the first graph that does not fit, or has other attributes than the others.

    Graphs count from 0; `part` is which of several lists they are of, such as "training ".
    """
    having = [set(graph.keys()) for graph in graphs]
    for name in sorted(set().union(*having)):
        lacking = [number for number, names in enumerate(having) if name not in names]
        if lacking:
            count = len(graphs) - len(lacking)
            raise ConfigError(
                f"{part}graph {lacking[0]} has no {name}, which {count} of {len(graphs)} graphs have; give "
                "it to all of them or to none"
            )
    for number, graph in enumerate(graphs):
        check_graph(graph, f"{part}graph {number}")
        for name in ("x", "edge_attr"):
            one, first = (getattr(each, name, None) for each in (graph, graphs[0]))
            if isinstance(one, Tensor) and isinstance(first, Tensor) and one.shape[1:] != first.shape[1:]:
                raise ConfigError(
                    f"{part}graph {number}: {name} has the shape {tuple(one.shape)}, that of graph 0 has "
                    f"{tuple(first.shape)}; all need the same columns"
                )


def check_graph(graph: Any, name: str) -> None:
    """Raise ConfigError, calling the graph `name`, for edges that are none of its nodes'."""
    edges, x = getattr(graph, "edge_index", None), getattr(graph, "x", None)
    if edges is None:
        raise ConfigError(
            f"{name} has no edge_index; without edges it is torch.zeros(2, 0, dtype=torch.long)"
        )
    nodes = len(x) if x is not None else int(graph.num_nodes)
    _check_pairs("edge_index", edges, nodes, name)
    attributes = getattr(graph, "edge_attr", None)
    if attributes is not None and len(attributes) != edges.shape[1]:
        raise ConfigError(
            f"{name} has {len(attributes)} rows of edge_attr and {edges.shape[1]} edges; every edge needs "
            "one, also the second direction of a bond"
        )
    pairs = getattr(graph, "edge_label_index", None)
    if pairs is not None:
        _check_pairs("edge_label_index", pairs, nodes, name)


def check_batch(batch: Any) -> None:
    """Raise ConfigError for the first graph of a batch, counted in it, that does not fit."""
    graphs: Iterable[Any] = batch.to_data_list() if hasattr(batch, "to_data_list") else [batch]
    for number, graph in enumerate(graphs):
        check_graph(graph, f"graph {number} of the batch")


def _check_pairs(attribute: str, pairs: Tensor, nodes: int, name: str) -> None:
    if pairs.ndim != 2 or pairs.shape[0] != 2:
        raise ConfigError(
            f"{name}: {attribute} has the shape {tuple(pairs.shape)}; it is (2, edges), a row of sources "
            "above a row of targets: .t().contiguous() makes it from (edges, 2)"
        )
    if pairs.dtype not in (torch.int64, torch.int32):
        raise ConfigError(f"{name}: {attribute} is {pairs.dtype}; numbers of nodes are torch.long: .long()")
    if not pairs.numel():
        return
    low, high = map(int, pairs.aminmax())
    if low < 0 or high >= nodes:
        from_one = "; nodes count from 0: subtract 1" if low == 1 and high == nodes else ""
        advice = from_one or "; fix the edge, or give the graph the x of all its nodes"
        known = f"its nodes are 0 to {nodes - 1}" if nodes else "it has no nodes"
        raise ConfigError(f"{name}: {attribute} names node {low if low < 0 else high}, but {known}{advice}")

"""Simple predictions for graphs, to compare a model with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_system.graphs.datasets import GraphDataset

RIDGE = 1e-3
"""Added to the diagonal of the normal equations; the columns are counts."""

Predict = Callable[[Sequence[Any]], Tensor]


def simple_predictions(dataset: GraphDataset) -> dict[str, Predict]:
    """Return by name: the mean of the training part for every graph, and a linear map of the counts of types.

    The second knows what a graph is made of and not how: the rest of the error is due to structure.
    """
    y = targets_of(dataset.train)
    weights = _least_squares(_with_one(counts_of(dataset.train, dataset)), y)

    def linear(graphs: Sequence[Any]) -> Tensor:
        return _with_one(counts_of(graphs, dataset)) @ weights

    return {"mean": lambda graphs: y.mean().expand(len(graphs)), "type counts": linear}


def targets_of(graphs: Sequence[Any]) -> Tensor:
    """(graphs,) float64."""
    return torch.cat([graph.y for graph in graphs]).double()


def counts_of(graphs: Sequence[Any], dataset: GraphDataset) -> Tensor:
    """Count the nodes and edges of each type in every graph: (graphs, types) float64."""
    rows = [
        torch.cat(
            (
                torch.bincount(graph.x.flatten(), minlength=dataset.num_features),
                torch.bincount(graph.edge_attr, minlength=dataset.num_edge_types),
            )
        )
        for graph in graphs
    ]
    return torch.stack(rows).double()


def _with_one(columns: Tensor) -> Tensor:
    return F.pad(columns, (0, 1), value=1.0)


def _least_squares(columns: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.solve(columns.T @ columns + RIDGE * torch.eye(columns.shape[1]), columns.T @ y)


def class_predictions(dataset: GraphDataset) -> dict[str, Predict]:
    """Return predictions of classes: the most frequent one, and least squares on how often each type occurs.

    The second regresses one indicator per class on the counts and takes the largest (Hastie, Tibshirani,
    Friedman 2009, "The Elements of Statistical Learning", section 4.2).
    """
    y = torch.cat([graph.y for graph in dataset.train])
    indicators = F.one_hot(y, dataset.num_classes).double()
    weights = _least_squares(_with_one(counts_of(dataset.train, dataset)), indicators)
    majority = indicators.sum(0).argmax()

    def linear(graphs: Sequence[Any]) -> Tensor:
        return (_with_one(counts_of(graphs, dataset)) @ weights).argmax(-1)

    return {"majority": lambda graphs: majority.expand(len(graphs)), "type counts": linear}


def link_predictions(dataset: GraphDataset) -> dict[str, Predict]:
    """Return predictions of links, 0 or 1: never one, and one between nodes with common neighbours.

    Common neighbours: Liben-Nowell, Kleinberg 2003, "The Link Prediction Problem for Social Networks". How
    many it takes is chosen on the training part.
    """
    asked = torch.cat([graph.edge_label for graph in dataset.train])
    counts = common_neighbours(dataset.train)
    accuracy = [((counts >= least).float() == asked).float().mean() for least in range(1, 20)]
    least = 1 + int(torch.stack(accuracy).argmax())

    def never(graphs: Sequence[Any]) -> Tensor:
        return torch.zeros(sum(len(graph.edge_label) for graph in graphs))

    return {
        "no links": never,
        "common neighbours": lambda graphs: (common_neighbours(graphs) >= least).float(),
    }


def common_neighbours(graphs: Sequence[Any]) -> Tensor:
    """Return how many neighbours the two nodes of every asked pair share: (pairs,) int64."""
    rows = []
    for graph in graphs:
        linked = torch.zeros(len(graph.x), len(graph.x), dtype=torch.long)
        linked[graph.edge_index[0], graph.edge_index[1]] = 1
        one, other = graph.edge_label_index
        rows.append((linked[one] * linked[other]).sum(-1))
    return torch.cat(rows)

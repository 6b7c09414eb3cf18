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

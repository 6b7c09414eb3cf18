"""One class for every graph; the accuracy counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nas_system.graphs.baselines import class_predictions
from nas_system.tasks.graphs import Answers, graph_kind
from nas_system.training.objectives import Classification
from nas_system.visualization import drawings
from nas_system.visualization.drawings import Drawing


def accuracy(predicted: Tensor, graphs: Sequence[Any]) -> float:
    """Return the share of (graphs,) predicted classes that are right."""
    return float((predicted == torch.cat([graph.y for graph in graphs])).double().mean())


def draw_classes(truth: Tensor, logits: Tensor) -> Drawing:
    """Return the picture of how often each class is taken for which."""
    return drawings.confusions(truth.long().numpy(), logits.argmax(-1).numpy())


KIND = graph_kind(
    Answers(
        summary="one class for every graph",
        objective=lambda config, dataset: Classification(dataset.num_classes),
        n_outputs=lambda dataset: dataset.num_classes,
        baselines=class_predictions,
        score=accuracy,
        picture=draw_classes,
    )
)

"""One class for every graph; the accuracy counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_system.graphs.baselines import class_predictions
from nas_system.tasks.graphs import Answers, graph_kind
from nas_system.training.objectives import Classification


def accuracy(predicted: Tensor, graphs: Sequence[Any]) -> float:
    """Return the share of (graphs,) predicted classes that are right."""
    return float((predicted == torch.cat([graph.y for graph in graphs])).double().mean())


def draw_classes(truth: Tensor, logits: Tensor, path: Path, title: str) -> None:
    """Draw how often each class is taken for which."""
    from nas_system.visualization import confusion_matrix

    confusion_matrix(truth.numpy(), logits.argmax(-1).numpy(), path, title=title)


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

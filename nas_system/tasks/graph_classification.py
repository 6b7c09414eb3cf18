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


def hits(predicted: Tensor, graphs: Sequence[Any]) -> Tensor:
    """Return for (graphs,) predicted classes whether each is right."""
    return predicted == torch.cat([graph.y for graph in graphs])


def draw_classes(truth: Tensor, logits: Tensor) -> Drawing:
    """Return the picture of how often each class is taken for which."""
    return drawings.confusions(truth.long().numpy(), logits.argmax(-1).numpy())


KIND = graph_kind(
    Answers(
        summary="one class for every graph",
        objective=lambda config, dataset: Classification(dataset.num_classes),
        n_outputs=lambda dataset: dataset.num_classes,
        baselines=class_predictions,
        per_sample=hits,
        picture=draw_classes,
    )
)

"""Which pairs of nodes are linked; the accuracy over as many linked as unlinked pairs counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nas_system.graphs.baselines import link_predictions
from nas_system.tasks.graphs import Answers, graph_kind
from nas_system.training.objectives import EdgePrediction
from nas_system.visualization import drawings
from nas_system.visualization.drawings import Drawing


def hits(predicted: Tensor, graphs: Sequence[Any]) -> Tensor:
    """Return for (pairs,) predictions, 0 or 1, whether each is right."""
    return predicted == torch.cat([graph.edge_label for graph in graphs])


def draw_links(truth: Tensor, logits: Tensor) -> Drawing:
    """Return the picture of how often linked and unlinked pairs are told apart."""
    linked = (logits.reshape(-1) > 0).long().numpy()
    return drawings.confusions(truth.long().numpy(), linked, names=("no link", "link"))


KIND = graph_kind(
    Answers(
        summary="missing links in every graph",
        objective=lambda config, dataset: EdgePrediction(),
        n_outputs=lambda dataset: 1,
        baselines=link_predictions,
        per_sample=hits,
        picture=draw_links,
        level="edge",
    )
)

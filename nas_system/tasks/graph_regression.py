"""One number for every graph; the mean absolute error counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nas_system.graphs.baselines import simple_predictions, targets_of
from nas_system.tasks.graphs import Answers, draw_values, graph_kind
from nas_system.training.objectives import GraphRegression


def absolute_errors(predicted: Tensor, graphs: Sequence[Any]) -> Tensor:
    """Return the error of each of (graphs,) predictions."""
    return (predicted - targets_of(graphs)).abs()


KIND = graph_kind(
    Answers(
        summary="one number for every graph",
        objective=lambda config, dataset: GraphRegression(config.training.loss),
        n_outputs=lambda dataset: 1,
        baselines=simple_predictions,
        per_sample=absolute_errors,
        picture=draw_values,
        # As the model answers, (B, 1): compared with (B,) that would make B times B differences.
        target_shape=(1, 1),
    )
)

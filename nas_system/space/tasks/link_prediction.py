"""Which pairs of nodes of a graph are linked."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from nas_system.space.tasks.task import NO_SERIES, GraphTask, TaskLabels


class LinkPredictionTask(GraphTask):
    """Predict which pairs of nodes are linked; the accuracy over balanced pairs counts."""

    kind = "link_prediction"
    metric_name = "accuracy"
    direction = "maximize"
    absent: ClassVar[dict[str, str]] = NO_SERIES | {
        "numbers": "predicts links, not numbers",
        "whole graphs": "scores pairs of nodes, so nothing is pooled over a graph",
    }

    name: Literal["link_synth"] = "link_synth"
    """The data set: generated networks of communities with links left out."""

    networks: int | None = Field(default=None, ge=2)
    """Use the first N networks, each of which has links in every part (default: all)."""

    @property
    def sizes(self) -> dict[str, int]:
        return {} if self.networks is None else {"graphs": self.networks}

    @property
    def labels(self) -> TaskLabels:
        return TaskLabels(
            goal=f"{self.name}, missing links",
            field="link prediction",
            samples="graphs",
            baselines="simple predictions",
            metric="accuracy",
        )

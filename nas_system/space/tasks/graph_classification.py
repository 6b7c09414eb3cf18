"""One class for every graph."""

from __future__ import annotations

from typing import ClassVar, Literal

from nas_system.space.tasks.task import NO_SERIES, SizedGraphTask, TaskLabels


class GraphClassificationTask(SizedGraphTask):
    """Predict a class for every graph of a data set; the accuracy counts."""

    kind = "graph_classification"
    metric_name = "accuracy"
    direction = "maximize"
    absent: ClassVar[dict[str, str]] = NO_SERIES | {"numbers": "predicts classes, not numbers"}

    name: Literal["ring_synth"] = "ring_synth"
    """The data set: generated molecules, with or without a ring of six atoms."""

    @property
    def labels(self) -> TaskLabels:
        return TaskLabels(
            goal=f"{self.name}, one class for every graph",
            field="graph classification",
            samples="graphs",
            baselines="simple predictions",
            metric="accuracy",
        )

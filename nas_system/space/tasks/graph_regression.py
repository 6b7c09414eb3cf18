"""One number for every graph."""

from __future__ import annotations

from typing import Literal

from nas_system.space.tasks.task import SizedGraphTask, TaskLabels


class GraphRegressionTask(SizedGraphTask):
    """Predict one number for every graph of a data set; the mean absolute error counts."""

    kind = "graph_regression"
    metric_name = "mae"

    name: Literal["zinc", "zinc_synth"] = "zinc_synth"
    """The data set: ZINC, whose files have to be there, or the generated one that is like it."""

    @property
    def labels(self) -> TaskLabels:
        return TaskLabels(
            goal=f"{self.name}, one number for every graph",
            field="graph regression",
            samples="graphs",
            baselines="simple predictions",
            metric="mean absolute error",
        )

"""What tasks on graphs share: data sets that bring their own parts."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from nas_system.space.tasks.task import Task

NO_SERIES = {
    "series": "has no time series",
    "several targets": "has no time series",
    "covariates": "has no time series",
}


class GraphTask(Task):
    """A task on a data set of graphs."""

    default_config = "graph_transformer"
    # One of the baselines is a training.
    describe_timeout_s = 3600.0
    absent: ClassVar[dict[str, str]] = NO_SERIES

    @property
    def dataset(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The data set, which gives the task its name."""
        return self.name

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes that were given, by the data set's own option names; the others are the data set's."""
        return {}


class SizedGraphTask(GraphTask):
    """A task whose parts may be cut to their first graphs."""

    train_graphs: int | None = Field(default=None, ge=2)
    """Use the first N graphs of the training part (default: all)."""

    val_graphs: int | None = Field(default=None, ge=1)
    """Use the first N graphs of the validation part (default: all)."""

    test_graphs: int | None = Field(default=None, ge=1)
    """Use the first N graphs of the test part (default: all)."""

    @property
    def sizes(self) -> dict[str, int]:
        sizes = {"train": self.train_graphs, "val": self.val_graphs, "test": self.test_graphs}
        return {part: size for part, size in sizes.items() if size is not None}

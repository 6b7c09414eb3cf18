"""What every kind of task has: its metric, the words people read, and what of the search space it uses.

At the end, what tasks on graphs share: their data sets bring their own parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from nas_system.space.fields import ConfigModel
from nas_system.space.score import Direction

if TYPE_CHECKING:
    from nas_system.space.families.family import FamilyConfig

ValueOf = Callable[[str], Any]
"""Parameter path -> value."""


def metric_on(part: str, metric: str) -> str:
    """Return the metric's name on another part: `metric_on("test", "val_mae")` is `test_mae`."""
    return f"{part}_{metric_name_of(metric)}"


def metric_name_of(metric: str) -> str:
    """Return the metric's name on any part: `mae` of `val_mae`."""
    return metric.removeprefix("val_")


@dataclass(frozen=True)
class TaskLabels:
    """A kind of task in the words that people and language models read."""

    goal: str
    """`forecast OT, 24 steps ahead`."""
    field: str
    """The field of machine learning: `time-series forecasting`."""
    samples: str
    """What parts of the data are counted in: `rows`, `graphs`."""
    baselines: str
    """What the baselines are: `simple forecasts`."""
    metric: str
    """The metric spelled out: `mean squared error on scaled values`."""
    scale_note: str = ""
    """Follows the metric's name where scores are measured on transformed data: ` on scaled data`."""


class Task(ConfigModel, ABC):
    """A kind of task. Fixed for the life of a search; no proposal can change it."""

    kind: ClassVar[str]
    """The module in `nas_system.tasks`, and what families name in `FamilyConfig.tasks`."""
    metric_name: ClassVar[str]
    """What is measured on every part: `mse`, `mae`, `accuracy`."""
    direction: ClassVar[Direction] = "minimize"
    default_config: ClassVar[str]
    """The named configuration that run_0000 trains unless another one is given."""
    describe_timeout_s: ClassVar[float] = 300.0
    """Upper bound on measuring the data and the baselines."""
    absent: ClassVar[dict[str, str]] = {}
    """Kinds of field (`Where`) that have no effect in this task, and why: "the task ... "."""
    left_out: ClassVar[tuple[str, ...]] = ()
    """Fields that a configuration's file does not name at their default."""
    is_series: ClassVar[bool] = False
    """Whether windows of a series are forecast, so that a look-back, targets and columns exist."""

    name: str
    if TYPE_CHECKING:
        dataset: str
        """The name of the data, or the path of its file."""

    @property
    def metric(self) -> str:
        """The score that selection uses: the metric on the validation part."""
        return f"val_{self.metric_name}"

    @property
    def winning(self) -> str:
        """Which score wins: `lowest val_mse on scaled data`."""
        extreme = "lowest" if self.direction == "minimize" else "highest"
        return f"{extreme} {self.metric}{self.labels.scale_note}"

    @property
    @abstractmethod
    def labels(self) -> TaskLabels:
        """The words for this task."""

    @property
    def trainings(self) -> int:
        """How many models a run trains for its validation score, each on rows of its own."""
        return 1

    def decided_by(self, found: Task) -> Task:
        """Return the task with what it leaves open as in `found`, the same task once its data are known."""
        return self

    @property
    def outside_names(self) -> tuple[str, ...]:
        """Names that come from outside, which a configuration file has to be able to spell."""
        return ()

    @property
    def told_apart_by(self) -> tuple[str, ...]:
        """Columns that tell the series of its data apart; none where there is one, or no series at all."""
        return ()

    @property
    def asked_ahead(self) -> tuple[str, ...]:
        """Columns whose values a person has to give for the steps of a forecast."""
        return ()

    @property
    def is_exportable(self) -> bool:
        """Whether a trained model can be written as a graph of its own."""
        return False

    def has(self, where: str) -> bool:
        """Return whether fields declared for `where` can have an effect, with any family."""
        return where not in self.absent

    def inactive_because(self, where: str | None, family: type[FamilyConfig], value: ValueOf) -> str | None:
        """Say why fields declared for `where` have no effect here; None if they have one.

        `family` is the model's, `value` gives the values of the parameters decided so far.
        """
        reason = self.absent.get(where) if where is not None else None
        return None if reason is None else f"the task {self.name} {reason}"

    @property
    def horizon(self) -> int:
        """Return how many steps ahead are forecast; 0 where there is no series."""
        return 0

    def check(self, config: Any) -> None:
        """Raise ValueError, naming the fields, if `config` (a RunConfig) cannot be trained on this task."""


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

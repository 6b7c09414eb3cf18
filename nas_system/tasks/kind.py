"""What a kind of task consists of, and what a training has to know of its task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nas_system.space.run_config import RunConfig
from nas_system.space.task_info import Baseline, DataSource, TaskInfo

if TYPE_CHECKING:
    # Describing a series needs no torch.
    import torch
    from torch import nn

    from nas_system.tasks.accuracy_meter import AccuracyMeter
    from nas_system.training.engine import Engine
    from nas_system.training.objectives import Objective
    from nas_system.visualization.drawings import Drawing

Part = Literal["train", "val", "test"]
ScoredPart = Literal["val", "test", "hold_out"]
"""What finished runs are scored on: to check their own score, and once more at the end of a search."""


class Batches(Protocol):
    """One pass over a part at every `for`."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...


class Problem(Protocol):
    """A task's data on a device, in the shape that one configuration reads, with model and objective."""

    @property
    def source(self) -> DataSource:
        """Where the data come from."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def objective(self) -> Objective:
        """Its first metric is the task's."""
        ...

    @property
    def evaluation_batch(self) -> int:
        """Samples at a time where no gradients are needed, if there is memory for them."""
        ...

    def count(self, part: Part) -> int:
        """Return the number of samples in a part."""
        ...

    def build_model(self) -> nn.Module:
        """Build the untrained model on the CPU, drawn from torch's random numbers."""
        ...

    def training_batches(self, generator: torch.Generator) -> Batches:
        """Return the training part, shuffled at every pass, augmented as the configuration says."""
        ...

    def batches(self, part: Part, batch_size: int) -> Iterable[Any]:
        """Return a part in its order, unchanged."""
        ...

    def sample_batch(self, n: int) -> Any:
        """Return the first `n` samples of the training part as one batch."""
        ...

    def trained_through(self, end: ScoredPart | int) -> Problem:
        """Return the problem that learns from all rows or samples to the end of a part, or, of a series, from
        so many first rows. Raises ConfigError where it cannot."""
        ...

    @property
    def trained_until(self) -> int:
        """How many of the first rows, or how many graphs, the training part holds."""
        ...

    def export_metadata(self) -> dict[str, Any]:
        """Return what another machine needs next to the weights."""
        ...

    def drawings(self, engine: Engine) -> list[Drawing]:
        """Return pictures of what the trained model does with test samples."""
        ...

    def accuracy_meter(self, part: Part) -> AccuracyMeter | None:
        """Build what adds up the accuracy in the units of the data, in one pass over a part in its order.

        None where the task has none.
        """
        ...

    def earlier_origins(self) -> Sequence[Problem]:
        """Return the problem at each earlier rolling origin of its task, the earliest first, without a test
        part; none where the task has a single validation part."""
        ...


@dataclass(frozen=True)
class Scoring:
    """A part of the data that a finished run is scored on."""

    build_model: Callable[[], nn.Module]
    """Builds the untrained model on the CPU."""
    batches: Iterable[Any]
    objective: Objective
    samples: str
    """What is counted: windows or graphs."""
    count: int
    baselines: Callable[[], tuple[Baseline, ...]] = tuple
    """Scores the baselines on it."""
    earlier: tuple[Scoring, ...] = ()
    """The part at earlier rolling origins, the earliest first: each has weights of its own."""
    accuracy_meter: Callable[[], AccuracyMeter | None] = lambda: None
    """Builds what adds up the accuracy in the units of the data, as that of `Problem`."""


def scoring_batch(config: RunConfig, largest: int) -> int:
    """Return how many samples are scored at a time: no more than the training had memory for."""
    return min(largest, config.data.batch_size)


class Describe(Protocol):
    """Measures a task's data and its baselines."""

    def __call__(self, task: Any, data_dir: Path | None, *, hold_out: bool, download: bool) -> TaskInfo:
        """Return the task's info; `hold_out` scores the baselines on that part, too. Raises ConfigError."""
        ...


@dataclass(frozen=True)
class TaskKind:
    """A kind of task. `info` is the search's, or None outside of a search: then the data are looked for."""

    open: Callable[[RunConfig, TaskInfo | None, Path | None, torch.device], Problem]
    """Loads the data for a training. Raises ConfigError."""
    scoring: Callable[[RunConfig, TaskInfo | None, Path | None, torch.device, ScoredPart], Scoring]
    """Loads a part to score a finished run on. Raises ConfigError if the task has no hold-out set."""
    describe: Describe
    summary: Callable[[TaskInfo], list[str]]
    """The data in a few lines for people."""

"""What a training has to know of its task, and the one place that tells kinds of tasks apart.

A problem is a task's data as one configuration reads them, with the model and the objective that go with
them. The training around it (`training_job`) is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from nas_system.data import DataSource
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.space import GraphTask, RunConfig
from nas_system.training.engine import Engine
from nas_system.training.objectives import Objective

Part = Literal["train", "val", "test"]


class Batches(Protocol):
    """One pass over a part at every `for`."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...


class Problem(Protocol):
    """A task's data on a device, in the shape that a configuration reads."""

    @property
    def source(self) -> DataSource:
        """Where they come from."""
        ...

    @property
    def objective(self) -> Objective:
        """Its first figure is the task's error."""
        ...

    @property
    def evaluation_batch(self) -> int:
        """Samples at a time where no gradients are needed, if there is memory for them."""
        ...

    def count(self, part: Part) -> int:
        """Samples in a part."""
        ...

    def build_model(self) -> nn.Module:
        """Untrained, on the CPU, drawn from torch's random numbers."""
        ...

    def training_batches(self, generator: torch.Generator) -> Batches:
        """The training part, shuffled again at every pass, varied as the configuration says."""
        ...

    def batches(self, part: Part, batch_size: int) -> Iterable[Any]:
        """A part in its order, as it is."""
        ...

    def sample_batch(self, n: int) -> Any:
        """The first `n` samples of the training part as one batch."""
        ...

    def export_metadata(self) -> dict[str, Any]:
        """What another machine needs beside the weights."""
        ...

    def draw(self, engine: Engine, paths: RunPaths, title: str) -> None:
        """Pictures of what the trained model does with test samples."""
        ...


@dataclass(frozen=True)
class HoldOut:
    """What no training and no selection has looked at, ready to be scored."""

    model: nn.Module
    """Untrained: the run's weights go in."""
    batches: Iterable[Any]
    objective: Objective
    samples: str
    """What is counted: windows or graphs."""
    count: int
    baselines: Callable[[], list[dict[str, Any]]]
    """Scores the baselines on it."""


def open_problem(
    config: RunConfig, facts: dict[str, Any] | None, data_dir: Path | None, device: torch.device
) -> Problem:
    """The data of the task, as the facts of the search fix them or wherever they are found."""
    if isinstance(config.task, GraphTask):
        # Only now: it imports PyTorch Geometric.
        from nas_system.tasks.graph_regression import open_graphs

        return open_graphs(config, facts, data_dir, device)
    from nas_system.tasks.forecasting import open_forecasting

    return open_forecasting(config, facts, data_dir, device)


def open_hold_out(
    config: RunConfig, facts: dict[str, Any] | None, data_dir: Path | None, device: torch.device
) -> HoldOut:
    """The hold-out part of the task. Raises ConfigError if it has none."""
    if isinstance(config.task, GraphTask):
        from nas_system.tasks.graph_facts import hold_out_graphs

        return hold_out_graphs(config, facts, data_dir, device)
    from nas_system.tasks.forecasting import hold_out_windows

    return hold_out_windows(config, facts, data_dir, device)

"""An archive as numbers to learn from: tokens, scaled meta-features, scores relative to their task's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.netformer.specs.archive.archive_file import Archive, ArchivedTask, Row, config_of
from nas_system.netformer.specs.model.proposer_networks import PAD
from nas_system.netformer.specs.model.vocabulary import Vocabulary
from nas_system.space import active_values

Array = NDArray[np.float64]

WORST = 3.0
"""Relative scores are cut here: how bad a bad configuration is teaches nothing."""
BEST_SHARE = 0.1
"""The distance from the median to this quantile of a task's scores is one unit."""
LEAST_ROWS = 8
"""Fewer rows of a task do not tell its good scores from its bad ones."""
FURTHEST = 3.0
"""Meta-features are cut at so many deviations: far away means "far away"."""


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of every meta-feature in the archive."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, tasks: Sequence[ArchivedTask]) -> Scaling:
        table = np.array([task.features for task in tasks])
        return cls(table.mean(axis=0), np.maximum(table.std(axis=0), 1e-3))

    def __call__(self, features: Sequence[float]) -> Array:
        return np.clip((np.asarray(features) - self.mean) / self.deviation, -FURTHEST, FURTHEST)


@dataclass(frozen=True)
class TaskScale:
    """Where the scores of a task lie: logarithms of the median, and of the median over the good ones."""

    middle: float
    width: float

    def relative(self, score: float | None) -> float:
        """0 is the task's median, -1 is good, low is better; WORST for no score."""
        if score is None or score <= 0:
            return WORST
        return min(WORST, (math.log(score) - self.middle) / self.width)


def scale_of(rows: Sequence[Row]) -> TaskScale:
    """From the scored rows of one task; those without a score count as bad ones."""
    logs = [math.log(row.score) if row.score else math.inf for row in rows]
    middle, good = (float(np.quantile(sorted(logs), share, method="lower")) for share in (0.5, BEST_SHARE))
    return TaskScale(middle, max(0.02, middle - good))


@dataclass(frozen=True)
class Examples:
    """Everything that is learned from, one entry per row of the archive."""

    tokens: Tensor
    """(rows, longest), PAD behind the end."""
    features: Tensor
    """(rows, features), scaled."""
    relative: Tensor
    """(rows,)"""
    task: Tensor
    """(rows,) number of the task."""
    scaling: Scaling
    scales: tuple[TaskScale, ...]
    names: tuple[str, ...]
    """Name of every task, by its number."""

    def part(self, chosen: Tensor) -> Examples:
        return Examples(
            self.tokens[chosen],
            self.features[chosen],
            self.relative[chosen],
            self.task[chosen],
            self.scaling,
            self.scales,
            self.names,
        )


def examples_of(archive: Archive, vocabulary: Vocabulary, scaling: Scaling | None = None) -> Examples:
    """Rows that the space no longer has, and tasks with hardly a row, are left out."""
    by_task = {name: _written(archive, task, vocabulary) for name, task in archive.tasks.items()}
    by_task = {name: rows for name, rows in by_task.items() if _is_enough([row for row, _ in rows])}
    if not by_task:
        raise ConfigError("the archive has no task with enough rows of this search space to learn from")
    tasks = [archive.tasks[name] for name in by_task]
    if len({len(task.features) for task in tasks}) > 1:
        raise ConfigError(
            "tasks of the archive are described by different numbers of meta-features, so they come from "
            "different versions of this program; leave one's own archive out, or make it again"
        )
    scaling = scaling or Scaling.of(tasks)
    scales = [scale_of([row for row, _ in rows]) for rows in by_task.values()]
    tokens, features, relative, numbers = [], [], [], []
    for number, (task, scale, rows) in enumerate(zip(tasks, scales, by_task.values(), strict=True)):
        for row, written in rows:
            tokens.append(torch.tensor(written))
            features.append(scaling(task.features))
            relative.append(scale.relative(row.score))
            numbers.append(number)
    return Examples(
        torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=PAD),
        torch.tensor(np.array(features), dtype=torch.float32),
        torch.tensor(relative),
        torch.tensor(numbers),
        scaling,
        tuple(scales),
        tuple(by_task),
    )


def _is_enough(rows: Sequence[Row]) -> bool:
    scored = sum(row.score is not None for row in rows)
    return len(rows) >= LEAST_ROWS and 2 * scored > len(rows)


def _written(archive: Archive, task: ArchivedTask, vocabulary: Vocabulary) -> list[tuple[Row, list[int]]]:
    found = []
    for row in archive.rows_of(task.name):
        try:
            config = config_of(row.values, task.task)
            found.append((row, vocabulary.encode(active_values(config))))
        except (ConfigError, KeyError):
            continue
    return found

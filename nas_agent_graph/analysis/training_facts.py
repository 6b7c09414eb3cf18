"""What a finished training cost and how it went, from the files that it wrote: checked, and bounded.

A training is another program, so its metrics.json and history.json may hold anything. Only numbers and
words of a fixed list get out of here, and none of the test part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nas_system.files import finite, read_record
from nas_system.nas_agent.history_summary import curve_digest
from nas_system.processes.run_files import RunPaths
from nas_system.space.tasks.task import metric_on

ENDS = {
    "early_stopping": "ended by early stopping",
    "time_budget": "ended by the time limit",
    "stop_file": "ended by a person",
}
"""What a prompt calls the reasons in metrics.json; of `completed` there is nothing to say."""
LARGEST = 10**12
MOST_SECONDS = 1e8


@dataclass(frozen=True)
class TrainingFacts:
    """Cost and course of one training; None for what its files do not say."""

    compute_s: float | None = None
    """Seconds of compute, see `nas_system.training.clock`."""
    wall_s: float | None = None
    """Seconds by the clock."""
    epochs: int | None = None
    planned_epochs: int | None = None
    best_epoch: int | None = None
    """Counted from 1."""
    steps: int | None = None
    planned_steps: int | None = None
    wanted_steps: int | None = None
    """What the configuration asks for: a limit makes the plan shorter."""
    n_params: int | None = None
    gap: float | None = None
    """Validation minus training score at the best epoch."""
    curve: str | None = None
    """How the curve ended, see `nas_system.nas_agent.history_summary.Flag`."""
    end: str | None = None
    """Why it ended before its plan did, one of `ENDS`."""

    @property
    def cut_to(self) -> float | None:
        """Return the share of the wanted steps that a limit left; None where it left all."""
        planned, wanted = self.planned_steps, self.wanted_steps
        return planned / wanted if planned is not None and wanted and planned < wanted else None


@lru_cache(maxsize=2**16)
def training_facts(run_dir: Path, metric: str, attempt: int) -> TrainingFacts | None:
    """Return what the finished attempt of a run has left; None where it left nothing of it.

    `metric` is the task's. A finished run does not change, so its files are read once. Raises OSError where
    this process may open no further file.
    """
    paths = RunPaths(run_dir)
    facts = facts_in(read_record(paths.metrics) or {}, read_record(paths.history) or {}, metric)
    return None if facts == TrainingFacts() else facts


def facts_in(metrics: Mapping[str, Any], history: Mapping[str, Any], metric: str) -> TrainingFacts:
    """Return what the contents of metrics.json and history.json say."""
    digest = curve_digest(history, metric.removeprefix("val_"))
    reason = metrics.get("reason")
    best = _count(metrics.get("best_epoch"))
    val, train = finite(metrics.get(metric)), finite(metrics.get(metric_on("train", metric)))
    return TrainingFacts(
        compute_s=_seconds(metrics.get("compute_sec")),
        wall_s=_seconds(metrics.get("train_time_sec")),
        epochs=_first(_count(metrics.get("epochs")), digest.epochs or None),
        planned_epochs=_first(_count(metrics.get("planned_epochs")), _count(history.get("planned_epochs"))),
        best_epoch=None if best is None else best + 1,
        steps=_count(metrics.get("steps")),
        planned_steps=_first(_count(metrics.get("planned_steps")), _count(history.get("planned_steps"))),
        wanted_steps=_first(_count(metrics.get("wanted_steps")), _count(history.get("wanted_steps"))),
        n_params=_count(metrics.get("n_params")),
        gap=digest.gap_at_best if val is None or train is None else val - train,
        curve=digest.flag if digest.epochs else None,
        end=ENDS.get(reason) if isinstance(reason, str) else None,
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < LARGEST else None


def _seconds(value: object) -> float | None:
    seconds = finite(value)
    return seconds if seconds is not None and 0 <= seconds < MOST_SECONDS else None


def _first(value: int | None, other: int | None) -> int | None:
    return other if value is None else value

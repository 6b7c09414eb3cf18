"""Computes the scores of trainings again, with a process of ours, before they may lead a search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_agent_graph.context import Launcher, Recomputed
from nas_system.errors import ConfigError, NasError, RunError, SearchPaused
from nas_system.files import finite
from nas_system.nas_agent.log_text import one_line

CONTROL_TIMEOUT_S = 300.0
_PROBLEM_CHARACTERS = 150


class Verification:
    """Scores the best weights of runs on the validation part, as `nas score --part val` does."""

    def __init__(
        self,
        launcher: Launcher,
        facts_file: Path,
        *,
        metric: str,
        device: str,
        threads: str | None,
        memory_mb: int | None,
    ) -> None:
        """`metric` is the task's (`val_mse`); `threads` and `memory_mb` are those of a training."""
        self._launcher = launcher
        self._metric = metric
        self._device = device
        self._flags = ["--part", "val", "--facts", str(facts_file), "--device", device]
        if threads is not None and threads != "auto":
            self._flags += ["--threads", threads]
        if memory_mb is not None:
            self._flags += ["--memory-limit", str(memory_mb)]

    def __call__(self, run_dirs: Sequence[Path], *, timeout_s: float) -> list[Recomputed]:
        """Return a score for each folder; the process gets a second try, with one folder at a time.

        Raises SearchPaused if the data, the device or this machine is to blame.
        """
        try:
            return self._scores(run_dirs, timeout_s)
        except RunError:
            return [self._score_alone(run_dir, timeout_s) for run_dir in run_dirs]

    def _score_alone(self, run_dir: Path, timeout_s: float) -> Recomputed:
        try:
            return self._scores([run_dir], timeout_s)[0]
        except RunError as error:
            # Weights that hang or kill the process that looks at them must not stop the search for good: they
            # are to blame, unless nothing runs here at all.
            self._require_a_working_machine(run_dir)
            return Recomputed(None, 0, f"best_model.pth cannot be evaluated, tried twice: {_short(error)}")

    def _scores(self, run_dirs: Sequence[Path], timeout_s: float) -> list[Recomputed]:
        """Raises RunError for a process that ends badly or answers something else."""
        folders = [flag for run_dir in run_dirs for flag in ("--run", str(run_dir))]
        try:
            answer = self._launcher.call("nas_system.score", [*folders, *self._flags], timeout_s=timeout_s)
        except ConfigError as error:
            raise _paused(run_dirs[0], error) from None
        try:
            # A library may print above it.
            runs = json.loads(answer.splitlines()[-1])["runs"]
            if len(runs) != len(run_dirs):
                raise ValueError(f"{len(runs)} runs")
            return [self._recomputed(run) for run in runs]
        except (ValueError, LookupError, TypeError):
            raise RunError(f"nas_system.score answered {one_line(answer, 100)}") from None

    def _recomputed(self, run: Mapping[str, Any]) -> Recomputed:
        if "problem" in run:
            return Recomputed(None, 0, one_line(str(run["problem"]), _PROBLEM_CHARACTERS))
        score = finite(run[self._metric])
        if score is None:
            raise ValueError(f"no finite {self._metric}")
        return Recomputed(score, int(run["samples"]))

    def _require_a_working_machine(self, run_dir: Path) -> None:
        """Raise SearchPaused if a process that needs torch and the device, and no run, fails as well."""
        try:
            command = ["--check-device", self._device]
            self._launcher.call("nas_system.describe", command, timeout_s=CONTROL_TIMEOUT_S)
        except NasError as error:
            raise _paused(run_dir, error) from None


def _paused(run_dir: Path, error: NasError) -> SearchPaused:
    return SearchPaused(
        f"the score of {run_dir} cannot be checked: {_short(error)}. What was trained is on disk: fix that, "
        "then give the same command again"
    )


def _short(error: NasError) -> str:
    return one_line(str(error), _PROBLEM_CHARACTERS)

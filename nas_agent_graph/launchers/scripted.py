"""A launcher that trains nothing: every run ends at once with a score computed by a function.

For demonstrations, tests of the search's logic, and measuring what the agent itself costs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nas_agent_graph.context import RunState
from nas_system.config_io.config_file import read_config
from nas_system.errors import RunError
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig

Score = Callable[[RunConfig], float | None]


class ScriptedLauncher:
    """`score(config)` is the run's validation score, None makes it fail; `calls` answers `call` by module."""

    def __init__(self, score: Score, calls: dict[str, Callable[[Sequence[str]], Any]] | None = None) -> None:
        self.score = score
        self.calls = calls or {}
        self.submitted: list[tuple[str, int]] = []
        """Every training started: (tag, attempt)."""

    def warm_up(self, runs_dir: Path, modules: Sequence[str]) -> None:
        """Do nothing: there are no trainings to prepare for."""

    def finish(self, runs_dir: Path) -> None:
        """Do nothing: a script draws no pictures."""

    def close(self) -> None:
        """Do nothing: nothing was started."""

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        """End the run at once."""
        paths = RunPaths(run_dir)
        self.submitted.append((run_dir.name, attempt))
        config = read_config(paths.config)
        value = self.score(config)
        if value is not None:
            train, val, test = (f"{part}_{config.task.metric_name}" for part in ("train", "val", "test"))
            epochs = [{"epoch": 0, train: 2 * value, val: value, "lr": config.training.lr}]
            _write(paths.history, {"best_epoch": 0, "epochs": epochs})
            _write(paths.metrics, {val: value, test: value, "best_epoch": 0, "reason": "completed"})
        code = 0 if value is not None else 1
        end = {"schema": 1, "attempt": attempt, "ended": "exited", "returncode": code, "wall_s": 0.0}
        _write(paths.exit, end)

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        return {path: "finished" if RunPaths(path).exit.exists() else "absent" for path in run_dirs}

    def n_queued(self, run_dirs: Sequence[Path]) -> int:
        """Return 0: no training waits."""
        return 0

    def is_running(self, run_dir: Path) -> bool:
        """Return False: every training has ended when `submit` returns."""
        return False

    def cancel(self, run_dir: Path, *, force: bool = False) -> None:
        """Do nothing: nothing ever runs here."""

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        """Return what the script has for this module, as JSON. Raises RunError if it has nothing."""
        if module not in self.calls:
            raise RunError(f"the script has no answer for {module}")
        return json.dumps(self.calls[module](arguments))

    def memory_limit_mb(self) -> None:
        """Return None: what trains nothing needs no memory."""

    def cores(self) -> int:
        """Return 1: nothing is computed here."""
        return 1

    def cuda_devices(self, name: str) -> tuple[str, ...]:
        """Return none."""
        return ()

    def check_device(self, name: str) -> None:
        """Accept any device: none is used."""

    def check_sandbox(self) -> None:
        """Return None: nothing runs here that would need one."""


def _write(path: Path, value: Any) -> None:
    # Not durable on purpose: these files stand for a training, not for the agent's memory.
    path.write_text(json.dumps(value))

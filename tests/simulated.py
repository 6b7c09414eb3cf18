"""Trainings of scripted lengths on a clock that moves only when the agent waits: a pool without a process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_agent_graph.context import RunState
from nas_agent_graph.host.clock import SystemClock
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_system.config_io.config_file import read_config
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig


@dataclass
class SimulatedClock(SystemClock):
    """Starts at zero."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Killed(BaseException):
    """The agent is gone, as after `kill -9`."""


@dataclass
class MortalClock(SimulatedClock):
    """Ends the agent that waits at one of these moments."""

    dies_at: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        if self.dies_at and self.now >= self.dies_at[0]:
            self.dies_at.pop(0)
            raise Killed
        super().sleep(seconds)


@dataclass(frozen=True)
class Scripted:
    """How a training goes."""

    seconds: float = 10.0
    scores: tuple[float, ...] = (0.05,)
    """Validation score after each epoch; the best one is the result."""
    error: str | None = None
    """`kind` of the error.json that it ends with."""


@dataclass
class _Running:
    job: Job
    attempt: int
    began: float
    script: Scripted
    metric: str
    epochs: int = 0


@dataclass
class SimulatedLauncher(ScriptedLauncher):
    """`script(name, attempt, config)` says how each attempt of a training goes; all outlive the agent."""

    clock: SimulatedClock
    script: Callable[[str, int, RunConfig], Scripted] = lambda name, attempt, config: Scripted()
    devices: tuple[str, ...] = ()
    submitted: list[tuple[str, int]] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    """The folder of each training within that of all runs, at its start: `run_0007/repeats/seed_43`."""
    jobs: dict[tuple[str, int], Job] = field(default_factory=dict)
    """Each training's latest start: by name and attempt."""
    at_once: list[frozenset[str]] = field(default_factory=list)
    """What trained at once, after every start."""
    asked_to_end: list[str] = field(default_factory=list)
    running: dict[Path, _Running] = field(default_factory=dict)

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        assert run_dir not in self.running, f"{run_dir} would train twice at once"
        config = read_config(RunPaths(run_dir).config)
        self.trained.append(run_dir.as_posix().rpartition("/runs/")[2])
        script = self.script(run_dir.name, attempt, config)
        self.submitted.append((run_dir.name, attempt))
        self.jobs[run_dir.name, attempt] = job
        self.running[run_dir] = _Running(job, attempt, self.clock.now, script, config.task.metric_name)
        self.at_once.append(frozenset(path.name for path in self.running))
        _write(RunPaths(run_dir).process, {"schema": 1, "attempt": attempt})

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        for run_dir in list(self.running):
            self._advance(run_dir)
        return {path: self._state_of(path) for path in run_dirs}

    def n_queued(self, run_dirs: Sequence[Path]) -> int:
        return 0

    def _state_of(self, run_dir: Path) -> RunState:
        if run_dir in self.running:
            return "running"
        return "finished" if RunPaths(run_dir).exit.exists() else "absent"

    def _advance(self, run_dir: Path) -> None:
        training = self.running[run_dir]
        passed = (self.clock.now - training.began) / training.script.seconds
        scores, metric = training.script.scores, training.metric
        done = scores[: min(int(passed * len(scores) + 1e-9), len(scores))]
        epochs = [
            {"epoch": epoch, f"train_{metric}": 2 * score, f"val_{metric}": score, "lr": 0.001}
            for epoch, score in enumerate(done)
        ]
        if len(epochs) > training.epochs:
            training.epochs = len(epochs)
            best = min(range(len(done)), key=done.__getitem__)
            history = {"best_epoch": best, "planned_epochs": len(scores), "epochs": epochs}
            _write(RunPaths(run_dir).history, history)
        if passed >= 1 - 1e-9:
            self._end(run_dir)

    def _end(self, run_dir: Path, ended: str = "exited") -> None:
        training, paths = self.running.pop(run_dir), RunPaths(run_dir)
        metric, script = training.metric, training.script
        code = 0
        paths.error.unlink(missing_ok=True)
        if ended == "stop_request":
            code = 5
        elif script.error is not None:
            code = 4 if script.error.startswith("oom") else 1
            _write(paths.error, {"kind": script.error, "message": "scripted"})
        else:
            score = min(script.scores)
            values = {f"val_{metric}": score, f"test_{metric}": 2 * score, "reason": "completed"}
            _write(paths.metrics, values | {"best_epoch": len(script.scores) - 1})
        end = {
            "schema": 1,
            "attempt": training.attempt,
            "ended": ended,
            "returncode": code,
            "wall_s": self.clock.now - training.began,
            "ended_at": f"{training.began + script.seconds:012.3f}",
        }
        _write(paths.exit, end)

    def is_running(self, run_dir: Path) -> bool:
        return run_dir in self.running

    def cancel(self, run_dir: Path, *, force: bool = False) -> None:
        if run_dir in self.running:
            self.asked_to_end.append(run_dir.name)
            self._end(run_dir, "stop_request")

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        raise AssertionError(f"nothing asks for {module}")

    def cores(self) -> int:
        return 8

    def cuda_devices(self, name: str) -> tuple[str, ...]:
        return self.devices

    def device_of(self, name: str, attempt: int = 1) -> str | None:
        """Return the devices that the training saw."""
        return dict(self.jobs[name, attempt].environment).get("CUDA_VISIBLE_DEVICES")

    def flags_of(self, name: str, attempt: int = 1) -> tuple[str, ...]:
        """Return the training's command line."""
        return self.jobs[name, attempt].command

    @property
    def most_at_once(self) -> int:
        return max(map(len, self.at_once))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))

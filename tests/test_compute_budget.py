"""A budget that a busy machine does not change: real trainings, alone and among busy processes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import write_hourly
from python_server import run_python

from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.processes.run_files import RunPaths

BUSY = 6
TASK = "task: {{dataset: {0}/series.csv, target: load, pred_len: 6}}\n"
DATA = "data: {features: S, seq_len: 48, batch_size: 32}\n"
PATCHTST = "model: {family: patchtst, patch_len: 12, stride: 12}\n" + DATA
PATCHTST += "training: {lr: 0.001, scheduler: cosine, max_epochs: 12, patience: 12}\n"
LINEAR = "model: {family: linear}\n" + DATA + "training: {lr: 0.01, max_epochs: 40, patience: 40}\n"
FLAGS = ("--dataset", "series.csv", "--target", "load", "--pred-len", "6", "--base-config", "base.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_hourly(tmp_path / "series.csv", 700, load=lambda hour: 10 + hour % 24 + (hour * 37) % 11)
    return tmp_path


@contextlib.contextmanager
def busy_processes(core: int) -> Iterator[None]:
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile os.getppid() == {os.getpid()}: pass"
    started = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def train_on(core: int, folder: Path, tag: str, *flags: str) -> str:
    """Train config.yaml on one core; return what was printed."""
    code = (
        f"import os, sys; os.sched_setaffinity(0, {{{core}}})\n"
        "from nas_system.train import main; sys.exit(main(sys.argv[1:]))"
    )
    own = ("--config", "config.yaml", "--tag", tag, "--device", "cpu", "--no-pictures")
    done = run_python(["-c", code, *own, *flags], cwd=folder, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return done.stdout


def metrics_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def test_a_busy_machine_changes_neither_plan_nor_score(folder: Path) -> None:
    (folder / "config.yaml").write_text(TASK.format(folder) + PATCHTST)
    core = min(os.sched_getaffinity(0))

    def alone_and_among_others(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        # What two epochs cost, and half of what a third would add: the ladder's rungs are far away.
        costs = []
        for epochs in (2, 4):
            steps = str(14 * epochs)
            said = train_on(core, folder, f"cost_{number}", "--preflight-only", "--max-steps", steps)
            costs.append(json.loads(said.splitlines()[-1])["training_s"])
        limit = ("--time-limit", f"{math.sqrt(costs[0] * costs[1]):.4f}")
        train_on(core, folder, f"alone_{number}", *limit)
        with busy_processes(core):
            train_on(core, folder, f"loaded_{number}", *limit)
        alone, loaded = (metrics_of(folder / "runs" / f"{name}_{number}") for name in ("alone", "loaded"))
        return alone, loaded

    # By the clock a step takes seven times as long among six others, compute at most half as much again, on
    # two threads of one core. That once in three tries nothing else changed the pace may be expected.
    seen = []
    for number in range(3):
        alone, loaded = alone_and_among_others(number)
        seen.append((alone["planned_steps"], loaded["planned_steps"]))
        if alone["planned_steps"] == loaded["planned_steps"]:
            break
    assert alone["planned_steps"] == loaded["planned_steps"], seen
    assert 0 < alone["planned_steps"] < alone["wanted_steps"]
    for name in ("val_mse", "test_mse", "train_mse", "best_epoch", "planned_epochs", "reason"):
        assert alone[name] == loaded[name]

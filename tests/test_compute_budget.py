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
TASK = "task: {{dataset: {0}/series.csv, targets: [load], pred_len: 6}}\n"
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

    def cost_s(epochs: int) -> float:
        return looked_ahead("--max-steps", str(epochs * a_pass))["training_s"]

    def looked_ahead(*flags: str) -> dict[str, Any]:
        return json.loads(train_on(core, folder, "cost", "--preflight-only", *flags).splitlines()[-1])

    a_pass = looked_ahead()["wanted_steps"] // 12

    def alone_and_among_others(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        # Between what one epoch costs and what two do, so that a pace 1.4 times this one makes the same plan.
        limit = ("--time-limit", f"{math.sqrt(cost_s(1) * cost_s(2)):.4f}")
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


def test_a_shorter_plan_takes_the_learning_rate_to_its_end(folder: Path, run_cli: Callable) -> None:
    (folder / "config.yaml").write_text(TASK.format(folder) + PATCHTST)
    flags = ("--config", "config.yaml", "--tag", "run", "--no-pictures", "--max-steps", "60")
    done = run_cli("nas_system.train", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(folder / "runs" / "run")
    epochs = metrics["planned_epochs"]
    assert 2 <= epochs < 12
    assert metrics["planned_steps"] == metrics["steps"] <= 60 < metrics["wanted_steps"]
    history = json.loads((folder / "runs" / "run" / "history.json").read_text())
    rates = [epoch["lr"] for epoch in history["epochs"]]
    cosine = [0.0005 * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs)]
    assert rates == pytest.approx(cosine)
    assert f"epoch {epochs}/{epochs}" in done.stdout


def test_a_killed_training_goes_on_as_it_was_planned(folder: Path, run_cli: Callable) -> None:
    (folder / "config.yaml").write_text(
        TASK.format(folder) + LINEAR.replace("batch_size: 32", "batch_size: 1")
    )
    flags = ("--config", "config.yaml", "--no-pictures", "--tag")
    whole = run_cli("nas_system.train", *flags, "whole", "--max-steps", "6000", cwd=folder)
    assert whole.returncode == 0, whole.stderr
    paths = RunPaths(folder / "runs" / "run")
    command = [sys.executable, "-m", "nas_system.train", *flags, "run", "--max-steps", "6000"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as training:
        while not paths.last.exists():
            assert training.poll() is None
            time.sleep(0.01)
        training.kill()
    assert not paths.metrics.exists()
    resumed = run_cli("nas_system.train", *flags, "run", "--resume", "--time-limit", "0.001", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after epoch " in resumed.stdout
    expected, found = metrics_of(folder / "runs" / "whole"), metrics_of(paths.folder)
    for name in ("planned_epochs", "planned_steps", "wanted_steps", "plan", "steps", "reason", "val_mse"):
        assert found[name] == expected[name]
    assert found["planned_steps"] < found["wanted_steps"]


def test_the_repeats_of_a_shortened_base_config_are_as_long_as_it(folder: Path, run_cli: Callable) -> None:
    (folder / "base.yaml").write_text(LINEAR.replace("max_epochs: 40", "max_epochs: 1000, scheduler: cosine"))
    flags = ("--max-runs", "1", "--repeat-base", "1", "--minutes-per-run", "0.02")
    done = run_cli("nas_agent_graph.run", *FLAGS, *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    run = folder / "runs" / "run_0000"
    first, second = metrics_of(run), metrics_of(run / "repeats" / "seed_43")
    assert first["planned_steps"] < first["wanted_steps"]
    assert first["reason"] == second["reason"] == "completed"
    assert first["plan"]["why"].startswith(f"planned for {first['planned_steps']:,} of ")
    assert ": 1.2 s of compute; about " in first["plan"]["why"]
    for name in ("planned_epochs", "planned_steps", "wanted_steps"):
        assert second[name] == first[name]
    most = first["plan"]["most_steps"]
    assert second["plan"]["most_steps"] == most
    assert second["plan"]["why"].endswith(f": at most {most:,} steps were asked for"), "nothing was measured"
    info = load_agent_state(folder / "agent_state.json").runs[0]
    assert info.status == "OK"
    assert (
        f"Planned for {first['planned_steps']:,} of the {first['wanted_steps']:,} steps"
        in info.history_summary
    )
    shown = run_cli("nas_agent_graph.show", "run_0000", cwd=folder)
    assert f"length       planned for {first['planned_steps']:,} of " in shown.stdout


def test_steps_per_run_needs_no_measurement(folder: Path, run_cli: Callable) -> None:
    (folder / "base.yaml").write_text(LINEAR)
    flags = ("--max-runs", "1", "--repeat-base", "1", "--steps-per-run", "40")
    done = run_cli("nas_agent_graph.run", *FLAGS, *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    first = metrics_of(folder / "runs" / "run_0000")
    repeat = metrics_of(folder / "runs" / "run_0000" / "repeats" / "seed_43")
    for metrics in (first, repeat):
        assert 20 < metrics["steps"] == metrics["planned_steps"] <= 40 < metrics["wanted_steps"]
        assert metrics["plan"]["why"].endswith(": at most 40 steps were asked for")
    used = ("--config", "runs/run_0000/config_used.py", "--facts", "runs/task_facts.json")
    flags = ("--tag", "again", "--runs-dir", ".", "--max-steps", "40", "--no-pictures")
    assert run_cli("nas_system.train", *used, *flags, cwd=folder).returncode == 0
    assert metrics_of(folder / "again")["val_mse"] == first["val_mse"]


def test_a_limit_on_steps_reaches_the_prompt_and_the_estimate(folder: Path, run_cli: Callable) -> None:
    (folder / "base.yaml").write_text(LINEAR)
    flags = ("--dry-run", "--max-runs", "5", "--steps-per-run", "40", "--repeat-base", "0")
    done = run_cli("nas_agent_graph.run", *FLAGS, *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "A training may take 40 optimizer steps; " in done.stdout
    assert " steps)\nlimits:   5 runs of 40 optimizer steps at the most" in done.stdout
    wrong = run_cli("nas_agent_graph.run", *FLAGS, "--steps-per-run", "0", cwd=folder)
    assert wrong.returncode == 2
    assert "'0' is not a whole number of 1 or more" in wrong.stderr

"""A real training that is stopped early under its supervisor, and continued from where it stood."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builders import write_hourly

from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.nas_agent.pruned import Pruned, write_pruned
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths

CONFIG = """\
task: {{dataset: {file}, targets: [load], pred_len: 4}}
model: {{family: gru, hidden_size: 16, num_layers: 2, dropout: 0.3}}
data: {{features: S, seq_len: 24, batch_size: 8}}
training: {{lr: 0.003, scheduler: cosine, max_steps: 400, patience: 20, augmentation: jitter}}
"""
PLANNED, SEEN = 10, 3
"""Epochs of the plan, and after how many it is stopped."""
PRUNED = Pruned(
    rule="margin",
    rung="1/4",
    epoch=SEEN,
    planned_epochs=PLANNED,
    direction="minimize",
    score=0.9,
    threshold=0.5,
    reference=0.4,
    against="run_0001",
    margin=0.15,
    compared=5,
)


def attempt(launcher: LocalLauncher, paths: RunPaths, number: int) -> None:
    """Begin an attempt, as the search does."""
    folder = paths.folder
    command = [
        sys.executable,
        "-m",
        "nas_system.train",
        "--config",
        str(folder / "config.yaml"),
        "--tag",
        folder.name,
    ]
    command += ["--runs-dir", str(folder.parent), "--output-dir", str(paths.work), "--resume"]
    job = Job(
        (*command, "--device", "cpu", "--no-pictures"),
        time_limit_s=200,
        readable=(folder.parents[1] / "series.csv",),
    )
    launcher.submit(folder, job, attempt=number)


def wait_until_ended(launcher: LocalLauncher, paths: RunPaths) -> None:
    while launcher.survey([paths.folder])[paths.folder] == "running":
        time.sleep(0.05)


def history_of(folder: Path) -> dict[str, Any]:
    """Return the history without what the clock gives."""
    history = json.loads(RunPaths(folder).history.read_text())
    return history | {"epochs": [entry | {"seconds": None} for entry in history["epochs"]]}


def test_a_training_that_was_stopped_early_and_continued_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file = write_hourly(tmp_path / "series.csv", 600, load=lambda hour: 10 + hour % 24 + (hour * 37) % 11)
    whole, cut = RunPaths(tmp_path / "runs/run_0001"), RunPaths(tmp_path / "runs/run_0002")
    for paths in (whole, cut):
        paths.folder.mkdir(parents=True)
        paths.config.with_name("config.yaml").write_text(CONFIG.format(file=file))
    flags = (
        "--config",
        whole.folder / "config.yaml",
        "--tag",
        "run_0001",
        "--device",
        "cpu",
        "--no-pictures",
    )
    done = run_cli("nas_system.train", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    launcher = LocalLauncher(sandbox="off")
    attempt(launcher, cut, 1)
    begun = RunPaths(cut.work).history
    while not begun.exists() or len(json.loads(begun.read_text())["epochs"]) < SEEN:
        assert launcher.survey([cut.folder])[cut.folder] == "running"
        time.sleep(0.01)
    write_pruned(cut.folder, PRUNED, attempt=1)
    launcher.cancel(cut.folder)
    wait_until_ended(launcher, cut)
    stopped = read_outcome(cut.folder)
    assert (stopped.status, stopped.val_score, stopped.pruned) == (Status.PRUNED, None, PRUNED)
    assert SEEN <= len(history_of(cut.folder)["epochs"]) < PLANNED

    attempt(launcher, cut, 2)
    wait_until_ended(launcher, cut)
    ended = read_outcome(cut.folder)
    assert (ended.status, ended.attempt, ended.pruned) == (Status.OK, 2, None)
    assert "resumed after epoch" in cut.log.read_text()
    assert history_of(cut.folder) == history_of(whole.folder)
    metrics, wanted = (json.loads(paths.metrics.read_text()) for paths in (cut, whole))
    assert (ended.val_score, ended.test_score) == (wanted["val_mse"], wanted["test_mse"])
    for name in (
        "best_epoch",
        "planned_epochs",
        "planned_steps",
        "plan",
        "steps",
        "epochs",
        "reason",
        "val_mae",
    ):
        assert metrics[name] == wanted[name], name
    assert metrics["planned_epochs"] == PLANNED

"""The pre-flight through the door: a hopeless training ends in seconds, says why, and counts as a run."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from builders import Scripted, drive, search_context, write_wave

from nas_agent_graph.budget import Limits
from nas_agent_graph.launchers.local import LocalLauncher
from nas_agent_graph.progress.plain import PlainProgress
from nas_agent_graph.search_view import BLAMELESS
from nas_system.config_io.config_file import write_config
from nas_system.data import locate
from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.job import Job
from nas_system.space import ForecastingTask, RunConfig, TaskConfig
from nas_system.tasks.forecasting import describe_source

SMALL = {"family": "linear"}
# Hundreds of windows to validate on, at a hundredth of a second each.
LARGE = {
    "family": "informer",
    "d_model": 512,
    "n_heads": 8,
    "d_ff": 2048,
    "e_layers": 6,
    "d_layers": 4,
    "attention": "full",
    "distil": False,
}


@pytest.fixture
def task(tmp_path: Path) -> TaskConfig:
    path = write_wave(tmp_path / "series.csv", 4000)
    return ForecastingTask(dataset=str(path), targets=("load",), pred_len=24)


def config(task: TaskConfig, model: dict, *, seq_len: int = 96, batch_size: int = 64) -> RunConfig:
    return RunConfig.model_validate(
        {
            "task": task.model_dump(),
            "model": model,
            "data": {"features": "S", "seq_len": seq_len, "batch_size": batch_size},
            "training": {"lr": 0.01, "max_epochs": 1, "patience": 1},
        }
    )


def launched(folder: Path, config: RunConfig, *options: str, memory_mb: int | None = None) -> Path:
    """Runs a training to its end under the launcher and its supervisor; returns its folder."""
    run_dir = folder / "runs" / "run_0000"
    run_dir.mkdir(parents=True)
    write_config(run_dir / "config_used.py", config)
    arguments = ["--config", str(run_dir / "config_used.py"), "--runs-dir", str(run_dir.parent)]
    arguments += ["--tag", run_dir.name, "--device", "cpu", "--output-dir", str(run_dir / "work"), *options]
    command = [sys.executable, "-m", "nas_system.train", *arguments]
    if memory_mb is not None:
        command = [sys.executable, "-c", IN_LESS_MEMORY, str(memory_mb), *arguments]
    launcher = LocalLauncher()
    launcher.submit(
        run_dir, Job(tuple(command), time_limit_s=120, readable=(Path(config.task.dataset),)), attempt=1
    )
    while launcher.survey([run_dir])[run_dir] == "running":
        time.sleep(0.05)
    return run_dir


IN_LESS_MEMORY = """
import resource, sys, torch
from nas_system.train import main
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[1]) * 2**20,) * 2)
sys.exit(main(sys.argv[2:]))
"""


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.fault(18)
def test_a_training_that_needs_too_much_memory_is_refused_with_its_numbers(tmp_path, task):
    hungry = config(
        task, {"family": "informer", "attention": "full", "d_model": 64}, seq_len=336, batch_size=512
    )
    run_dir = launched(tmp_path, hungry, memory_mb=700)
    outcome = read_outcome(run_dir)
    assert outcome.status is Status.FAILED, (run_dir / "train.log").read_text()
    assert outcome.cause is not None
    assert outcome.cause.startswith("preflight:memory: ")
    assert outcome.cause.endswith(
        "MiB there; lower data.batch_size, the width or, for a series, data.seq_len"
    )
    numbers = outcome.numbers
    assert numbers["needed_mb"] == pytest.approx(
        numbers["parameters_mb"] + numbers["activations_mb"], abs=0.2
    )
    assert numbers["needed_mb"] > numbers["available_mb"] > 100
    assert numbers["batch_size"] == 512
    assert names_in(run_dir).isdisjoint({"metrics.json", "history.json", "best_model.pth"})


def test_a_training_that_costs_too_much_however_short_it_is_is_refused_before_it_begins(tmp_path, task):
    run_dir = launched(tmp_path, config(task, LARGE, seq_len=336, batch_size=1), "--time-limit", "0.5")
    outcome = read_outcome(run_dir)
    assert outcome.status is Status.FAILED, (run_dir / "train.log").read_text()
    assert (outcome.cause or "").startswith("preflight:time: one step and its evaluation cost about ")
    assert " s of compute, a run may cost 0.5 s; lower the width" in (outcome.cause or "")
    assert outcome.numbers["shortest_s"] > 11
    assert names_in(run_dir).isdisjoint({"metrics.json", "history.json"})


def test_a_good_training_says_what_was_expected_of_it(tmp_path, task, run_cli):
    write_config(tmp_path / "config.py", config(task, SMALL))
    arguments = ("--config", "config.py", "--tag", "run", "--time-limit", "600")
    done = run_cli("nas_system.train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "runs" / "run" / "metrics.json").read_text())
    expected = metrics["preflight"]
    assert set(expected) == {"n_params", "memory_mb", "step_ms", "epoch_s", "training_s", "seconds"}
    assert expected["n_params"] == metrics["n_params"]
    # The kernel counts resident pages in batches per core, so two readings differ by a fraction of a MiB.
    peak_mb = metrics["peak_memory_mb"]
    assert 0.5 * peak_mb < expected["memory_mb"] <= peak_mb + 1
    assert 0 < expected["step_ms"] / 1000 < expected["epoch_s"] <= expected["training_s"]
    assert f"{metrics['n_params']:,} parameters, about " in done.stdout


def test_a_search_counts_the_refused_run_and_goes_on(tmp_path, task, capsys):
    large = {"model." + name: value for name, value in LARGE.items()}
    proposer = Scripted(large | {"data.batch_size": 1, "data.seq_len": 336}, {"training.lr": 0.005})
    context = search_context(
        tmp_path,
        task=task,
        facts=describe_source(task, locate(task, None)).to_json(),
        base=config(task, SMALL),
        proposer=proposer,
        launcher=LocalLauncher(),
        progress=PlainProgress(sys.stdout),
        limits=Limits(max_runs=3, run_seconds=0.5, repeat_base=0),
        train_command=(sys.executable, "-m", "nas_system.train", "--device", "cpu"),
    )
    drive(context)
    runs = load_agent_state(tmp_path / "agent_state.json").runs
    assert [run.status for run in runs] == ["OK", "FAILED", "OK"], runs[1].cause
    cause = runs[1].cause or ""
    assert cause.startswith("preflight:time: one step and its evaluation cost ")
    assert len(cause) <= 200
    # The next proposal is made in view of it, by a sampler too: it is bad, not unheard of.
    shown = proposer.views[1].runs[1]
    assert (shown.status, shown.cause, shown.val_score) == ("FAILED", cause, None)
    assert shown.status not in BLAMELESS
    assert "preflight:time" in capsys.readouterr().out

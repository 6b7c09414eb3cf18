"""The limits that every training of a search runs under: where they come from, and that they hold."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import write_wave

from nas_agent_graph.cli import COMMANDS
from nas_agent_graph.launchers.local import LocalLauncher
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.search_setup import limits_of
from nas_system.config_io.config_file import write_config
from nas_system.nas_agent.logging_utils import load_metrics
from nas_system.nas_agent.outcome import Outcome, Status, read_outcome
from nas_system.processes.job import SILENCE_LIMIT_S, Job
from nas_system.processes.machine_memory import MEMORY_SHARE, memory_limit_mb, total_memory_mb
from nas_system.space import RunConfig

MIB = 2**20


def limits_by(*flags: str) -> tuple[float | None, int | None]:
    limits = limits_of(COMMANDS["run"].parser("nas run").parse_args(flags), LocalLauncher())
    return limits.silence_seconds, limits.memory_mb


@pytest.mark.fault(18, 20)
def test_a_search_without_flags_has_limits_of_silence_and_of_memory() -> None:
    total_mb = total_memory_mb()
    assert total_mb is not None and total_mb > 500
    assert limits_by() == (SILENCE_LIMIT_S, int(MEMORY_SHARE * total_mb))
    help_text = " ".join(COMMANDS["run"].parser("nas run").format_help().split())
    assert f"default: {SILENCE_LIMIT_S / 60:.0f}" in help_text
    assert f"default: {MEMORY_SHARE:.0%} of the machine's" in help_text


@pytest.mark.fault(18)
def test_the_default_memory_limit_is_asked_of_the_launcher_for_it_knows_the_machine_that_trains() -> None:
    class Elsewhere(ScriptedLauncher):
        def memory_limit_mb(self) -> int:
            return 777

    arguments = COMMANDS["run"].parser("nas run").parse_args([])
    assert limits_of(arguments, Elsewhere(lambda config: 0.0)).memory_mb == 777
    given = COMMANDS["run"].parser("nas run").parse_args(["--memory-per-run", "1"])
    assert limits_of(given, Elsewhere(lambda config: 0.0)).memory_mb == 1024
    estimated = COMMANDS["run"].parser("nas run").parse_args(["--memory-per-run", "auto"])
    assert limits_of(estimated, Elsewhere(lambda config: 0.0)).memory_mb == 777


@pytest.mark.fault(18, 20)
def test_flags_set_the_limits_and_zero_turns_them_off() -> None:
    assert limits_by("--max-silent-minutes", "2.5", "--memory-per-run", "1.5") == (150.0, 1536)
    assert limits_by("--max-silent-minutes", "0", "--memory-per-run", "0") == (None, None)
    assert memory_limit_mb(None) is None, "no limit where nobody knows the machine's memory"
    for flag in ("--max-silent-minutes", "--memory-per-run"):
        for text in ("-1", "nan", "inf", "much"):
            with pytest.raises(SystemExit) as ended:
                limits_by(flag, text)
            assert ended.value.code == 2


@pytest.mark.parametrize(
    ("membership", "files", "total_mb"),
    [
        ("0::/", {}, 4000.0),
        ("0::/box", {"box/memory.max": 500 * MIB}, 500.0),
        ("0::/box", {"box/memory.max": "max"}, 4000.0),
        ("0::/a/b", {"a/b/memory.max": 900 * MIB, "a/memory.max": 400 * MIB}, 400.0),
        ("4:cpu,memory:/box", {"memory/box/memory.limit_in_bytes": 300 * MIB}, 300.0),
        ("4:cpu:/box", {"box/memory.max": 300 * MIB}, 4000.0),
        # Inside a container the path is the host's; the top is the container's own.
        ("0::/not/here", {"memory.max": 200 * MIB}, 200.0),
        # Version 1 says "no limit" as a number that no machine has.
        ("4:memory:/", {"memory/memory.limit_in_bytes": 2**63 - 4096}, 4000.0),
        ("nonsense", {}, 4000.0),
    ],
)
def test_the_memory_there_is_that_of_the_machine_or_of_the_narrowest_group_around(
    tmp_path: Path, membership: str, files: dict[str, Any], total_mb: float
) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: {4000 * 1024} kB\nMemFree: 7 kB\n")
    (proc / "self" / "cgroup").write_text(membership + "\n")
    for name, value in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{value}\n")
    assert total_memory_mb(proc, groups) == total_mb
    assert total_memory_mb(tmp_path / "nowhere", groups) is None


# -- the real trainer ----------------------------------------------------------------------------------


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_wave(tmp_path / "series.csv", 2000)


def trained(
    series: Path, *options: str, job: dict[str, Any] | None = None, **parts: Any
) -> tuple[Path, Outcome]:
    """A real training under the launcher and its supervisor, to its end."""
    task = {"dataset": str(series), "targets": ["load"], "pred_len": 24}
    run_dir = series.parent / "runs" / "run_0000"
    run_dir.mkdir(parents=True)
    write_config(run_dir / "config_used.py", RunConfig.model_validate({"task": task, **parts}))
    command = [sys.executable, "-m", "nas_system.train", "--config", str(run_dir / "config_used.py")]
    command += ["--runs-dir", str(run_dir.parent), "--tag", run_dir.name, "--device", "cpu", *options]
    command += ["--output-dir", str(run_dir / "work")]
    launcher = LocalLauncher()
    launcher.submit(
        run_dir,
        Job(tuple(command), **{"time_limit_s": 100.0, "readable": (series,), **(job or {})}),
        attempt=1,
    )
    while launcher.survey([run_dir])[run_dir] == "running":
        time.sleep(0.05)
    return run_dir, read_outcome(run_dir)


WIDE = {
    "model": {"family": "informer", "attention": "full", "d_model": 64},
    "data": {"features": "S", "seq_len": 336, "batch_size": 512},
}


@pytest.mark.fault(18)
def test_what_cannot_fit_under_the_limit_is_refused_before_it_trains(series: Path) -> None:
    run_dir, outcome = trained(series, "--memory-limit", "900", **WIDE)
    assert outcome.status is Status.FAILED, (run_dir / "train.log").read_text()
    assert (outcome.cause or "").startswith("preflight:memory: ")
    assert outcome.numbers["needed_mb"] > outcome.numbers["available_mb"]
    assert outcome.numbers["available_mb"] < 900
    assert outcome.peak_memory_mb is not None and outcome.peak_memory_mb < 900
    assert not (run_dir / "history.json").exists()


@pytest.mark.fault(18)
def test_a_training_that_was_not_told_of_the_limit_is_ended_at_it(series: Path) -> None:
    run_dir, outcome = trained(series, job={"memory_limit_mb": 600}, **WIDE)
    assert outcome.status is Status.OOM_HOST, (run_dir / "train.log").read_text()
    assert "more than the limit; reduce batch_size" in (outcome.cause or "")
    assert outcome.peak_memory_mb is not None and outcome.peak_memory_mb > 600


@pytest.mark.fault(24)
def test_a_real_training_that_diverges_ends_early_with_valid_files_and_no_score(
    series: Path, record_property: Any
) -> None:
    # Legal values that together are none: the steps of plain SGD grow until the loss is no number.
    wild = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.999, "scheduler": "none", "max_epochs": 1000}
    model = {"family": "linear", "normalization": "none"}
    data = {"features": "S", "seq_len": 336, "batch_size": 16}
    run_dir, outcome = trained(series, model=model, data=data, training={**wild, "patience": 1000})
    assert outcome.status is Status.DIVERGED, (run_dir / "train.log").read_text()[-500:]
    assert outcome.val_score is None
    assert outcome.step is not None or outcome.epoch is not None
    assert "lower training.lr" in (outcome.cause or "")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    for name in ("metrics.json", "history.json", "error.json", "exit.json"):
        json.loads((run_dir / name).read_text(), parse_constant=refuse)
    metrics = load_metrics(run_dir)
    assert (metrics["reason"], metrics["val_mse"], metrics["test_mse"]) == ("diverged", None, None)
    assert metrics["epochs"] < 100, "of a thousand"
    record_property("measured", f"ended after {metrics['epochs']} of 1000 epochs")

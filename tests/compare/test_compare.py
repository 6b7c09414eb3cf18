"""`nas compare` as a process: real searches on a short series, stopped and continued, and bad input."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import write_hourly

from nas_system.nas_agent.agent_state import load_agent_state

Cli = Callable[..., subprocess.CompletedProcess[str]]

BASE = """
model: {family: linear}
data: {features: S, seq_len: 24, batch_size: 64}
training: {lr: 0.01, max_epochs: 1, patience: 1}
"""
FLAGS = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", "3", "--split", "0.7,0.15,0.15"),
    *("--base-config", "base.yaml", "--repeat-base", "0", "--steps-per-run", "5", "--origins", "1"),
    *("--runs", "2", "--seeds", "1", "--proposers", "random_search,tpe"),
)
CELLS = ("seed_1/random_search", "seed_1/tpe")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def load(hour: int) -> str:
        return f"{10 + 3 * math.sin(hour / 24 * 2 * math.pi) + 0.05 * ((hour * 7919) % 13 - 6):.3f}"

    write_hourly(tmp_path / "series.csv", 300, load=load)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


@pytest.fixture
def compare(run_cli: Cli, folder: Path) -> Cli:
    return lambda *flags: run_cli("nas_agent_graph.compare", *FLAGS, *flags, cwd=folder)


def record_in(folder: Path) -> dict:
    return json.loads((folder / "compare" / "compare.json").read_text())


def test_a_comparison_is_killed_goes_on_and_ends_with_one_table(
    compare: Cli, folder: Path, project_root: Path
) -> None:
    first = folder / "compare" / CELLS[0] / "agent_state.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "nas_agent_graph.compare", *FLAGS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(project_root)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    try:
        while not first.exists() or not load_agent_state(first).runs:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    begun = load_agent_state(first).runs[0]

    done = compare()
    assert done.returncode == 0, done.stderr
    assert load_agent_state(first).runs[0] == begun, "what was trained is not trained again"
    record = record_in(folder)
    assert record["ended"] == list(CELLS)
    result = record["result"]
    assert (result["seeds"], result["runs"]) == ([1], 2)
    for row in result["rows"]:
        state = load_agent_state(folder / "compare" / "seed_1" / row["proposer"] / "agent_state.json")
        scores = [run.val_score for run in state.runs]
        assert len(scores) == 2 and None not in scores
        assert state.seed == 1
        assert row["best"] == {"mean": min(scores), "half_width": None}
        # Base config and the default of the next family are everybody's first runs.
        assert row["above_best"] == {"2": pytest.approx(0, abs=1e-9)}
        assert row["compute_seconds"] > 0
    assert "best val_mse" in done.stdout
    assert "with one seed no two can be told apart" in done.stdout
    assert (folder / "compare" / "compare.png").read_bytes().startswith(b"\x89PNG")

    again = compare()
    assert again.returncode == 0 and "--- search" not in again.stdout
    assert "best val_mse" in again.stdout
    other = compare("--runs", "3")
    assert other.returncode == 2
    assert "this comparison began with --runs 2, not 3; choose another --workspace" in other.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--proposers", "tpe,nobody"), "'nobody' is not known; choose from: tpe, random_search"),
        (("--proposers", "tpe,llm"), "NAS_LLM_MODEL"),
        (("--seeds", "0"), "--seeds"),
        (("--target", "nothing"), "nothing"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    compare: Cli, folder: Path, flags: tuple[str, ...], said: str
) -> None:
    done = compare(*flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(folder.glob("compare/seed_1/*/runs/run_*"))


def test_a_folder_with_a_search_or_a_damaged_record_is_left_alone(compare: Cli, folder: Path) -> None:
    state = folder / "compare" / "agent_state.json"
    state.parent.mkdir()
    state.write_text("{}")
    done = compare()
    assert (done.returncode, state.read_text()) == (2, "{}")
    assert "holds a search; choose another --workspace" in done.stderr
    state.unlink()
    (folder / "compare" / "compare.json").write_text("[1")
    done = compare()
    assert done.returncode == 2 and "compare.json cannot be read" in done.stderr

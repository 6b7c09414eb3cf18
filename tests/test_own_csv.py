"""A search on a series of one's own, through the command line: what is accepted, and what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nas_system.config_io.config_file import read_config
from nas_system.nas_agent.agent_state import load_agent_state

Cli = Callable[..., subprocess.CompletedProcess[str]]
Search = Callable[..., subprocess.CompletedProcess[str]]

ROWS = 400
BASE = """
model: {family: linear}
data: {features: MS, seq_len: 12, batch_size: 64}
training: {lr: 0.01, max_epochs: 1, patience: 1}
"""
FIRST = datetime(2024, 1, 1)


def lines_of(step: timedelta = timedelta(hours=1)) -> list[str]:
    rows = [
        f"{FIRST + row * step},{10 + 3 * (8 <= row % 24 < 20) + 0.01 * row:.3f},{20 - row % 24},{row % 7}"
        for row in range(ROWS)
    ]
    return ["date,load,heat,wind", *rows]


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def search(run_cli: Cli, tmp_path: Path) -> Search:
    (tmp_path / "base.yaml").write_text(BASE)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        fixed = ("--base-config", "base.yaml", "--repeat-baseline", "0", "--proposer", "random_search")
        return run_cli("nas_agent_graph.run", *fixed, *arguments, cwd=tmp_path)

    return run


def record(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text())


def test_every_column_of_a_file_with_gaps_is_searched_and_continued(search: Search, tmp_path: Path) -> None:
    lines = lines_of()
    lines[50] = f"{FIRST + timedelta(hours=49)},,NA,3"
    lines[51] = f"{FIRST + timedelta(hours=50)},,12,4"
    write(tmp_path / "own.csv", lines)
    task = (
        "--dataset",
        "own.csv",
        "--target",
        "all",
        "--pred-len",
        "6",
        "--freq",
        "60min",
        "--missing",
        "ffill",
    )
    done = search(*task, "--split", "0.6,0.2,0.1", "--max-runs", "1")
    assert done.returncode == 0, done.stderr

    facts = record(tmp_path / "runs", "task_facts.json")["measured"]
    assert facts["targets"] == ["load", "heat", "wind"]
    assert facts["filled"] == {"load": 2, "heat": 1}
    assert facts["split"] == {
        "train": [0, 240], "val": [240, 320], "test": [320, 360], "hold_out": [360, 400]
    }  # fmt: skip
    run_dir = tmp_path / "runs" / "run_0000"
    used = read_config(run_dir / "config_used.py")
    assert (used.task.targets, used.task.freq, used.task.split) == (("all",), "h", (0.6, 0.2, 0.1))
    assert "features" not in (run_dir / "config_used.py").read_text().split("data = ")[1]
    assert (run_dir / "predictions.png").stat().st_size > 0
    assert record(run_dir, "metrics.json")["val_mse"] < 2

    # The same step in another spelling is the same task; other answers are not.
    again = search(*task[:-4], "--freq", "H", "--split", "0.60,0.2,0.1", "--max-runs", "1")
    assert again.returncode == 0, again.stderr
    assert "all 1 runs are done" in again.stdout
    state = load_agent_state(tmp_path / "agent_state.json")
    assert [run.status for run in state.runs] == ["OK"]
    assert state.hold_out.keys() == {"run_0000"}
    other = search("--split", "0.5,0.2,0.1", "--missing", "refuse", "--max-runs", "2")
    assert other.returncode == 2
    assert "split is (0.6, 0.2, 0.1), not (0.5, 0.2, 0.1)" in other.stderr
    assert "missing is 'ffill', not 'refuse'" in other.stderr


def test_months_with_one_column_are_split_by_dates(search: Search, tmp_path: Path) -> None:
    months = [f"{1980 + month // 12}-{month % 12 + 1:02d},{month % 12 + month / 100}" for month in range(240)]
    write(tmp_path / "own.csv", ["month,sales", *months])
    task = ("--dataset", "own.csv", "--target", "sales", "--pred-len", "3", "--freq", "M")
    done = search(*task, "--split", "1992-01,1995-07-01,1998-01", "--max-runs", "1")
    assert done.returncode == 0, done.stderr
    facts = record(tmp_path / "runs", "task_facts.json")["measured"]
    assert facts["split"] == {
        "train": [0, 144], "val": [144, 186], "test": [186, 216], "hold_out": [216, 240]
    }  # fmt: skip
    assert facts["freq"] == "MS"
    state = load_agent_state(tmp_path / "agent_state.json")
    assert [run.status for run in state.runs] == ["OK"]
    assert state.hold_out.keys() == {"run_0000"}


def repeated(lines: list[str]) -> list[str]:
    return [*lines[:50], lines[49], *lines[50:]]


def backwards(lines: list[str]) -> list[str]:
    return [*lines[:50], lines[51], lines[50], *lines[52:]]


def without_a_row(lines: list[str]) -> list[str]:
    return [*lines[:50], *lines[51:]]


def with_an_empty_cell(lines: list[str]) -> list[str]:
    return [*lines[:50], lines[50].rsplit(",", 1)[0] + ",", *lines[51:]]


def unchanged(lines: list[str]) -> list[str]:
    return lines


@pytest.mark.parametrize(
    ("spoilt", "flags", "complaint"),
    [
        (repeated, (), "line 51, column 'date': the time stamp 2024-01-03T00:00:00 repeats the one before"),
        (backwards, (), "line 52, column 'date': the time stamp 2024-01-03T01:00:00 is earlier than"),
        (
            without_a_row,
            ("--freq", "h"),
            "line 51, column 'date': the time stamp 2024-01-03T02:00:00 comes 2h after the one before, but "
            "--freq (task.freq) says h; 1 of 400 rows (0.25 %) is missing, the first after 2024-01-03; "
            "fill the gap or resample to one step: --missing ffill",
        ),
        (
            with_an_empty_cell,
            (),
            "line 51, column 'wind': the value is missing; fill it, remove the column, or carry the last "
            "value forward with --missing ffill",
        ),
        (unchanged, ("--freq", "15min"), "the step of the time stamps is h, but --freq (task.freq) says"),
        (unchanged, ("--split", "0.8,0.2,0.2"), "--split: the split 0.8,0.2,0.2: the shares add up to 1.2"),
        (unchanged, ("--split", "2024-01-09,2025-01-01"), "test would begin on 2025-01-01, but"),
    ],
)  # fmt: skip
def test_what_would_spoil_a_score_is_refused_and_nothing_is_trained(
    search: Search,
    tmp_path: Path,
    spoilt: Callable[[list[str]], list[str]],
    flags: tuple[str, ...],
    complaint: str,
) -> None:
    write(tmp_path / "own.csv", spoilt(lines_of()))
    target = () if "--target" in flags else ("--target", "load")
    done = search("--dataset", "own.csv", "--pred-len", "6", "--max-runs", "1", *target, *flags)
    assert done.returncode == 2, done.stdout
    assert complaint in done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "agent_state.json").exists()
    assert not list(tmp_path.glob("runs/run_*"))

"""A project whose folder was renamed: its search goes on, because the same checksum means the same data."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

BASE = """
model: {family: linear}
data: {features: S, seq_len: 12, batch_size: 64}
training: {lr: 0.01, max_epochs: 1, patience: 1}
"""
COMMAND = (
    "--dataset", "data.csv", "--target", "y", "--pred-len", "3", "--base-config", "base.yaml",
    "--origins", "1", "--repeat-baseline", "0", "--proposer", "random_search", "--max-runs", "1",
)  # fmt: skip


def write_series(path: Path, *, level: float = 0) -> None:
    values = [level + math.sin(row / 4) for row in range(240)]
    rows = [f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00,{value:.4f}" for row, value in enumerate(values)]
    path.write_text("\n".join(["date,y", *rows]) + "\n")


@pytest.fixture(scope="module")
def searched(run_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a search in it, and no longer where that was."""
    project = tmp_path_factory.mktemp("before") / "proj"
    project.mkdir()
    write_series(project / "data.csv")
    (project / "base.yaml").write_text(BASE)
    done = run_cli("nas_agent_graph.run", *COMMAND, cwd=project)
    assert done.returncode == 0, done.stderr
    return project.rename(project.with_name("away"))


@pytest.fixture
def renamed(searched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched, tmp_path / "renamed"))


def place_of_data(project: Path) -> str:
    return json.loads((project / "runs" / "task_facts.json").read_text())["source"]["path"]


@pytest.mark.parametrize(
    "flags",
    [COMMAND, ("--max-runs", "1"), ("--max-runs", "1", "--data-dir", ".")],
    ids=["same", "none", "folder"],
)
def test_the_search_goes_on_in_the_renamed_folder(
    run_cli: Cli, renamed: Path, flags: tuple[str, ...]
) -> None:
    done = run_cli("nas_agent_graph.run", *flags, cwd=renamed)
    assert done.returncode == 0, done.stderr
    assert f"the data of this search are now {renamed / 'data.csv'} (the same sha256)" in done.stdout
    assert "all 1 runs are done" in done.stdout
    assert place_of_data(renamed) == str(renamed / "data.csv")
    state = json.loads((renamed / "agent_state.json").read_text())
    assert state["data"]["path"] == str(renamed / "data.csv")


def test_it_trains_on_the_data_in_the_new_place(run_cli: Cli, renamed: Path) -> None:
    for runs in ("1", "2"):
        done = run_cli("nas_agent_graph.run", "--max-runs", runs, cwd=renamed)
        assert done.returncode == 0, done.stderr
    assert "are now" not in done.stdout  # that was said once
    state = json.loads((renamed / "agent_state.json").read_text())
    assert [run["status"] for run in state["runs"]] == ["OK", "OK"]


@pytest.mark.parametrize("flags", [(), ("--data-dir", ".")], ids=["none", "folder"])
def test_forecasts_come_from_the_data_in_the_new_place(
    run_cli: Cli, renamed: Path, flags: tuple[str, ...]
) -> None:
    done = run_cli(
        "nas_agent_graph.cli", "predict", "--run", "run_0000", "--as-searched", *flags, cwd=renamed
    )
    assert done.returncode == 0, done.stderr
    assert (renamed / "forecast.csv").read_text().startswith("date,y")


def test_a_backtest_trains_on_the_data_in_the_new_place(run_cli: Cli, renamed: Path) -> None:
    done = run_cli("nas_agent_graph.cli", "predict", "--backtest", "1", cwd=renamed)
    assert done.returncode == 0, done.stderr
    assert f"the data of this search are now {renamed / 'data.csv'} (the same sha256)" in done.stdout
    assert (renamed / "backtest.csv").is_file()
    assert place_of_data(renamed) == str(renamed / "data.csv")


def test_other_rows_in_the_file_are_said_with_the_way_to_begin_again(run_cli: Cli, renamed: Path) -> None:
    write_series(renamed / "data.csv", level=1)
    for flags in (COMMAND, ("--max-runs", "1", "--data-dir", ".")):
        done = run_cli("nas_agent_graph.run", *flags, cwd=renamed)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "data.csv has changed since this search began (sha256 " in done.stderr
        assert "begin again from the best configuration, with the same task flags and: " in done.stderr
        assert "run_0000/config_used.py" in done.stderr
    base = renamed / "runs" / "run_0000" / "config_used.py"
    flags = (
        "--workspace",
        "NEW",
        "--dataset",
        "data.csv",
        "--target",
        "y",
        "--pred-len",
        "3",
        "--origins",
        "1",
    )
    again = run_cli(
        "nas_agent_graph.run", *flags, "--base-config", str(base), "--max-runs", "1", "--dry-run", cwd=renamed
    )
    assert again.returncode == 0, again.stderr

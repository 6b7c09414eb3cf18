"""The work of going on and of showing grows with the number of runs and no faster.

`benchmarks/thousand_runs.py` measures the seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nas_agent_graph.show.leaderboard import LIMIT as SHOWN
from nas_system.config_io.rendering import text_of
from nas_system.nas_agent.agent_state import AgentState, RunInfo, save_agent_state
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.space import ForecastingTask, RunConfig, canonical_key
from nas_system.space.task_info import Baseline, DataSource, TaskInfo

RUNS = 200
# The product's own program; what it starts in the place of a training ends at once.
SHOW = "import sys; from nas_agent_graph.cli import run_as_module; sys.exit(run_as_module('show'))"
AGENT = "import sys; from nas_agent_graph.run import run_and_leave; run_and_leave([sys.executable, '-c', ''])"
WATCHED = """
import os, sys
noted = os.open({noted!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        os.write(noted, (arguments[0] + "\\n").encode())
sys.addaudithook(note)
"""
FLAGS = ("--device", "cpu", "--proposer", "tpe", "--keep-free", "0")
INFO = TaskInfo(
    ForecastingTask(),
    DataSource("none", "synthetic", None, sha256="0", bytes=0),
    baselines=(Baseline("last-value", {"val_mse": 0.07, "test_mse": 0.03}),),
    sizes={"hold_out": 0},
    columns=("OT",),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A finished search. Its files are written without care for a power cut, to be quick."""
    base, infos = RunConfig(), []
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "task_facts.json").write_text(json.dumps(INFO.to_json()))
    (runs / "base_config.py").write_text(text_of(base, comments=False))
    for number in range(RUNS):
        paths = RunPaths(runs / f"run_{number:04d}")
        paths.folder.mkdir()
        training = base.training.model_copy(update={"lr": 0.001 * (1 + number / RUNS)})
        config = base.model_copy(update={"training": training})
        paths.config.write_text(text_of(config, comments=False))
        paths.proposal.write_text(
            '{"proposer": "tpe", "parent": "run_0000", "changes": [], "hypothesis": "x"}'
        )
        infos.append(
            RunInfo(
                run_id=paths.folder.name,
                val_mse=0.06 + 0.01 * (number * 7919 % RUNS) / RUNS,
                history_summary="20 epochs; " * 20,
                accepted=number == 0,
                family=config.model.family,
                key=canonical_key(config),
                proposer="tpe",
            )
        )
    state = AgentState(
        task=ForecastingTask(),
        data=INFO.source.to_json(),
        runs=tuple(infos),
        max_runs=RUNS,
    )
    save_agent_state(state.replace(best_run_id="run_0000"), tmp_path / "agent_state.json")
    return tmp_path


def opened_by(program: str, *arguments: str, folder: Path, project_root: Path) -> tuple[Counter[str], str]:
    """Return how often the program opens files of the workspace, by their name, and what it prints."""
    noted = folder.with_name("opened")
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCHED.format(noted=str(noted))}\n{program}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(project_root)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    paths = [Path(line) for line in noted.read_text().splitlines()]
    noted.unlink()
    return Counter(path.name for path in paths if folder in (folder / path).parents), done.stdout


@pytest.mark.fault(52)
def test_every_file_of_a_long_search_is_read_once_or_twice(workspace: Path, project_root: Path) -> None:
    shown, text = opened_by(SHOW, folder=workspace, project_root=project_root)
    assert f"{RUNS} of {RUNS} runs finished" in text
    # Once for all runs, and once more for the changes of those that are shown.
    assert sum(shown.values()) <= RUNS + SHOWN + 5, shown
    flags = (*FLAGS, "--max-runs", str(RUNS + 1))
    continued, text = opened_by(AGENT, *flags, folder=workspace, project_root=project_root)
    assert f"run_{RUNS:04d} proposed by tpe" in text
    assert continued.pop("proposal.json") <= 2 * RUNS + SHOWN + 10
    assert continued.pop("config_used.py") <= RUNS + 5
    # Once, for what each training cost; and the new run polls its own.
    assert continued.pop("metrics.json") <= RUNS + 10
    assert continued.pop("history.json") <= 2 * RUNS
    # The new run polls its own files.
    assert {name for name, count in continued.items() if count > RUNS / 2} <= {"proc.json", "exit.json"}
    ledger, note = Ledger.open(workspace)
    assert (note, len(ledger.state.runs)) == (None, RUNS + 1)

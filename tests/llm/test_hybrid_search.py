"""A search by the hybrid, for real: processes, trainings, and a model over HTTP that takes its time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import write_hourly
from python_server import ROOT

from nas_agent_graph.llm.recording import read_events
from nas_agent_graph.llm.scripted_server import ScriptedServer
from nas_system.files import read_object
from nas_system.nas_agent.agent_state import load_agent_state

MAX_RUNS = 28
SEARCH = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--base-config", "base.yaml"),
    *("--split", "0.7,0.15,0.15", "--repeat-base", "0", "--repeats", "0", "--steps-per-run", "3"),
    *("--parallel", "2", "--threads", "1", "--no-refit", "--max-runs", str(MAX_RUNS)),
)
"""Each family's default goes first, 15 of them; after the first question enough is left that others begin."""


class Model:
    """Answers after some seconds, each time with another look-back and a rate that no default has."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, request: dict[str, Any]) -> str:
        self.asked += 1
        assert "candidates" in json.dumps(request)
        time.sleep(3.0)
        changes = [
            {"parameter": "data.seq_len", "value": str(12 + 8 * self.asked)},
            {"parameter": "training.lr", "value": str(0.00137 * self.asked)},
        ]
        refused = {"parent": "run_0999", "changes": changes, "hypothesis": "h", "expected_val_mse": None}
        return json.dumps({"candidates": [refused, {**refused, "parent": "run_0000"}]})


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_hourly(tmp_path / "series.csv", 400, load=lambda hour: 10 + hour % 24 + hour % 7)
    (tmp_path / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 1}\n"
    )
    return tmp_path


def asked_about(workspace: Path) -> Path | None:
    """Return the folder of a run about which the model has been asked and has not answered."""
    for transcript in (workspace / "runs").glob("run_*/transcript.jsonl"):
        kinds = [event["kind"] for event in read_events(transcript)]
        if kinds and kinds[-1] == "request":
            return transcript.parent
    return None


def test_a_model_that_is_not_there_is_said_at_once_and_stops_nothing(
    workspace: Path, run_cli: Callable[..., Any]
) -> None:
    named = {"NAS_LLM_MODEL": "m", "NAS_LLM_BASE_URL": "http://127.0.0.1:9/v1", "NAS_LLM_API_KEY": "k"}
    done = run_cli("nas_agent_graph.run", *SEARCH[:-1], "1", cwd=workspace, env=named)
    assert done.returncode == 0, done.stdout + done.stderr
    (note,) = [line for line in done.stderr.splitlines() if "language model" in line]
    assert "nothing listens at 127.0.0.1:9" in note and "goes on without its language model" in note


@pytest.mark.timeout(420)
def test_others_train_while_the_model_thinks_and_a_killed_search_replays(
    workspace: Path, run_cli: Callable[..., Any]
) -> None:
    model = Model()
    with ScriptedServer(model) as server:
        named = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": "k"}
        environment = {**os.environ, **named, "PYTHONPATH": str(ROOT), "NAS_STATS_SECONDS": "0"}
        command = [sys.executable, "-m", "nas_agent_graph.run", *SEARCH]
        with open(workspace / "log", "wb") as log:
            agent = subprocess.Popen(command, cwd=workspace, env=environment, stdout=log, stderr=log)
            while (thinking := asked_about(workspace)) is None:
                assert agent.poll() is None, (workspace / "log").read_text()
                time.sleep(0.05)
            agent.kill()
            agent.wait()
        done = run_cli("nas_agent_graph.run", *SEARCH, cwd=workspace, env=named | {"NAS_STATS_SECONDS": "0"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "proposer: hybrid, tpe, and scripted at" in done.stdout
    state = load_agent_state(workspace / "agent_state.json")
    assert sorted(state.run_ids) == [f"run_{number:04d}" for number in range(MAX_RUNS)]
    records = {
        run.run_id: read_object(workspace / "runs" / run.run_id / "proposal.json") for run in state.runs
    }
    arms = [records[run_id].get("arm") for run_id in sorted(records)]
    assert arms[0] is None and {"default", "sampler", "model"} <= set(arms)
    by_model = [run_id for run_id, record in records.items() if record.get("arm") == "model"]
    assert model.asked >= len(by_model) >= 1
    # It was asked again about the run that it was thinking about, and others had begun by then.
    assert records[thinking.name]["answered"]["begun"] > int(thinking.name[4:]) + 1
    assert done.stdout.count("Proposed by: defaults") == 1
    shown = run_cli("nas_agent_graph.show", cwd=workspace)
    assert "language model" in shown.stdout
    replayed = run_cli("nas_agent_graph.replay", ".", cwd=workspace)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr

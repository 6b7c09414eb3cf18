"""Searches for the highest score: classes of graphs, and links between their nodes, by the usual commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from python_server import run_python

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

from nas_system.config_io.config_file import write_config
from nas_system.nas_agent.agent_state import get_best_run, load_agent_state
from nas_system.space import RunConfig, family_default

pytestmark = pytest.mark.timeout(600)

TASKS = {
    "ring_synth": ("--train-graphs", "32", "--val-graphs", "24", "--test-graphs", "16"),
    "link_synth": ("--networks", "8"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_metric_that_is_maximized_is_searched_like_any_other(name: str, tmp_path: Path) -> None:
    base = family_default("graph_transformer").model_dump()
    base["model"] |= {"hidden_dim": 16, "num_layers": 1, "heads": 2}
    base["training"] |= {"max_epochs": 1}
    write_config(tmp_path / "base.py", RunConfig.model_validate(base))

    def nas(*words: str) -> str:
        done = run_python(["-m", "nas_agent_graph.cli", *words], cwd=tmp_path, timeout_s=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    flags = ("--task", name, *TASKS[name], "--base-config", "base.py", "--minutes-per-run", "0.5")
    printed = nas("run", *flags, "--max-runs", "2", "--repeat-base", "0", "--proposer", "random_search")
    assert "highest val_accuracy wins" in printed
    state = load_agent_state(tmp_path / "agent_state.json")
    assert (state.metric, state.direction) == ("val_accuracy", "maximize")
    assert [run.status for run in state.runs] == ["OK"] * 2
    best = get_best_run(state)
    assert best is not None and best.val_score is not None
    accepted = [run.val_score for run in state.runs if run.accepted and run.val_score is not None]
    assert best.val_score == max(accepted)
    assert best.run_id in state.hold_out
    metrics = json.loads((tmp_path / "runs/run_0000/metrics.json").read_text())
    assert metrics["direction"] == "maximize"
    assert metrics["val_score"] == metrics["val_accuracy"] == state.runs[0].val_score
    info = json.loads((tmp_path / "runs/task_facts.json").read_text())
    assert {"val_accuracy", "test_accuracy"} <= set(info["baselines"][0])
    rows = json.loads(nas("show", "--json"))["rows"]
    for tie in (True, False):
        scores = [row["val_accuracy"] for row in rows if row["tie"] is tie and row["run"]]
        assert scores == sorted(scores, reverse=True)
    nas("report")
    assert '"direction":"maximize"' in (tmp_path / "report.html").read_text()
    nas("replay", ".")

"""A search over graph transformers, by the same command, files and pages as any other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from python_server import run_python

pytest.importorskip("torch_geometric", reason="needs the extra graphs")

from nas_system.config_io.config_file import read_config, write_config
from nas_system.ensembles.graph_scores import scores_on
from nas_system.nas_agent.agent_state import get_best_run, load_agent_state
from nas_system.nas_agent.recommended import Part, read_recommended
from nas_system.nas_agent.run_manager import load_task_info
from nas_system.space import RunConfig, family_default
from nas_system.space.families import GraphTransformerConfig

# A search is a dozen processes, each of which imports torch.
pytestmark = pytest.mark.timeout(600)

SIZES = ("--train-graphs", "64", "--val-graphs", "32", "--test-graphs", "32")


def call(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)


def small_base() -> RunConfig:
    base = family_default("graph_transformer").model_dump()
    base["model"] |= {"hidden_dim": 16, "num_layers": 1, "heads": 2}
    base["training"] |= {"max_epochs": 1}
    return RunConfig.model_validate(base)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The workspace of a search of three runs, and what it printed."""
    folder = tmp_path_factory.mktemp("search")
    write_config(folder / "base.py", small_base())
    flags = ("--task", "zinc_synth", *SIZES, "--max-runs", "3", "--repeat-baseline", "1")
    done = call("nas_agent_graph.run", *flags, "--base-config", "base.py", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_a_search_on_graphs_keeps_the_scores_of_its_task(searched: tuple[Path, str]) -> None:
    folder, said = searched
    state = load_agent_state(folder / "agent_state.json")
    assert state.metric == "val_mae"
    assert [run.status for run in state.runs] == ["OK"] * 3
    assert all(run.val_mae is not None and run.val_mse is None for run in state.runs)
    stored = json.loads((folder / "agent_state.json").read_text())
    assert stored["task"]["name"] == "zinc_synth"
    assert stored["runs"][0]["val_mae"] == state.runs[0].val_score
    for word in ("mean", "type counts", "no encodings", "val_mae"):
        assert word in said, word
    assert "mse" not in said, "nobody measures a squared error here"
    best = get_best_run(state)
    assert best is not None
    assert state.hold_out[best.run_id] is not None, "the best run is scored on the graphs kept back"


def test_what_is_recommended_is_refitted_on_the_graphs_of_more_parts(searched: tuple[Path, str]) -> None:
    folder, said = searched
    known = read_recommended(folder)
    assert "on the graphs before the test part, before the hold-out part and on all; about " in said
    assert "on all graphs" in said and "refitted on train and validation part" in said
    parts: dict[Part, int] = {"val": 96, "test": 128, "hold_out": 528}
    for part, graphs in parts.items():
        assert known.refits[part]
        for training in (one for trainings in known.refits[part].values() for one in trainings):
            metrics = json.loads((folder / training.folder / "metrics.json").read_text())
            assert (metrics["through"], metrics["rows"]) == (part, graphs)
    for part in ("test", "hold_out"):
        assert known.scores("as_searched", part)["mae"] != known.scores("refitted", part)["mae"]
    refit = known.refitted("val")
    assert refit is not None
    info = load_task_info(folder / "runs")
    assert info is not None
    again, _ = scores_on("test", refit, info, folder, "cpu")
    assert known.scores("refitted", "test")["mae"] == pytest.approx(again["mae"], rel=1e-5)


def test_show_report_and_space_know_the_task(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    table = call("nas_agent_graph.show", folder=folder)
    assert table.returncode == 0, table.stderr
    assert "val_mae" in table.stdout
    page = call("nas_agent_graph.show", "run_0001", folder=folder)
    assert page.returncode == 0, page.stderr
    assert "val_mae" in page.stdout
    report = call("nas_agent_graph.report", folder=folder)
    assert report.returncode == 0, report.stderr
    space = call("nas_agent_graph.space", "graph_transformer", folder=folder)
    assert "random_walk" in space.stdout
    assert "seq_len" not in space.stdout


def test_the_same_command_goes_on_and_another_task_is_refused(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    again = call("nas_agent_graph.run", "--max-runs", "3", folder=folder)
    assert again.returncode == 0, again.stderr
    other = call("nas_agent_graph.run", "--task", "forecasting", "--max-runs", "4", folder=folder)
    assert other.returncode == 2
    assert "task is 'zinc_synth', not 'forecasting'" in other.stderr
    flag = call("nas_agent_graph.run", "--pred-len", "24", "--max-runs", "4", folder=folder)
    assert flag.returncode == 2
    assert "--pred-len: the task zinc_synth has nothing of the kind" in flag.stderr


def test_a_search_on_graphs_is_replayed_without_training(searched: tuple[Path, str]) -> None:
    folder, _ = searched
    done = call("nas_agent_graph.replay", str(folder), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zinc_without_its_files_ends_a_search_before_it_begins(tmp_path: Path) -> None:
    done = call(
        "nas_agent_graph.run",
        "--task",
        "zinc",
        "--data-dir",
        str(tmp_path),
        "--max-runs",
        "2",
        folder=tmp_path,
    )
    assert done.returncode == 2
    for word in ("train.pickle", "zinc_synth"):
        assert word in done.stderr, word
    assert not (tmp_path / "agent_state.json").exists()


def test_a_proposer_that_knows_series_only_says_so_before_anything_is_written(tmp_path: Path) -> None:
    flags = ("--task", "zinc_synth", "--proposer", "netformer", "--max-runs", "2")
    done = call("nas_agent_graph.run", *flags, folder=tmp_path)
    assert done.returncode == 2
    assert "the task zinc_synth is none" in done.stderr
    assert not (tmp_path / "agent_state.json").exists()


def test_the_training_of_a_series_and_the_agent_load_nothing_for_graphs(tmp_path: Path) -> None:
    code = (
        "import sys, nas_agent_graph.run, nas_agent_graph.search, nas_system.tasks.kind\n"
        "import nas_system.tasks.forecasting, nas_system.training_job, nas_system.train\n"
        "print([m for m in sys.modules if m.startswith(('torch_geometric', 'nas_system.graphs'))])"
    )
    done = run_python(["-c", code])
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_search_of_fifteen_runs_finds_the_encodings_by_itself(tmp_path: Path) -> None:
    """From the default, which has none, with no model to ask."""
    flags: list[Any] = ["--task", "zinc_synth", "--max-runs", "15", "--repeat-baseline", "1"]
    done = call("nas_agent_graph.run", *flags, "--proposer", "tpe", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    state = load_agent_state(tmp_path / "agent_state.json")
    best = get_best_run(state)
    assert best is not None
    assert best.val_score is not None
    assert state.runs[0].val_score is not None
    first, best_run = (
        read_config(tmp_path / "runs" / run / "config_used.py") for run in ("run_0000", best.run_id)
    )
    assert isinstance(first.model, GraphTransformerConfig)
    assert isinstance(best_run.model, GraphTransformerConfig)
    assert first.model.node_encodings == first.model.pair_encodings == ()
    assert "random_walk" in best_run.model.node_encodings
    assert best.val_score < 0.5 * state.runs[0].val_score
    print(f"\nrun_0000 {state.runs[0].val_score:.3f}, {best.run_id} {best.val_score:.3f}: {best_run.model}")

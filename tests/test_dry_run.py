"""`run --dry-run`: the next prompt and what the search may cost, with nothing asked, trained or written."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import write_hourly

from nas_agent_graph.llm.scripted_server import ScriptedServer
from nas_system.nas_agent.agent_state import load_agent_state, save_agent_state
from nas_system.processes.run_files import RunPaths
from nas_system.space import ForecastingTask
from nas_system.space.sampling import usable_families

TASK = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--base-config", "base.yaml"),
    *("--split", "0.7,0.15,0.15"),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_hourly(tmp_path / "series.csv", 700, load=lambda hour: 10 + hour % 24 + hour % 7)
    (tmp_path / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 7}\n"
    )
    return tmp_path


@pytest.fixture
def dry_run(run_cli: Callable, workspace: Path) -> Callable:
    def run(*arguments: str, **environment: str):
        command = ("nas_agent_graph.run", "--dry-run", *TASK, *arguments)
        return run_cli(*command, cwd=workspace, env=environment)

    return run


def snapshot(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_new_search_shows_its_first_prompt_and_its_cost_and_leaves_no_file(
    dry_run: Callable, workspace: Path
) -> None:
    before = snapshot(workspace)
    with ScriptedServer([]) as server:
        done = dry_run(
            *("--max-runs", "11", "--minutes-per-run", "2", "--max-cost", "1", "--repeat-baseline", "1"),
            *("--proposer", "llm"),
            NAS_LLM_MODEL="scripted",
            NAS_LLM_BASE_URL=server.url,
            NAS_LLM_PRICE="10,20",
        )
        assert server.requests == []
    assert done.returncode == 0, done.stderr
    prompt, estimates = done.stdout.split("--- estimates")
    assert "--- run_0001, system\nYou are an expert" in prompt
    assert "Propose run_0001 now." in prompt
    assert "0 runs are done, 11 are left, $1.00 for them." in prompt
    assert "A training may take 2.0 min of compute; " in prompt
    assert f"scripted at {server.url}, $10 in, $20 out per million tokens" in estimates
    assert "10 of 200 tokens each: at most about" in estimates
    assert re.search(r"its first [5-9],\d{3} are the same every time", estimates)
    assert re.search(r"run_0000 \(linear\): [1-9][\d,]* parameters, [1-9][\d,]* MiB, ", estimates)
    assert " at the most for its 7 epochs; trained 2 times" in estimates
    assert "11 runs of 2.0 min are about 22.0 min of compute at the most; by the clock" in estimates
    assert "the search ends early after $1" in estimates
    assert snapshot(workspace) == before


def test_the_prompt_of_a_search_under_way_is_the_one_that_it_will_send(
    dry_run: Callable, run_search: Callable, workspace: Path
) -> None:
    good = {"parent": "run_0000", "hypothesis": "h", "expected_val_mse": None}
    answer = json.dumps({**good, "changes": [{"parameter": "training.lr", "value": "0.02"}]})
    other = json.dumps({**good, "changes": [{"parameter": "training.lr", "value": "0.03"}]})
    with ScriptedServer([answer, other]) as server:
        named = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_PRICE": "10,20"}
        run = (*TASK, "--repeat-baseline", "0", "--proposer", "llm", "--max-runs")
        assert run_search(*run, "2", cwd=workspace, env=named).returncode == 0
        before = snapshot(workspace)
        done = dry_run("--max-runs", "3", "--proposer", "llm", **named)
        assert snapshot(workspace) == before
        assert len(server.requests) == 1
        assert run_search(*run, "3", cwd=workspace, env=named).returncode == 0
        system, user = (message["content"] for message in server.requests[1]["messages"])
    assert done.returncode == 0, done.stderr
    assert f"--- run_0002, system\n{system}\n--- run_0002, user\n{user}\n--- estimates" in done.stdout
    assert "a run (median of 2)" in done.stdout
    assert " a proposal\n" in done.stdout
    finished = dry_run("--max-runs", "3", **named)
    assert "Nothing would be done: all 3 runs are done." in finished.stdout


def test_of_a_hybrid_the_question_for_several_candidates_and_its_share_of_the_turns_are_shown(
    dry_run: Callable,
) -> None:
    named = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": "http://127.0.0.1:9/v1"}
    done = dry_run("--max-runs", "60", **named)
    assert done.returncode == 0, done.stderr
    assert '"candidates": [' in done.stdout
    families = len(usable_families(ForecastingTask()))
    questions = math.ceil(0.4 * (59 - (families - 1)))
    assert f"at most {questions} of 1000 tokens each" in done.stdout
    # Before the families' defaults are through nobody is asked.
    assert "at most 0 of 1000 tokens each" in dry_run("--max-runs", "5", **named).stdout


def test_a_run_to_be_continued_is_checked_and_shown(
    dry_run: Callable, run_search: Callable, workspace: Path
) -> None:
    run = (*TASK, "--repeat-baseline", "0", "--proposer", "random_search", "--max-runs")
    assert run_search(*run, "2", cwd=workspace).returncode == 0
    done = dry_run("--max-runs", "3", "--continue", "run_0001")
    assert done.returncode == 2
    assert "only a run that was stopped early is continued; there are: none" in done.stderr
    state = load_agent_state(workspace / "agent_state.json")
    stopped = state.runs[1].model_copy(update={"status": "PRUNED", "val_score": None, "accepted": False})
    save_agent_state(state.replace(runs=(state.runs[0], stopped)), workspace / "agent_state.json")
    assert "its checkpoint is gone" in dry_run("--max-runs", "3", "--continue", "run_0001").stderr
    last = RunPaths(RunPaths(workspace / "runs" / "run_0001").work).last
    last.parent.mkdir()
    last.touch()
    assert "2 runs are done" in dry_run("--max-runs", "2", "--continue", "run_0001").stderr
    before = snapshot(workspace)
    done = dry_run("--max-runs", "3", "--continue", "run_0001")
    assert done.returncode == 0, done.stderr
    assert "--- run_0002 trains run_0001, stopped early, to its end; nobody is asked\n--- est" in done.stdout
    assert snapshot(workspace) == before


def test_what_would_stop_the_search_stops_the_dry_run(dry_run: Callable, workspace: Path) -> None:
    done = dry_run("--target", "no_such_column")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no_such_column" in done.stderr
    done = dry_run("--proposer", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert "choose from: " in done.stderr
    done = dry_run("--max-cost", "1", NAS_LLM_MODEL="m", NAS_LLM_BASE_URL="http://127.0.0.1:9/v1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "set NAS_LLM_PRICE=IN,OUT" in done.stderr
    (workspace / "agent_state.json").write_text("{")
    done = dry_run()
    assert done.returncode == 2
    assert (workspace / "agent_state.json").read_text() == "{"

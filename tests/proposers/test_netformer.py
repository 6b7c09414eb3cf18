"""Netformer as proposer: its list first, then TPE; from the same files the same search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.context import RunView, SearchView, StopRequest, SystemClock
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.proposers.netformer import (
    LIST_FILE,
    MODULE,
    NetformerProposer,
    RankedList,
    make_list,
    task_fingerprint,
)
from nas_agent_graph.proposers.setup import ProposerSetup
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.search_view import run_in_progress
from nas_system.errors import ConfigError, StateError
from nas_system.nas_agent.agent_state import AgentState
from nas_system.nas_agent.ledger import Ledger
from nas_system.netformer.specs.archive.synthetic_tasks import csv_of, draw_recipe
from nas_system.space import RunConfig, apply_changes, canonical_key, family_default
from nas_system.space.task_info import TaskInfo

BASE = RunConfig()
SOURCE = {"name": "ETTh1", "kind": "synthetic", "path": None, "sha256": "ab", "bytes": 1}
FACTS = {"task": BASE.task.model_dump(mode="json"), "source": SOURCE}
CARRIED_ON = "netformer:tpe"


def entry(rank: int, family: str, **training: Any) -> dict[str, Any]:
    plain = family_default(family).model_dump(mode="json", exclude={"task", "seed"})
    plain["training"] |= training
    return {"rank": rank, "expected_val_mse": 0.1 * rank, "config": plain}


ENTRIES = (
    entry(1, "gru"),
    entry(2, "linear", lr=0.02),
    {"rank": 3, "config": {"model": {"family": "abacus"}}},  # no longer in the space
    entry(4, "patchtst"),
    entry(5, "tcn"),
    entry(6, "lstm"),
)


def view_of(runs: list[tuple[RunConfig, str]], **changes: Any) -> SearchView:
    views = tuple(
        RunView(
            f"run_{i:04d}", "OK", None, c, c.model.family, canonical_key(c), 1 / (i + 1), False, None, "", who
        )
        for i, (c, who) in enumerate(runs)
    )
    view = SearchView(f"run_{len(runs):04d}", BASE.task, BASE, ("OT",), (), views, None, None, 1, 50)
    return replace(view, **changes)


def opening_with(entries: tuple[dict[str, Any], ...]) -> NetformerProposer:
    return NetformerProposer(RankedList("m", entries), TPEProposer(), opening=4)


def config_of(proposal: Any) -> RunConfig:
    return apply_changes(BASE, proposal.changes)


def test_the_list_is_followed_then_tpe_carries_on_from_it() -> None:
    proposer = opening_with(ENTRIES)
    runs, seen = [(BASE, "base config")], []
    for _ in range(7):
        proposal = proposer.propose(view_of(runs))
        assert proposal == opening_with(ENTRIES).propose(view_of(runs))
        seen.append((proposal.proposer, proposal.rank, proposal.expected_score))
        runs.append((config_of(proposal), proposal.proposer))
    assert seen[:4] == [("netformer", n, pytest.approx(0.1 * n)) for n in (1, 2, 4, 5)]
    assert seen[4:] == [(CARRIED_ON, None, None)] * 3
    assert len({canonical_key(config) for config, _ in runs}) == 8


def test_what_is_known_refused_or_impossible_gives_way_to_the_next() -> None:
    proposer = opening_with(ENTRIES)
    known = [(BASE, "base config"), (family_default("gru"), "llm")]
    assert proposer.propose(view_of(known)).rank == 2
    assert proposer.propose(view_of(known, refused=("why",), attempt=1)).rank == 4
    # A look-back of 336 is too long here; families that are not there are not proposed.
    assert proposer.propose(view_of([(BASE, "base config")], max_seq_len=100)).proposer == CARRIED_ON
    assert proposer.propose(view_of([(BASE, "base config")], families=("tcn", "informer"))).rank == 5


def test_what_is_in_progress_gives_way_to_the_next_entry_and_counts_as_used() -> None:
    proposer, done = opening_with(ENTRIES), [(BASE, "base config")]
    begun: list[RunView] = []
    ranks = []
    for number in range(1, 6):
        proposal = proposer.propose(view_of(done, run_id=f"run_{number:04d}", running=tuple(begun)))
        ranks.append(proposal.rank)
        begun.append(
            run_in_progress(
                f"run_{number:04d}", config_of(proposal), {}, parent="run_0000", proposer=proposal.proposer
            )
        )
    assert ranks == [1, 2, 4, 5, None], "the list decides four runs, finished or not"
    # Somebody else's run that is an entry: passed over, and not counted.
    other = run_in_progress("run_0001", family_default("gru"), {}, parent="run_0000", proposer="llm")
    assert proposer.propose(view_of(done, running=(other,))).rank == 2
    # One that was stopped early has been tried.
    first = view_of([*done, (family_default("gru"), "netformer")])
    stopped = replace(first.runs[1], status="PRUNED", val_score=None, epochs=2, best_so_far=0.2)
    assert proposer.propose(replace(first, runs=(first.runs[0], stopped))).rank == 2


def test_the_list_is_made_once_and_belongs_to_its_task(tmp_path: Path) -> None:
    answer = {"model": "m1", "learned_from": {"tasks": 1, "rows": 2}, "proposals": list(ENTRIES)}
    asked: list[list[str]] = []
    launcher = ScriptedLauncher(
        lambda config: 1.0, {MODULE: lambda flags: asked.append(list(flags)) or answer}
    )
    facts = tmp_path / "runs" / "task_facts.json"
    facts.parent.mkdir()
    facts.write_text(json.dumps(FACTS))

    def setup(launcher: ScriptedLauncher) -> ProposerSetup:
        disk = DiskSpace(tmp_path, SystemClock(), StopRequest(), print)
        return ProposerSetup(Ledger(tmp_path, AgentState(task=BASE.task, seed=7)), BASE.task, launcher, disk)

    made = make_list(setup(launcher))
    assert asked == [["propose", "--facts", str(facts), "--count", "40", "--seed", "7"]]
    nobody = ScriptedLauncher(lambda config: 1.0)
    assert make_list(setup(nobody)) == made
    facts.write_text(json.dumps(FACTS | {"source": SOURCE | {"sha256": "cd"}}))
    with pytest.raises(StateError, match="other data"):
        make_list(setup(nobody))
    (facts.parent / LIST_FILE).unlink()
    with pytest.raises(ConfigError, match="netformer cannot be used"):
        make_list(setup(nobody))
    info = TaskInfo.from_json(FACTS)
    assert task_fingerprint(info) == task_fingerprint(TaskInfo.from_json(info.to_json()))


SEARCH = (
    *("--dataset", "series.csv", "--target", "y", "--pred-len", "6", "--base-config", "base.yaml"),
    *("--split", "0.7,0.15,0.15"),
)
FLAGS = ("--proposer", "netformer", "--max-runs", "3", "--repeat-baseline", "0", "--minutes-per-run", "0.05")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "series.csv").write_bytes(csv_of(replace(draw_recipe("series", 11), rows=500)))
    base = "model: {family: linear}\ndata: {features: S, seq_len: 24, batch_size: 64}\n"
    (tmp_path / "base.yaml").write_text(base + "training: {lr: 0.01, max_epochs: 2, patience: 2}\n")
    return tmp_path


def test_a_search_is_killed_goes_on_with_its_list_and_is_remembered(
    project_root: Path, workspace: Path, run_cli: Any, run_search: Any
) -> None:
    own = {"NAS_ARCHIVE_DIR": str(workspace / "own")}
    environment = {**os.environ, "PYTHONPATH": str(project_root), **own}
    command = [sys.executable, "-m", "nas_agent_graph.run", *SEARCH, *FLAGS]
    first_proposal = workspace / "runs" / "run_0001" / "config_used.py"
    with subprocess.Popen(
        command, cwd=workspace, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 90
        while not first_proposal.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    config = first_proposal.read_bytes()
    listed = (workspace / "runs" / LIST_FILE).read_bytes()
    # The networks are not asked again: without them the search still goes on.
    (workspace / "own").mkdir()
    (workspace / "own" / "proposer.weights").write_bytes(b"no network")
    done = run_search(*SEARCH, *FLAGS, cwd=workspace, env=own)
    assert done.returncode == 0, done.stderr
    assert first_proposal.read_bytes() == config
    assert (workspace / "runs" / LIST_FILE).read_bytes() == listed
    state = json.loads((workspace / "agent_state.json").read_text())
    assert [run["proposer"] for run in state["runs"]] == ["base config", *["netformer"] * 2]
    record = json.loads((workspace / "runs" / "run_0001" / "proposal.json").read_text())
    entries = json.loads(listed)["proposals"]
    assert (
        record["rank"] >= 1 and record["expected_val_mse"] == entries[record["rank"] - 1]["expected_val_mse"]
    )
    assert "Predictions by netformer: 2 scored" in done.stdout
    # What was found is in one's own archive, once.
    assert "of the search's 3 trainings are new" in done.stderr
    again = run_cli(MODULE, "archive", "--add", workspace, cwd=workspace, env=own)
    assert again.stdout.startswith("0 of the search's 3 trainings are new"), again.stderr
    # With an archive of one's own every search is added to it, whoever proposed.
    plain = (*SEARCH, "--proposer", "random_search", *FLAGS[2:3], "2", *FLAGS[4:], "--workspace", "plain")
    other = run_search(*plain, cwd=workspace, env=own)
    assert "of the search's 2 trainings are new" in other.stderr, other.stderr
    nobody = {"NAS_ARCHIVE_DIR": str(workspace / "nobody")}
    more = (*plain[:-1], "plain", "--max-runs", "3")
    assert run_search(*more, cwd=workspace, env=nobody).returncode == 0
    assert not (workspace / "nobody").exists(), "who has none gets none"
    # And the whole search is driven again from its files.
    replayed = run_cli("nas_agent_graph.replay", workspace, cwd=workspace)
    assert replayed.returncode == 0, replayed.stderr + replayed.stdout
    assert replayed.stdout.startswith("equal: 3 runs")


def test_a_model_that_cannot_be_used_ends_the_search_before_it_begins(workspace: Path, run_cli: Any) -> None:
    own = workspace / "own"
    own.mkdir()
    (own / "proposer.weights").write_bytes(b"no network")
    env = {"NAS_ARCHIVE_DIR": str(own)}
    done = run_cli("nas_agent_graph.run", *SEARCH, *FLAGS, cwd=workspace, env=env)
    assert done.returncode == 2 and "proposer.weights" in done.stderr, done.stderr
    assert not (workspace / "agent_state.json").exists()

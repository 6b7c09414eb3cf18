"""agent_state.json lost, old or cut while several runs are in progress: `runs/` tells it all again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from builders import drive
from simulated import Killed, MortalClock, Scripted, SimulatedLauncher

from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import AgentState, load_agent_state
from nas_system.nas_agent.ledger import Ledger, rebuild_state

RUNS = 9


def scripted(name: str, attempt: int, config: object) -> Scripted:
    rng = random.Random(name)
    return Scripted(rng.uniform(0.5, 3), (rng.uniform(0.05, 0.09),))


@pytest.fixture
def killed(search) -> tuple[SimulatedLauncher, Path]:
    """A search whose agent is killed while three runs train and others have ended, out of order."""
    clock = MortalClock(dies_at=[6.0])
    launcher = SimulatedLauncher(clock, scripted)
    context = search(3, launcher=launcher, clock=clock, max_runs=RUNS)
    with pytest.raises(Killed):
        drive(context)
    state = load_agent_state(context.ledger.workspace / "agent_state.json")
    assert len(state.in_progress) == 3 and len(state.runs) >= 4
    assert [run.run_id for run in state.runs] != sorted(run.run_id for run in state.runs)
    return launcher, context.ledger.workspace


def same(before: AgentState, after: AgentState) -> bool:
    left = ("runs", "best_run_id", "noise", "noise_runs", "task", "data", "seed")
    in_progress = [[run.run_id for run in state.in_progress] for state in (before, after)]
    return in_progress[0] == in_progress[1] and all(
        getattr(before, name) == getattr(after, name) for name in left
    )


@pytest.mark.fault(55)
@pytest.mark.parametrize("damage", ["deleted", "truncated"])
def test_a_lost_state_comes_back_and_nothing_trains_twice(search, killed, tmp_path, damage: str) -> None:
    launcher, workspace = killed
    path = workspace / "agent_state.json"
    before = load_agent_state(path)
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:300])
    context = search(3, launcher=launcher, clock=launcher.clock, max_runs=RUNS)
    assert same(before, context.ledger.state)
    assert drive(context)["end"] == f"all {RUNS} runs are done"
    assert sorted(launcher.submitted) == [(f"run_{number:04d}", 1) for number in range(RUNS)]
    recorded = RecordedSearch.open(workspace)
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []


@pytest.mark.fault(55)
@pytest.mark.parametrize("gone", ["nothing", "proposal.json", "all"])
def test_also_where_the_next_run_had_only_been_opened(killed, gone: str) -> None:
    _, workspace = killed
    path, before = workspace / "agent_state.json", load_agent_state(workspace / "agent_state.json")
    last = before.in_progress[-1].run_id
    ledger = Ledger(workspace, before)
    if gone == "nothing":
        return
    if gone == "all":
        last = f"run_{len(before.run_ids):04d}"
        ledger.begin(last, "read_context")
        ledger.paths(last).folder.mkdir()
    else:
        ledger.paths(last).proposal.unlink()
    path.unlink()
    rebuilt, _ = Ledger.open(workspace)
    assert [run.run_id for run in rebuilt.state.in_progress] == [
        run.run_id for run in ledger.state.in_progress
    ]


@pytest.mark.fault(55)
def test_a_run_that_ended_long_ago_and_lost_its_verdict_does_not_begin_again(killed) -> None:
    _, workspace = killed
    state = load_agent_state(workspace / "agent_state.json")
    lost = state.runs[1].run_id
    Ledger(workspace, state).paths(lost).verdict.unlink()
    rebuilt = rebuild_state(workspace / "runs")
    assert rebuilt is not None
    assert [run.run_id for run in rebuilt.runs] == [run.run_id for run in state.runs]
    assert rebuilt.runs[1].status == "MISSING"
    assert [run.run_id for run in rebuilt.in_progress] == [run.run_id for run in state.in_progress]


def test_verdicts_without_a_number_are_in_the_order_of_the_ids(search, launcher) -> None:
    context = search(1, max_runs=4)
    drive(context)
    for run in context.ledger.state.runs:
        path = context.ledger.paths(run.run_id).verdict
        record = read_record(path) or {}
        del record["number"]
        write_json(path, record)
    rebuilt = rebuild_state(context.ledger.runs_dir)
    assert rebuilt is not None and rebuilt.runs == context.ledger.state.runs


@pytest.mark.fault(15)
@pytest.mark.parametrize("version", [1, 3, 4])
def test_a_search_of_an_older_program_goes_on_with_several_at_once(search, version: int) -> None:
    clock = MortalClock(dies_at=[4.0])
    launcher = SimulatedLauncher(clock, scripted)
    context = search(1, launcher=launcher, clock=clock, max_runs=6)
    with pytest.raises(Killed):
        drive(context)
    path = context.ledger.workspace / "agent_state.json"
    old = json.loads(path.read_text())
    (run,) = old.pop("in_progress")
    old |= {"schema_version": version, "current": {"run_id": run["run_id"], "step": run["step"]}}
    if version < 4:
        old["sealed"] = old.pop("hold_out")
    path.write_text(json.dumps(old))
    for proposal in context.ledger.runs_dir.glob("run_*/proposal.json"):
        record = read_record(proposal) or {}
        record.pop("seen")
        write_json(proposal, record)
    context = search(3, launcher=launcher, clock=clock, max_runs=6)
    assert [other.run_id for other in context.ledger.state.in_progress] == [run["run_id"]]
    assert drive(context)["end"] == "all 6 runs are done"
    assert sorted(launcher.submitted) == [(f"run_{number:04d}", 1) for number in range(6)]


@pytest.mark.parametrize("dies_at", [0.2, 2.0, 6.0])
def test_a_copied_half_finished_search_replays_up_to_where_it_was(search, tmp_path, dies_at: float) -> None:
    clock = MortalClock(dies_at=[dies_at])
    launcher = SimulatedLauncher(clock, scripted)
    context = search(3, launcher=launcher, clock=clock, max_runs=RUNS, repeat_base=1)
    with pytest.raises(Killed):
        drive(context)
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert recorded.state.in_progress
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []
    # One that was opened and not proposed, and trainings that have ended and were not evaluated.
    ledger = Ledger(recorded.workspace, recorded.state)
    if len(recorded.state.in_progress) == 3:
        ledger.begin(f"run_{len(recorded.run_ids):04d}", "read_context")
    clock.now += 100
    launcher.survey([])
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert differences(recorded.state, replay(recorded, tmp_path / "once more")) == []

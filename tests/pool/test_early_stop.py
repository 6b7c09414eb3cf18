"""`--stop-early`: the evidence is on disk before the stop, and a replay takes it over."""

from __future__ import annotations

import json

import pytest
from builders import drive
from simulated import Killed, MortalClock, Scripted, SimulatedClock, SimulatedLauncher

from nas_agent_graph.analysis.pruning import problem_of
from nas_agent_graph.replay.drift import Drift
from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_agent_graph.show.rows import rows_of
from nas_system.nas_agent.pruned import read_pruned
from nas_system.processes.run_files import RunPaths

HOPELESS = ("run_0006", "run_0008")


def curves(name: str, attempt: int, config: object) -> Scripted:
    """Eight epochs each; those of the hopeless are twice as bad as any other."""
    worst = 2.0 if name in HOPELESS or name == "run_0000" else 1.0
    final = 0.05 + 0.0001 * int(name[-1])
    return Scripted(4.0, tuple(worst * final * (1 + 0.01 * (7 - epoch)) for epoch in range(8)))


class Watching(SimulatedLauncher):
    """Notes whether the evidence was there when a training was asked to end."""

    def cancel(self, run_dir, *, force=False):
        assert RunPaths(run_dir).pruned.exists(), "asked to end without a reason on disk"
        super().cancel(run_dir, force=force)


def check(context, launcher: SimulatedLauncher, again) -> None:
    state = context.ledger.state
    status = {run.run_id: run.status for run in state.runs}
    assert {run_id for run_id, word in status.items() if word == "PRUNED"} == set(HOPELESS)
    assert {word for run_id, word in status.items() if run_id not in HOPELESS} == {"OK"}
    assert sorted(set(launcher.asked_to_end)) == list(HOPELESS)
    for run in state.runs:
        if run.status == "PRUNED":
            assert (run.val_score, run.accepted, run.attempt) == (None, False, 1)
            assert "stopped early at epoch 2 of 8" in (run.cause or "")
            found = read_pruned(context.ledger.paths(run.run_id).folder, 1)
            assert found is not None and problem_of(found) is None
    ranked = [row.run.run_id for row in rows_of(state, context.info) if row.run and row.val_score is not None]
    assert not set(ranked) & set(HOPELESS)
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert differences(recorded.state, replay(recorded, again)) == []
    for run_id in HOPELESS:
        copies = [folder / "runs" / run_id / "pruned.json" for folder in (recorded.workspace, again)]
        assert copies[0].read_bytes() == copies[1].read_bytes()
    evidence = RunPaths(recorded.runs_dir / HOPELESS[0]).pruned
    record = json.loads(evidence.read_text())
    evidence.write_text(json.dumps(record | {"score": record["threshold"] / 2}))
    with pytest.raises(Drift, match=f"{HOPELESS[0]}.*is not worse than the threshold"):
        replay(recorded, again.with_name("edited"))


@pytest.mark.parametrize("rule", ["margin", "median"])
def test_what_cannot_win_is_stopped_and_never_the_base_config(search, tmp_path, rule: str) -> None:
    launcher = Watching(SimulatedClock(), curves)
    context = search(2, launcher=launcher, clock=launcher.clock, max_runs=10, stop_early=rule, repeat_base=1)
    drive(context)
    if rule == "margin":
        check(context, launcher, tmp_path / "again")
    assert set(HOPELESS) <= set(launcher.asked_to_end)
    assert not {"run_0000", "seed_43"} & set(launcher.asked_to_end)


@pytest.mark.fault(58)
def test_an_agent_killed_before_the_stop_leaves_it_to_the_next_one(search, tmp_path) -> None:
    class Fatal(Watching):
        """The first request to end kills the agent instead."""

        killed = False

        def cancel(self, run_dir, *, force=False):
            if not self.killed:
                self.killed = True
                raise Killed
            super().cancel(run_dir, force=force)

    launcher = Fatal(MortalClock(), curves)
    parts = {"launcher": launcher, "clock": launcher.clock, "max_runs": 10, "stop_early": "margin"}
    with pytest.raises(Killed):
        drive(search(2, **parts))
    (evidence,) = (tmp_path / "search" / "runs").glob("run_*/pruned.json")
    before = evidence.read_bytes()
    context = search(2, **parts)
    drive(context)
    assert evidence.read_bytes() == before
    check(context, launcher, tmp_path / "again")


def test_without_the_flag_every_training_ends_by_itself(search) -> None:
    launcher = Watching(SimulatedClock(), curves)
    context = search(2, launcher=launcher, clock=launcher.clock, max_runs=9)
    drive(context)
    assert launcher.asked_to_end == []
    assert {run.status for run in context.ledger.state.runs} == {"OK"}

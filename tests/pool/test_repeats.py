"""Repeats and the final: trainings with fresh seeds, which live in their run's folder."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from builders import drive
from simulated import Killed, MortalClock, Scripted, SimulatedClock, SimulatedLauncher

from nas_agent_graph.analysis.standings import candidates_of
from nas_agent_graph.context import Context, Recomputed
from nas_agent_graph.pool.repeat_rule import SelectionRule, is_unfinished
from nas_agent_graph.pool.repeats import prepare
from nas_agent_graph.replay.drift import Drift
from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_agent_graph.selection.rule import leader
from nas_system.config_io.config_file import read_config
from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import AgentState, RunInProgress, load_agent_state, mean_score
from nas_system.nas_agent.ledger import rebuild_state
from nas_system.processes.run_files import RunPaths

RUNS = 12


def launcher_of(
    scores: dict[str, float] | None = None, clock: SimulatedClock | None = None, sd: float = 0.01
):
    """Trainings whose score is their run's own, as far as it is given, and noise of their seed."""
    launcher = SimulatedLauncher(clock or SimulatedClock())

    def script(name: str, attempt: int, config: object) -> Scripted:
        training = launcher.trained[-1]
        run_id = training.partition("/")[0]
        own = (scores or {}).get(run_id, random.Random(run_id).uniform(0.1, 0.2))
        luck = (scores or {}).get(training, own + random.Random(training).gauss(0, sd))
        return Scripted(random.Random(training).uniform(0.5, 3), (luck,))

    launcher.script = script
    return launcher


@pytest.fixture
def selected(search):
    """Opens the search with the rule of selection."""

    def open_search(launcher: SimulatedLauncher, parallel: int = 1, **parts: object) -> Context:
        given = {"max_runs": RUNS, "repeat_rule": SelectionRule(), "clock": launcher.clock}
        return search(parallel, launcher=launcher, **given | parts)

    return open_search


def repeats_of(state: AgentState) -> list[tuple[str, int, str]]:
    return [(repeat.run_id, repeat.seed, repeat.purpose) for repeat in state.repeats]


def own_of(launcher: SimulatedLauncher) -> list[str]:
    return [name for name in launcher.trained if "/" not in name]


def test_the_best_three_get_fresh_seeds_at_the_end_and_the_worst_of_them_no_second_one(selected) -> None:
    scores = {"run_0004": 0.04, "run_0007": 0.05, "run_0009": 0.06}
    launcher = launcher_of(scores, sd=0)
    context = selected(launcher)
    assert drive(context)["end"] == f"all {RUNS} runs are done"
    state = context.ledger.state
    assert own_of(launcher) == [f"run_{number:04d}" for number in range(RUNS)], "repeats are no runs"
    assert [name for name in launcher.trained if "/" in name] == [
        "run_0004/repeats/seed_43",
        "run_0007/repeats/seed_43",
        "run_0009/repeats/seed_43",
        "run_0004/repeats/seed_44",
    ]
    assert {purpose for _, _, purpose in repeats_of(state)} == {"final"}
    assert read_config(context.ledger.paths("run_0004/repeats/seed_44").config).seed == 44
    assert state.best_run_id == "run_0004" and state.in_progress == ()


def test_a_lucky_score_does_not_lead_after_its_fresh_seeds(selected) -> None:
    scores = {"run_0003": 0.10, "run_0008": 0.05, "run_0008/repeats/seed_43": 0.30}
    context = selected(launcher_of(scores, sd=0))
    drive(context)
    state = context.ledger.state
    assert next(run for run in state.runs if run.run_id == "run_0008").accepted, (
        "it led when it was evaluated"
    )
    assert state.best_run_id == "run_0003"


@pytest.mark.parametrize("parallel", [1, 3])
def test_the_leader_on_disk_is_that_of_the_rule(selected, parallel: int) -> None:
    for seed in range(4):
        scores = {
            f"run_{number:04d}": random.Random(f"{seed}{number}").uniform(0.1, 0.12) for number in range(RUNS)
        }
        context = selected(launcher_of(scores), parallel, folder=f"search {seed}")
        drive(context)
        best = leader(candidates_of(context.ledger.state))
        assert best is not None and best.run_id == context.ledger.state.best_run_id


def test_without_repeats_nothing_is_trained_twice(selected) -> None:
    launcher = launcher_of()
    context = selected(launcher, repeats=0)
    drive(context)
    assert launcher.trained == [f"run_{number:04d}" for number in range(RUNS)]
    assert context.ledger.state.repeats == () and not is_unfinished(context.ledger, context.limits)


def test_a_short_search_has_no_final_unless_it_is_asked_for(selected) -> None:
    launcher = launcher_of()
    drive(selected(launcher, max_runs=5))
    assert len(launcher.trained) == 5
    launcher = launcher_of()
    drive(selected(launcher, max_runs=5, repeats=3, folder="asked"))
    assert len(launcher.trained) == 8


def test_several_at_once_never_more_than_there_are_slots_and_the_final_waits_for_all_runs(selected) -> None:
    launcher = launcher_of()
    drive(selected(launcher, 4))
    assert launcher.most_at_once <= 4
    first = next(number for number, name in enumerate(launcher.trained) if "/" in name)
    assert len(own_of(launcher)) == first, "all runs begin before the final"
    assert len(set(launcher.trained)) == len(launcher.trained)


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_search_with_a_final_replays_equal(selected, tmp_path: Path, parallel: int) -> None:
    context = selected(launcher_of(), parallel)
    drive(context)
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert len(recorded.state.repeats) == 4
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []


def test_a_repeat_that_the_rule_did_not_want_is_drift(selected, tmp_path: Path) -> None:
    context = selected(launcher_of())
    drive(context)
    repeat = context.ledger.state.repeats[0]
    path = context.ledger.paths(repeat.training_id).proposal
    write_json(path, {**(read_record(path) or {}), "purpose": "challenge"})
    recorded = RecordedSearch.open(context.ledger.workspace)
    with pytest.raises(Drift, match="the rule of selection wants"):
        replay(recorded, tmp_path / "again")


@pytest.mark.fault(55)
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_kill_at_any_moment_of_the_final_loses_and_doubles_nothing(
    selected, tmp_path: Path, parallel: int
) -> None:
    whole = launcher_of()
    undisturbed = selected(whole, parallel, folder="undisturbed")
    drive(undisturbed)
    ends_at = whole.clock.now
    rng = random.Random(parallel)
    for number in range(4):
        dies_at = sorted(rng.uniform(ends_at * 0.5, ends_at) for _ in range(3))
        clock = MortalClock(dies_at=dies_at)
        launcher = launcher_of(clock=clock)
        folder = f"killed {number}"
        while True:
            context = selected(launcher, parallel, folder=folder)
            try:
                drive(context)
                break
            except Killed:
                path = context.ledger.workspace / "agent_state.json"
                before = load_agent_state(path)
                rebuilt = rebuild_state(context.ledger.runs_dir)
                assert rebuilt is not None
                assert rebuilt.repeats == before.repeats
                assert {run.run_id for run in rebuilt.in_progress} == {
                    run.run_id for run in before.in_progress
                }
                if rng.random() < 0.5:
                    path.unlink()
        assert sorted(launcher.trained) == sorted(set(launcher.trained)), "nothing trains twice"
        assert len(launcher.trained) == len(whole.trained)
        recorded = RecordedSearch.open(context.ledger.workspace)
        assert differences(recorded.state, replay(recorded, tmp_path / f"again {number}")) == []


def test_a_final_that_was_cut_off_goes_on_with_the_same_command(selected) -> None:
    launcher = launcher_of()
    context = selected(launcher)
    drive(context)
    state = context.ledger.state
    # As if it had been killed between two trainings.
    context.ledger.save(repeats=state.repeats[:2])
    for repeat in state.repeats[2:]:
        for path in sorted(context.ledger.paths(repeat.training_id).folder.iterdir()):
            path.unlink()
        context.ledger.paths(repeat.training_id).folder.rmdir()
    again = selected(launcher)
    assert is_unfinished(again.ledger, again.limits)
    drive(again)
    assert repeats_of(again.ledger.state) == repeats_of(state)


def test_a_search_that_goes_on_has_another_final_with_further_seeds(selected) -> None:
    launcher = launcher_of({"run_0004": 0.01}, sd=0)
    drive(selected(launcher))
    context = selected(launcher, max_runs=RUNS + 3)
    drive(context)
    seeds = [seed for run_id, seed, _ in repeats_of(context.ledger.state) if run_id == "run_0004"]
    assert seeds == sorted(set(seeds)) and len(seeds) >= 3


def test_time_is_kept_for_the_final(selected) -> None:
    launcher = launcher_of()
    context = selected(launcher, max_runs=100, max_seconds=60.0)
    end = drive(context)["end"]
    assert end.startswith("the time limit")
    assert [repeat.purpose for repeat in context.ledger.state.repeats].count("final") >= 3
    assert launcher.clock.now < 60.0 + 3.5, "what has begun is brought to its end"


def test_time_is_kept_for_the_refits(selected) -> None:
    launcher = launcher_of()
    context = selected(launcher, max_runs=100, max_seconds=60.0, refit_share=0.15)
    assert drive(context)["end"].endswith("s of it kept for the final and refits")
    assert [repeat.purpose for repeat in context.ledger.state.repeats].count("final") >= 3
    without = launcher_of()
    drive(selected(without, max_runs=100, max_seconds=60.0, folder="without"))
    # How long a final takes is an estimate, and it is brought to its end.
    assert len(own_of(launcher)) < len(own_of(without)) and launcher.clock.now < 60.0


def test_a_failed_repeat_gives_no_score_and_does_not_come_again(selected) -> None:
    launcher = launcher_of({"run_0004": 0.01}, sd=0)
    inner = launcher.script

    def script(name: str, attempt: int, config: object) -> Scripted:
        found = inner(name, attempt, config)
        failed = launcher.trained[-1] == "run_0004/repeats/seed_43"
        return Scripted(found.seconds, found.scores, error="error" if failed else None)

    launcher.script = script
    context = selected(launcher)
    drive(context)
    state = context.ledger.state
    first = state.repeats[0]
    assert (first.run_id, first.status, first.val_score) == ("run_0004", "FAILED", None)
    assert len(state.repeats) == 4
    assert mean_score(state, next(run for run in state.runs if run.run_id == "run_0004")) == 0.01


def test_a_forged_score_that_did_not_lead_is_found_out_when_its_run_gets_a_fresh_seed(
    selected, tmp_path
) -> None:
    """It is third, so nobody has computed it again; in the final it would count."""
    scores = {"run_0003": 0.05, "run_0005": 0.06, "run_0007": 0.055}
    asked: list[str] = []

    def verify(run_dirs: Sequence[Path], *, timeout_s: float) -> list[Recomputed | None]:
        names = [path.as_posix().rpartition("/runs/")[2] for path in run_dirs]
        asked.extend(names)
        own = [(read_record(RunPaths(path).metrics) or {})["val_mse"] for path in run_dirs]
        return [
            Recomputed(0.5 if name == "run_0007" else score, 1)
            for name, score in zip(names, own, strict=True)
        ]

    context = selected(launcher_of(scores, sd=0), verify=verify)
    drive(context)
    state = context.ledger.state
    forged = next(run for run in state.runs if run.run_id == "run_0007")
    assert "run_0007" in asked and (forged.status, forged.val_score) == ("BAD_RESULT", None)
    assert "the score is not that of the weights" in (forged.cause or "")
    assert state.best_run_id == "run_0003"
    rebuilt = rebuild_state(context.ledger.runs_dir)
    assert rebuilt is not None and rebuilt.runs == state.runs and rebuilt.repeats == state.repeats
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []


def test_the_state_of_a_search_before_means_keeps_its_rule(selected, tmp_path: Path) -> None:
    context = selected(launcher_of(), max_runs=4)
    drive(context)
    path = context.ledger.workspace / "agent_state.json"
    old = json.loads(path.read_text())
    for name in ("leads_by", "repeats"):
        del old[name]
    old["schema_version"] = 5
    for run in old["in_progress"]:
        del run["purpose"], run["after"]
    path.write_text(json.dumps(old))
    launcher = launcher_of()
    again = selected(launcher, max_runs=RUNS)
    assert again.ledger.state.leads_by == "margin"
    drive(again)
    assert again.ledger.state.repeats == ()
    recorded = RecordedSearch.open(again.ledger.workspace)
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []


def test_a_repeat_that_was_only_reserved_is_prepared_as_it_would_have_been(selected, tmp_path: Path) -> None:
    """The agent was killed between the state and the first file of the repeat."""
    context = selected(launcher_of(sd=0.05), max_runs=30)
    drive(context)
    state = context.ledger.state
    first = next(repeat for repeat in state.repeats if repeat.purpose == "challenge")
    path = context.ledger.paths(first.training_id).proposal
    written = read_record(path)
    path.unlink()
    others = [repeat for repeat in state.repeats if repeat.ended_after < first.after]
    begun = RunInProgress(
        run_id=first.training_id, step="read_context", purpose=first.purpose, after=first.after
    )
    ledger = selected(launcher_of()).ledger
    ledger.state = state.replace(
        runs=state.runs[: first.after], repeats=tuple(others), in_progress=(begun,), best_run_id=None
    )
    prepare(first.training_id, replace(context, ledger=ledger))
    assert read_record(path) == written

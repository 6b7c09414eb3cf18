"""A search of several trainings at once, its durations simulated: what proposers are told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.made_up_objectives import Objective, duration_of, regrets_of, simulate, start_of
from benchmarks.sampler_regret import doubles_in
from nas_agent_graph.context import Proposal, SearchView
from nas_agent_graph.proposers.tpe import TPEProposer

RUNS = 20


class Watched:
    """TPE, and the views it was given; `blind` hides from it what is in progress."""

    name = "tpe"

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind
        self.views: list[SearchView] = []

    def propose(self, view: SearchView) -> Proposal:
        self.views.append(view)
        return TPEProposer().propose(replace(view, running=()) if self.blind else view)


def start(seed: int) -> SearchView:
    return replace(start_of(seed), max_runs=RUNS)


def test_four_at_once_are_told_of_each_other_and_begin_nothing_twice() -> None:
    proposer = Watched()
    finished, seconds = simulate(proposer, start(3), Objective(3).score, 4)
    assert sorted(run.run_id for run in finished) == [f"run_{n:04d}" for n in range(RUNS)]
    assert doubles_in(finished) == 0
    assert [len(view.running) for view in proposer.views] == [1, 2, *[3] * (RUNS - 3)]
    for number, view in enumerate(proposer.views, start=1):
        assert len(view.runs) + len(view.running) == number
        begun = [run.run_id for run in view.running]
        assert begun == sorted(begun) and {run.status for run in view.running} == {"RUNNING"}
    work = [duration_of(run.config, 3) for run in finished if run.config]
    assert sum(work) / 4 <= seconds < sum(work) / 4 + max(work)


def test_a_proposer_that_is_told_nothing_begins_the_same_again() -> None:
    finished, _ = simulate(Watched(blind=True), start(3), Objective(3).score, 4)
    assert doubles_in(finished) >= 8


def test_one_at_once_is_told_of_nothing_in_progress_and_its_regret_never_grows() -> None:
    proposer, objective = Watched(), Objective(3)
    finished, seconds = simulate(proposer, start(3), objective.score)
    assert {view.running for view in proposer.views} == {()}
    assert [run.run_id for run in finished] == [f"run_{n:04d}" for n in range(RUNS)]
    assert seconds == pytest.approx(sum(duration_of(run.config, 3) for run in finished if run.config))
    lowest = min(finished, key=lambda run: run.val_score or 0.0)
    assert lowest.config is not None
    assert regrets_of(finished, objective)[-1] == objective.regret(lowest.config)

"""Budgets of a search of several trainings at once: what is in progress counts, and is brought to its end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import drive
from simulated import Killed, MortalClock, Scripted, SimulatedLauncher

from nas_agent_graph.proposers.random_search import RandomSearchProposer


class Paid(RandomSearchProposer):
    """Each proposal costs 100 tokens and ten cents."""

    def propose(self, view):
        return replace(super().propose(view), tokens=100, cost_usd=0.1)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_tokens": 300}, "the budget of 300 tokens is spent"),
        ({"max_cost_usd": 0.25}, "the budget of $0.25 is spent"),
    ],
)
def test_what_is_in_progress_has_been_paid_for(search, launcher: SimulatedLauncher, limit, words) -> None:
    context = search(4, max_runs=20, proposer=Paid(), **limit)
    assert words in drive(context)["end"]
    # The base config costs nothing.
    assert len(context.ledger.state.runs) == len(launcher.submitted) == 4
    assert context.ledger.state.in_progress == ()
    # All three began at once, when the first had not been evaluated.
    assert launcher.at_once[-1] == {"run_0001", "run_0002", "run_0003"}


def test_at_the_time_limit_nothing_begins_and_what_trains_ends(search, launcher: SimulatedLauncher) -> None:
    context = search(3, max_runs=99, max_seconds=25.0)
    assert "time limit" in drive(context)["end"]
    # At 0, at 10, and at 20 s.
    assert [len(names) for names in launcher.at_once] == [1, 1, 2, 3, 1, 2, 3]
    assert len(context.ledger.state.runs) == 7 and not launcher.running


@pytest.mark.parametrize("parallel", [1, 3, 8])
def test_never_more_runs_than_allowed(search, launcher: SimulatedLauncher, parallel: int) -> None:
    context = search(parallel, max_runs=5)
    assert drive(context)["end"] == "all 5 runs are done"
    assert len(launcher.submitted) == len(context.ledger.state.runs) == 5


@pytest.fixture
def killed(search):
    """A search of four trainings at once whose agent is killed while run_0001 to run_0004 train."""
    clock = MortalClock(dies_at=[2.5])
    launcher = SimulatedLauncher(clock, lambda name, attempt, config: Scripted(1 + int(name[-1]) % 4))
    with pytest.raises(Killed):
        drive(search(4, launcher=launcher, clock=clock, max_runs=20))
    assert {path.name for path in launcher.running} == {f"run_000{number}" for number in (1, 2, 3, 5)}
    return launcher


@pytest.mark.parametrize("parallel", [1, 4])
def test_what_has_begun_is_brought_to_its_end_though_fewer_runs_are_allowed(
    search, killed, parallel: int
) -> None:
    for run_dir in list(killed.running)[1:]:
        killed.cancel(run_dir)
    context = search(parallel, launcher=killed, clock=killed.clock, max_runs=2)
    assert "6 runs are done" in drive(context)["end"]
    assert {name for name, _ in killed.submitted} == {f"run_000{number}" for number in range(6)}
    assert context.ledger.state.in_progress == ()


@pytest.mark.parametrize("parallel", [1, 2])
def test_with_fewer_slots_what_trains_is_adopted_and_nothing_more_begins(
    search, killed, parallel: int
) -> None:
    began = len(killed.submitted)
    context = search(parallel, launcher=killed, clock=killed.clock, max_runs=10)
    drive(context)
    assert len(killed.submitted) == 10
    assert max(map(len, killed.at_once[began:])) <= parallel
    assert len(context.ledger.state.runs) == 10


def test_with_fewer_slots_stopped_trainings_go_on_as_slots_are_free(search, killed) -> None:
    began = len(killed.submitted)
    for run_dir in list(killed.running)[1:]:
        killed.cancel(run_dir)
    drive(search(2, launcher=killed, clock=killed.clock, max_runs=8))
    assert max(map(len, killed.at_once[began:])) <= 2
    assert sorted(name for name, attempt in killed.submitted if attempt == 2) == sorted(
        set(killed.asked_to_end)
    )

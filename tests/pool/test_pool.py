"""Several trainings at once: when each begins, what it waits for, and in which order they are evaluated."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import count

import pytest
from builders import chat_client, drive
from simulated import Scripted, SimulatedLauncher

from nas_agent_graph.context import Proposal, SearchPaused
from nas_agent_graph.llm.recording import RecordedFallback, Transcript, read_events
from nas_agent_graph.llm.scripted_server import FAULTS, ScriptedServer
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.replay.drift import Drift
from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_system.errors import ProposalError
from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import load_agent_state


def ids(numbers: range) -> list[str]:
    return [f"run_{number:04d}" for number in numbers]


def lengths(seed: int, scores: tuple[float, ...] = ()) -> Callable[..., Scripted]:
    """Return a script of trainings of log-normal length, the same for the same name."""

    def script(name: str, attempt: int, config: object) -> Scripted:
        rng = random.Random(f"{seed} {name}")
        return Scripted(rng.lognormvariate(1.5, 0.8), scores or (rng.uniform(0.05, 0.09),))

    return script


def list_schedule(seconds: list[float], slots: int) -> float:
    """Return when the last training ends if each begins as soon as a slot is free."""
    free = [0.0] * slots
    for length in seconds:
        free[free.index(min(free))] += length
    return max(free)


def test_a_slot_is_refilled_as_soon_as_a_training_ends(search, launcher: SimulatedLauncher) -> None:
    launcher.script = lengths(1)
    drive(search(4, max_runs=32))
    assert launcher.most_at_once == 4
    assert sorted(launcher.submitted) == [(name, 1) for name in ids(range(32))]
    seconds = [launcher.script(name, 1, None).seconds for name in ids(range(32))]
    ideal = seconds[0] + list_schedule(seconds[1:], 4)
    # The simulated clock moves by the pool's own pauses alone.
    assert launcher.clock.now < ideal + 32 * 0.2
    # Not at a barrier: some run begins while the three that began before it are still training.
    assert any({name, *others} == at_once for at_once, name, others in began_with(launcher))


def began_with(launcher: SimulatedLauncher):
    names = [name for name, _ in launcher.submitted]
    return [
        (at_once, name, names[number - 3 : number])
        for number, (name, at_once) in enumerate(zip(names, launcher.at_once, strict=True))
        if number >= 8
    ]


def test_runs_are_evaluated_in_the_order_in_which_they_end(search, launcher: SimulatedLauncher) -> None:
    seconds = dict(zip(ids(range(6)), (1, 5, 2, 3, 0.5, 0.7), strict=True))
    launcher.script = lambda name, attempt, config: Scripted(seconds[name])
    context = search(4, max_runs=6)
    drive(context)
    state = context.ledger.state
    assert [int(run.run_id[-1]) for run in state.runs] == [0, 4, 5, 2, 3, 1]
    numbers = {run_id: read_record(context.ledger.paths(run_id).verdict)["number"] for run_id in seconds}
    assert [run.run_id for run in state.runs] == sorted(seconds, key=numbers.__getitem__)
    assert sorted(numbers.values()) == list(range(6))
    ends = [read_record(context.ledger.paths(run.run_id).exit)["ended_at"] for run in state.runs]
    assert ends == sorted(ends)


def test_nothing_begins_before_the_base_config_and_its_repeats_have_ended(
    search, launcher: SimulatedLauncher
) -> None:
    scores = {"run_0000": 0.060, "seed_43": 0.062, "seed_44": 0.058, "seed_45": 0.064}
    noise = {}
    for parallel in (1, 4):
        launcher = SimulatedLauncher(type(launcher.clock)())
        launcher.script = lambda name, attempt, config: Scripted(1, (scores.get(name, 0.05),))
        context = search(
            parallel,
            max_runs=2,
            repeat_base=3,
            folder=str(parallel),
            launcher=launcher,
            clock=launcher.clock,
            started=0.0,
        )
        drive(context)
        noise[parallel] = (context.ledger.state.noise, context.ledger.state.noise_runs)
        names = [name for name, _ in launcher.submitted]
        assert names == ["run_0000", "seed_43", "seed_44", "seed_45", "run_0001"]
        assert launcher.at_once[0] == {"run_0000"} and launcher.at_once[-1] == {"run_0001"}
        assert launcher.most_at_once == min(parallel, 3)
    assert noise[1] == noise[4] and noise[1][1] == 4


@pytest.mark.parametrize("proposer", ["random_search", "tpe"])
def test_a_search_of_several_at_once_replays_equal(
    search, launcher: SimulatedLauncher, tmp_path, proposer: str
) -> None:
    launcher.script = lengths(2)
    chosen = {"random_search": RandomSearchProposer, "tpe": TPEProposer}[proposer]()
    context = search(4, max_runs=10, proposer=chosen, repeat_base=2)
    drive(context)
    assert [run.run_id for run in context.ledger.state.runs] != ids(range(10)), "they end out of order"
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []


class Down(RandomSearchProposer):
    """A model whose service is down for some questions."""

    def __init__(self, *down: int) -> None:
        self.asked = count()
        self.down = down

    def propose(self, view):
        if next(self.asked) in self.down:
            raise SearchPaused("the service is down")
        return super().propose(view)


@pytest.mark.fault(57)
def test_what_trains_is_brought_to_its_end_while_no_proposal_can_come(
    search, launcher: SimulatedLauncher
) -> None:
    launcher.script = lengths(3)
    context = search(3, proposer=Down(*range(3, 99)))
    with pytest.raises(SearchPaused, match="the service is down"):
        drive(context)
    state = load_agent_state(context.ledger.workspace / "agent_state.json")
    assert sorted(run.run_id for run in state.runs) == ids(range(4))
    assert [run.run_id for run in state.in_progress] == ["run_0004"]
    assert launcher.asked_to_end == [] and not launcher.running
    drive(search(3, max_runs=8))
    assert sorted(launcher.submitted) == [(name, 1) for name in ids(range(8))]


@pytest.mark.fault(57)
def test_the_search_goes_on_by_itself_when_the_service_is_back(
    search, launcher: SimulatedLauncher, tmp_path
) -> None:
    launcher.script = lengths(3)
    context = search(3, proposer=Down(3, 4, 7))
    assert drive(context)["end"] == "all 8 runs are done"
    notes = [event[1] for event in context.progress.events if event[0] == "note"]
    assert sum("the service is down" in note for note in notes) == 3
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []


def test_with_nothing_new_to_propose_what_trains_is_brought_to_its_end(
    search, launcher: SimulatedLauncher
) -> None:
    class Exhausted(RandomSearchProposer):
        def propose(self, view):
            if view.run_id == "run_0004":
                raise ProposalError("nothing is left")
            return super().propose(view)

    launcher.script = lengths(4)
    context = search(4, proposer=Exhausted(), fallback=Exhausted())
    reason = "no new configuration could be proposed (nothing is left)"
    assert reason in drive(context)["end"]
    notes = [event[1] for event in context.progress.events if event[0] == "note"]
    assert f"{reason}; waiting for 1 run that is still training" in notes
    assert sorted(run.run_id for run in context.ledger.state.runs) == ids(range(4))
    assert [run.run_id for run in context.ledger.state.in_progress] == ["run_0004"]


def test_a_configuration_that_trains_now_is_not_begun_again(search, launcher: SimulatedLauncher) -> None:
    class Copying(RandomSearchProposer):
        def propose(self, view):
            if view.run_id == "run_0002" and not view.attempt:
                running = view.running[0]
                parent = context.ledger.proposal(running.run_id)
                changes = Proposal.from_file(parent, context.ledger.state.metric).changes
                return Proposal("copying", str(parent["parent"]), changes)
            return super().propose(view)

    launcher.script = lengths(5)
    context = search(4, proposer=Copying())
    drive(context)
    reason = next(event[2] for event in context.progress.events if event[0] == "refused")
    assert "run_0001, which is training now" in reason
    assert len({run.key for run in context.ledger.state.runs}) == 8


def test_a_run_that_cannot_have_begun_when_the_recording_says_so_is_drift(
    search, launcher: SimulatedLauncher, tmp_path
) -> None:
    launcher.script = lengths(6)
    context = search(3, max_runs=5)
    drive(context)
    path = context.ledger.paths("run_0003").proposal
    known = read_record(path)
    write_json(path, known | {"seen": known["seen"] | {"ended": 5}})
    recorded = RecordedSearch.open(context.ledger.workspace)
    with pytest.raises(Drift, match="the run that ended next has not begun"):
        replay(recorded, tmp_path / "again")


def answer(lr: float) -> str:
    change = {"parameter": "training.lr", "value": json.dumps(lr)}
    proposal = {"parent": "run_0000", "changes": [change], "hypothesis": "", "expected_val_mse": 0.05}
    return json.dumps(proposal)


@pytest.mark.fault(57)
def test_what_a_model_was_told_of_the_runs_in_progress_replays_equal(
    search, launcher: SimulatedLauncher, tmp_path
) -> None:
    """Its service is down for one question, and an answer is refused, while others train."""
    launcher.script = lengths(7, scores=(0.09, 0.08, 0.07, 0.06))
    script = [answer(0.002), FAULTS["bad_key"], answer(0.003), answer(0.002), answer(0.004), answer(0.005)]
    with ScriptedServer(iter([*script, answer(0.006)])) as server:
        transcript = Transcript(tmp_path / "search" / "runs")
        context = search(
            3,
            max_runs=6,
            proposer=LLMProposer(chat_client(server, timeout_s=20), transcript),
            fallback=RecordedFallback(TPEProposer(), transcript),
        )
        drive(context)
        asked = [str(body["messages"]) for body in server.requests]
    assert sum("In progress, no result yet" in text for text in asked) >= 3
    events = [read_events(context.ledger.paths(name).transcript) for name in ids(range(1, 6))]
    assert {"failed", "refused"} <= {event["kind"] for events_of_run in events for event in events_of_run}
    recorded = RecordedSearch.open(context.ledger.workspace)
    assert differences(recorded.state, replay(recorded, tmp_path / "again")) == []

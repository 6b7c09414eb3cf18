"""The sampler and a language model share the turns; nobody waits for an answer while a slot is free."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders import Silent, drive, search_context
from simulated import Killed, MortalClock, Scripted, SimulatedLauncher

from nas_agent_graph.analysis.arms import CAP, FLOOR, START, arm_records, share_of_model
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context, Proposer
from nas_agent_graph.llm.answer import Answer
from nas_agent_graph.llm.prompt_size import PromptForm
from nas_agent_graph.llm.recording import Transcript, read_events
from nas_agent_graph.pool.repeat_rule import SelectionRule
from nas_agent_graph.pool.slots import Slots
from nas_agent_graph.proposers.hybrid import HybridProposer
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.proposers.model_turn import ModelTurn
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_agent_graph.search_view import Proposal, RunView, SearchView
from nas_agent_graph.settings import LLMSettings
from nas_system.config_io.config_file import write_config
from nas_system.errors import SearchPaused
from nas_system.files import read_object
from nas_system.nas_agent.agent_state import AgentState, load_agent_state
from nas_system.space import RunConfig

THINKS_S = 200.0
"""As long as two or three trainings."""


def candidates(*proposals: dict[str, Any]) -> str:
    return json.dumps({"candidates": list(proposals)})


def candidate(parent: str = "run_0000", **changes: Any) -> dict[str, Any]:
    listed = [
        {"parameter": name.replace("__", "."), "value": json.dumps(value)} for name, value in changes.items()
    ]
    return {"parent": parent, "changes": listed, "hypothesis": "scripted", "expected_val_mse": 0.05}


def useful(number: int) -> str:
    """Every time another look-back and another rate; the first candidate is no configuration."""
    return candidates(
        candidate(training__lr=70.0),
        candidate(data__seq_len=48 + 12 * number, training__lr=0.001 * (number + 1)),
    )


def useless(number: int) -> str:
    return f"let me think about it {number} times"


@dataclass
class SlowModel:
    """Stands where `ChatClient` stands, and answers after some time of the simulated clock."""

    clock: ThinkingClock
    say: Callable[[int], str | BaseException] = useful
    settings: LLMSettings = field(default_factory=lambda: LLMSettings("slow", None, "no-secret"))
    prompt_form: PromptForm = field(default_factory=PromptForm)
    asked: list[float] = field(default_factory=list)

    def ask(self, messages: list[Any], *, metric: str, candidates: int) -> Answer:
        assert candidates == 5
        number = len(self.asked)
        self.asked.append(self.clock.now)
        deaths = len(self.clock.dies_at)
        self.clock.wait_until(self.clock.now + THINKS_S)
        if len(self.clock.dies_at) != deaths:
            raise OSError("the agent that asked is gone")
        said = self.say(number)
        if isinstance(said, BaseException):
            raise said
        return Answer(said, "stop", "slow", input_tokens=1000, output_tokens=100, latency_s=THINKS_S)


@dataclass
class ThinkingClock(MortalClock):
    """Moves only while nobody thinks, or up to where the model has answered."""

    due: list[tuple[float, threading.Event]] = field(default_factory=list)
    alone: bool = False
    """Whether the agent does nothing but wait for the answer."""

    def wait_until(self, moment: float) -> None:
        event = threading.Event()
        self.due.append((moment, event))
        event.wait(0.5)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        for moment, event in [entry for entry in self.due if entry[0] <= self.now]:
            self.due.remove((moment, event))
            event.set()
            # The thread has the answer written down before anything else happens.
            for thread in threading.enumerate():
                if thread.name == "wait for the language model":
                    thread.join(5.0)


def lengths(name: str, attempt: int, config: RunConfig) -> Scripted:
    generator = random.Random(name)
    score = 0.05 + abs(config.training.lr - 0.002) + generator.uniform(0, 0.001)
    return Scripted(generator.uniform(60, 110), scores=(score,))


@dataclass
class Search:
    """A hybrid search on a simulated clock, which another agent may continue."""

    folder: Path
    say: Callable[[int], str | BaseException] = useful
    parallel: int = 3
    max_runs: int = 32
    clock: ThinkingClock = field(default_factory=ThinkingClock)
    progress: Silent = field(default_factory=Silent)
    sampler: TPEProposer = field(default_factory=TPEProposer)
    said: list[str] = field(default_factory=list)
    proposer: Proposer | None = None
    """None stands for the hybrid."""

    def __post_init__(self) -> None:
        self.launcher = SimulatedLauncher(self.clock, script=lengths)
        self.model = SlowModel(self.clock, self.say)

    def open(self) -> Context:
        turn = ModelTurn(self.model, Transcript(self.folder / "runs"))  # pyright: ignore[reportArgumentType]
        context = search_context(
            self.folder,
            proposer=self.proposer or HybridProposer(turn, self.sampler, self.said.append),
            fallback=TPEProposer(),
            launcher=self.launcher,
            clock=self.clock,
            started=self.clock.now,
            progress=self.progress,
            slots=Slots(self.parallel),
            limits=Limits(max_runs=self.max_runs, repeat_base=0),
            repeat_rule=SelectionRule(),
        )
        context.ledger.save(max_runs=self.max_runs)
        if not (self.folder / "runs/base_config.py").exists():
            write_config(self.folder / "runs/base_config.py", context.base)
        return context

    def drive(self) -> AgentState:
        context = self.open()
        drive(context)
        return context.ledger.state

    @property
    def notes(self) -> list[str]:
        return [event[1] for event in self.progress.events if event[0] == "note"]

    def proposal(self, run_id: str) -> dict[str, Any]:
        return read_object(self.folder / "runs" / run_id / "proposal.json")


def by_model(state: AgentState) -> list[str]:
    return [run.run_id for run in state.runs if run.proposer == "llm:slow"]


def drift(search: Search, into: Path) -> list[str]:
    recorded = RecordedSearch.open(search.folder)
    return differences(recorded.state, replay(recorded, into))


def test_the_sampler_fills_the_slots_while_the_model_thinks(tmp_path: Path) -> None:
    search = Search(tmp_path / "s")
    state = search.drive()
    assert sorted(state.run_ids) == [f"run_{number:04d}" for number in range(32)]
    trained = by_model(state)
    assert len(trained) == len(search.model.asked) >= 2
    for run_id in trained:
        record = search.proposal(run_id)
        assert (record["arm"], record["rank"]) == ("model", 1)  # the first of its candidates was refused
        # Others began and ended between its question and its answer.
        assert record["answered"]["begun"] > int(run_id[4:]) + 1
        assert record["answered"]["ended"] > record["seen"]["ended"]
    # One question at a time, and from the start until no run is left to begin all slots are used.
    assert all(later - earlier >= THINKS_S for earlier, later in pairwise(search.model.asked))
    used = [len(trainings) for trainings in search.launcher.at_once]
    assert used[3:28] == [3] * 25
    arms = [search.proposal(run.run_id)["arm"] for run in state.runs[1:]]
    assert set(arms) == {"default", "sampler", "model"}
    assert drift(search, tmp_path / "again") == []


def test_with_one_slot_the_answer_is_waited_for_and_the_search_replays(tmp_path: Path) -> None:
    search = Search(tmp_path / "s", parallel=1, max_runs=24)
    search.model.clock = ImpatientClock()
    state = search.drive()
    assert len(by_model(state)) == len(search.model.asked) >= 1
    assert "answered" not in search.proposal(by_model(state)[0])
    assert drift(search, tmp_path / "again") == []


@dataclass
class ImpatientClock(ThinkingClock):
    def wait_until(self, moment: float) -> None:
        """Answer at once."""


def test_answers_that_help_nobody_cost_no_training_and_are_said(tmp_path: Path) -> None:
    search = Search(tmp_path / "s", say=useless, max_runs=60)
    state = search.drive()
    asked = [run.run_id for run in state.runs if run.tokens]
    assert by_model(state) == [] and len(asked) == len(search.model.asked) >= 5
    for run_id in asked:
        record = search.proposal(run_id)
        assert record["arm"] == "sampler" and "no JSON object" in record["wasted"]
        kinds = [event["kind"] for event in read_events(search.folder / "runs" / run_id / "transcript.jsonl")]
        assert kinds == ["request", "response", "refused", "fallback"]
    (warning,) = [text for text in search.notes if "5 times in a row" in text]
    assert "no JSON object" in warning and "nas doctor" in warning
    # Half of the lowest share, after the first few.
    assert len(asked) <= 0.5 + 4 + 0.05 * 60
    assert drift(search, tmp_path / "again") == []


def test_a_model_that_cannot_be_reached_does_not_end_the_search(tmp_path: Path) -> None:
    gone = SearchPaused("the service is gone")
    search = Search(tmp_path / "s", say=lambda number: gone if number == 0 else useful(number), max_runs=32)
    state = search.drive()
    assert len(state.runs) == 32 and len(search.model.asked) >= 2
    assert len(by_model(state)) == len(search.model.asked) - 1
    assert [text for text in search.said if "the service is gone; tpe proposes" in text]
    assert drift(search, tmp_path / "again") == []


@pytest.mark.parametrize("moment", [720.0, 900.0])
def test_killed_while_the_model_thinks_every_run_begins_once_and_replays(
    moment: float, tmp_path: Path
) -> None:
    search = Search(tmp_path / "s", max_runs=32)
    search.clock.dies_at = [moment, moment + 37, moment + 120]
    deaths = 0
    while True:
        try:
            state = search.drive()
            break
        except Killed:
            deaths += 1
    assert deaths == 3
    assert sorted(state.run_ids) == [f"run_{number:04d}" for number in range(32)]
    assert [name for name, _ in search.launcher.submitted if name.startswith("run")] == list(
        dict.fromkeys(name for name, _ in search.launcher.submitted if name.startswith("run"))
    )
    assert drift(search, tmp_path / "again") == []


@dataclass
class MortalSampler(TPEProposer):
    """Ends the agent, once, where it is asked about this run."""

    dies_at: str

    def propose(self, view: SearchView) -> Proposal:
        if view.run_id == self.dies_at:
            self.dies_at = ""
            raise Killed
        return super().propose(view)


def test_killed_between_the_begin_of_a_run_and_its_proposal_while_the_model_thinks(tmp_path: Path) -> None:
    first = Search(tmp_path / "first", max_runs=26)
    first.drive()
    asked = int(by_model(load_agent_state(first.folder / "agent_state.json"))[0][4:])
    search = Search(tmp_path / "s", max_runs=26)
    search.sampler = MortalSampler(f"run_{asked + 2:04d}")
    with pytest.raises(Killed):
        search.drive()
    state = load_agent_state(search.folder / "agent_state.json")
    assert {f"run_{asked:04d}", f"run_{asked + 2:04d}"} <= {run.run_id for run in state.in_progress}
    search.model.clock = ImpatientClock()  # whose answer is used before anything else is proposed
    state = search.drive()
    assert sorted(state.run_ids) == [f"run_{number:04d}" for number in range(26)]
    assert drift(search, tmp_path / "again") == []


class PromptModel(SlowModel):
    """Answers at once, with one proposal."""

    def ask(self, messages: list[Any], *, metric: str, may_repeat: bool) -> Answer:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.asked.append(self.clock.now)
        (said,) = json.loads(candidates(candidate(data__seq_len=50 + len(self.asked))))["candidates"]
        return Answer(json.dumps(said), "stop", "prompt", 1000, 100, latency_s=1.0)


@pytest.mark.parametrize("name", ["random_search", "tpe", "llm"])
def test_another_proposer_that_takes_over_while_the_model_thinks_replays(name: str, tmp_path: Path) -> None:
    search = Search(tmp_path / "s", max_runs=32)
    search.clock.dies_at = [500.0]
    with pytest.raises(Killed):
        search.drive()
    prompt = PromptModel(search.clock, settings=LLMSettings("prompt", None, "no-secret"))
    alone = LLMProposer(prompt, Transcript(search.folder / "runs"))  # pyright: ignore[reportArgumentType]
    others: dict[str, Proposer] = {
        "random_search": RandomSearchProposer(),
        "tpe": TPEProposer(),
        "llm": alone,
    }
    search.proposer = others[name]
    state = search.drive()
    assert len(search.model.asked) == 1 and by_model(state) == [] and len(state.runs) == 32
    assert drift(search, tmp_path / "again") == []


def run(number: int, arm: str, score: float | None, **parts: Any) -> RunView:
    return RunView(
        run_id=f"run_{number:04d}",
        status="OK" if score is not None else "DIVERGED",
        cause=None,
        config=None,
        family="linear",
        key=None,
        val_score=score,
        accepted=False,
        parent=None,
        summary="",
        arm=None if arm == "base" else arm,  # pyright: ignore[reportArgumentType]
        **parts,
    )


def share_after(tmp_path: Path, *runs: RunView) -> float:
    view = search_context(tmp_path).view("run_0099")
    return share_of_model(replace(view, runs=runs))


def test_the_share_of_a_model_follows_its_gains(tmp_path: Path) -> None:
    begun = [run(0, "base", 0.1), *(run(n, "sampler", 0.05 + n / 1000) for n in range(1, 9))]
    better = [run(n, "model", 0.05 - n / 1000) for n in range(9, 13)]
    worse = [run(n, "model", 0.08) for n in range(9, 13)]
    shares = [share_after(tmp_path, *begun, *later) for later in ([], better, worse)]
    assert shares[0] == pytest.approx(START, abs=0.02)
    assert FLOOR / 2 <= shares[2] < shares[0] < shares[1] <= CAP
    records = arm_records([*begun, *better], "minimize")
    assert records["model"].gain > 0 and records["sampler"].trainings == 8


def test_a_model_that_fails_twice_as_often_loses_half_of_its_share(tmp_path: Path) -> None:
    begun = [run(0, "base", 0.1), *(run(n, "sampler", 0.05 + n / 1000) for n in range(1, 9))]
    failed = [run(n, "model", None) for n in range(9, 13)]
    wasted = [run(n, "sampler", 0.09, wasted="no JSON") for n in range(9, 13)]
    poor = [run(n, "model", 0.09 + n / 1000) for n in range(9, 13)]
    fine = [run(n, "model", 0.0525) for n in range(9, 13)]
    whole = share_after(tmp_path, *begun, *fine)
    assert share_after(tmp_path, *begun, *failed) == pytest.approx(whole / 2)
    assert share_after(tmp_path, *begun, *poor) == pytest.approx(FLOOR / 2)
    assert share_after(tmp_path, *begun, *wasted) < share_after(tmp_path, *begun)
    # Failures of the machine are nobody's.
    lost = [replace(view, status="LOST") for view in failed]
    assert share_after(tmp_path, *begun, *lost) == share_after(tmp_path, *begun)

"""The model spends its turn on another seed of a run: one training, and then it is asked again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import Silent, chat_client, drive, search_context, write_hourly
from python_server import ROOT

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context, RunState, SearchPaused, StopRequest
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.llm.recording import RecordedFallback, Transcript, read_events
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer
from nas_agent_graph.pool.repeat_rule import SelectionRule
from nas_agent_graph.pool.slots import Slots
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_system.config_io.config_file import write_config
from nas_system.files import read_object, write_json
from nas_system.nas_agent.agent_state import AgentState, load_agent_state
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig

ASKING = "run_0006"
"""The first run in the place of which a repeat may be asked for: eight trainings have begun before it."""
WISHED = "run_0002/repeats/seed_43"


class Killed(BaseException):
    """Stands for `kill -9`: nothing catches it."""


def better_and_better(config: RunConfig) -> float:
    """Every higher rate leads; a seed is worth as much as two steps of the rate."""
    return 0.1 - config.training.lr + (config.seed - 42) * 0.002


def proposal(rate: float, parent: str = "run_0000") -> str:
    changes = [{"parameter": "training.lr", "value": json.dumps(rate)}]
    return json.dumps({"parent": parent, "changes": changes, "hypothesis": "faster", "expected_val_mse": 0.1})


def wish(run_id: str = "run_0002", **fields: Any) -> str:
    asked = {"repeat": True, "parent": run_id, "changes": [], "hypothesis": "it may be luck"}
    return json.dumps(asked | fields)


FIRST_FIVE = [proposal(0.002 + number / 1000) for number in range(5)]


def search(
    workspace: Path, script: Iterable[Reply | str], *, max_runs: int = 8, **parts: Any
) -> tuple[Context, list[dict[str, Any]]]:
    """Drive a search by a scripted model over HTTP; its trainings are scripted, too."""
    limits = Limits(max_runs=max_runs, repeats=parts.pop("repeats", None))
    with ScriptedServer(iter(script)) as server:
        transcript = Transcript(workspace / "runs")
        defaults: dict[str, Any] = {
            "proposer": LLMProposer(chat_client(server, timeout_s=5), transcript),
            "fallback": RecordedFallback(TPEProposer(), transcript),
            "launcher": ScriptedLauncher(better_and_better),
            "limits": limits,
            "repeat_rule": SelectionRule(),
        }
        context = search_context(workspace, max_runs=max_runs, **defaults | parts)
        write_config(workspace / "runs" / "base_config.py", RunConfig())
        context.ledger.save(max_runs=max_runs)
        try:
            drive(context)
        finally:
            asked = list(server.requests)
    return context, asked


def drift(workspace: Path, into: Path) -> list[str]:
    recorded = RecordedSearch.open(workspace)
    return differences(recorded.state, replay(recorded, into))


def repeats_of(state: AgentState) -> list[tuple[str, str]]:
    return [(repeat.training_id, repeat.purpose) for repeat in state.repeats if repeat.purpose != "base"]


def test_a_repeat_is_trained_and_the_model_is_asked_for_the_same_run_again(tmp_path: Path) -> None:
    script = [*FIRST_FIVE, wish(), proposal(0.012), proposal(0.014)]
    context, asked = search(tmp_path / "s", script)
    state = context.ledger.state
    assert [run.run_id for run in state.runs] == [f"run_{number:04d}" for number in range(8)]
    assert repeats_of(state) == [(WISHED, "asked")]
    (repeat,) = [repeat for repeat in state.repeats if repeat.purpose == "asked"]
    assert (repeat.after, repeat.ended_after) == (6, 6)
    before, after = asked[5]["messages"][1]["content"], asked[6]["messages"][1]["content"]
    assert "This proposal becomes run_0006." in before and "This proposal becomes run_0006." in after
    assert '{"repeat": true, "parent": ' in before and "(1 such wish left now)" in before
    assert '{"repeat": true' not in after and '{"repeat": true' not in asked[4]["messages"][1]["content"]
    assert "run_0002 [informer] 0.097, " in before
    assert "run_0002 [informer] 0.098 +- 0.0014 (2), " in after
    formats = [body["response_format"]["json_schema"]["schema"]["properties"] for body in asked]
    assert ["repeat" in properties for properties in formats] == [False] * 5 + [True, False, False]
    # Both answers are paid for by the run that the model was asked about.
    own = read_events(tmp_path / "s/runs" / ASKING / "transcript.jsonl")
    usages = [event["usage"] for event in own if event["kind"] == "response"]
    paid = sum(usage["input_tokens"] + usage["output_tokens"] for usage in usages)
    assert len(usages) == 2 and state.runs[6].tokens == paid
    record = read_object(tmp_path / "s/runs" / ASKING / "proposal.json")
    assert record["asked"] == [
        {
            "training": WISHED,
            "hypothesis": "it may be luck",
            "seen": {"ended": 6, "in_progress": []},
        }
    ]
    assert drift(tmp_path / "s", tmp_path / "again") == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (wish("run_0099"), "'run_0099' is not a run of this search that has ended"),
        (wish("run_0003"), "run_0003 ended as FAILED and cannot be repeated"),
        (wish(ASKING), "is not a run of this search that has ended"),
        (wish("../../x"), "is not a run of this search that has ended"),
        (wish(changes=[{"parameter": "a", "value": "1"}]), "changes: List should have at most 0 items"),
        (json.dumps({"parent": "run_0002", "changes": [], "hypothesis": ""}), "at least 1 item"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_refused_with_its_reason(
    said: str, reason: str, tmp_path: Path
) -> None:
    def score(config: RunConfig) -> float | None:
        return None if config.training.lr == 0.004 else better_and_better(config)

    context, asked = search(
        tmp_path / "s", [*FIRST_FIVE, said, proposal(0.012)], max_runs=7, launcher=ScriptedLauncher(score)
    )
    assert reason in asked[6]["messages"][-1]["content"]
    assert repeats_of(context.ledger.state) == []
    assert len(context.ledger.state.runs) == 7
    assert "asked" not in context.ledger.proposal(ASKING)
    assert drift(tmp_path / "s", tmp_path / "again") == []


def test_a_share_of_the_trainings_may_be_asked_for_and_none_where_repeats_are_off(tmp_path: Path) -> None:
    script = [*FIRST_FIVE, wish(), wish(), proposal(0.012)]
    context, asked = search(tmp_path / "auto", script, max_runs=7)
    assert repeats_of(context.ledger.state) == [(WISHED, "asked")]
    assert "no repeat can be asked for now" in asked[7]["messages"][-1]["content"]
    assert drift(tmp_path / "auto", tmp_path / "again") == []
    script = [*FIRST_FIVE, wish(), proposal(0.012)]
    context, asked = search(tmp_path / "off", script, max_runs=7, repeats=0)
    assert repeats_of(context.ledger.state) == []
    assert all("another seed" not in message["content"] for body in asked for message in body["messages"])
    assert "no repeat can be asked for now" in asked[6]["messages"][-1]["content"]
    assert drift(tmp_path / "off", tmp_path / "again off") == []


class KilledAtRepeat(ScriptedLauncher):
    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        if run_dir.name == "seed_43" and run_dir.parts[-3] == "run_0002":
            raise Killed
        super().submit(run_dir, job, attempt)


class KilledAtNote(Silent):
    """Between the entry in the state and that in the proposal."""

    def note(self, text: str) -> None:
        if "once more first" in text:
            raise Killed


class KilledAtValidation(StopRequest):
    """Between the proposal on disk and the entry in the state."""

    def __init__(self, workspace: Path) -> None:
        super().__init__()
        self.path = workspace / "runs" / ASKING / "proposal.json"

    def check(self) -> None:
        if self.path.exists() and "repeat" in read_object(self.path):
            raise Killed


@pytest.mark.parametrize("where", ["before the state", "after the state", "before the training"])
def test_a_killed_search_trains_the_repeat_once_and_asks_no_question_twice(
    where: str, tmp_path: Path
) -> None:
    workspace = tmp_path / "s"
    killers: dict[str, Callable[[], dict[str, Any]]] = {
        "before the state": lambda: {"stop": KilledAtValidation(workspace)},
        "after the state": lambda: {"progress": KilledAtNote()},
        "before the training": lambda: {"launcher": KilledAtRepeat(better_and_better)},
    }
    with pytest.raises(Killed):
        search(workspace, [*FIRST_FIVE, wish()], **killers[where]())
    launcher = ScriptedLauncher(better_and_better)
    context, asked = search(workspace, [proposal(0.012), proposal(0.014)], launcher=launcher)
    state = context.ledger.state
    assert repeats_of(state) == [(WISHED, "asked")]
    assert [name for name, _ in launcher.submitted] == ["seed_43", ASKING, "run_0007"]
    assert len(asked) == 2
    assert len(state.runs) == 8 and not state.in_progress
    assert len(context.ledger.proposal(ASKING)["asked"]) == 1
    assert drift(workspace, tmp_path / "again") == []


class KilledAtAnswer(Transcript):
    """Between the answer and what comes of it."""

    def append(self, run_id: str, kind: str, **content: Any) -> dict[str, Any]:
        event = super().append(run_id, kind, **content)
        if run_id == ASKING and kind == "response":
            raise Killed
        return event


@pytest.mark.parametrize("lost", [wish(), proposal(0.02)])
def test_an_answer_that_was_lost_is_asked_for_again_and_has_no_effect_in_a_replay(
    lost: str, tmp_path: Path
) -> None:
    workspace = tmp_path / "s"
    with ScriptedServer(iter([*FIRST_FIVE, lost])) as server:
        proposer = LLMProposer(chat_client(server, timeout_s=5), KilledAtAnswer(workspace / "runs"))
        with pytest.raises(Killed):
            search(workspace, [], proposer=proposer)
    context, _ = search(workspace, [wish("run_0003"), proposal(0.012), proposal(0.014)])
    assert repeats_of(context.ledger.state) == [("run_0003/repeats/seed_43", "asked")]
    assert drift(workspace, tmp_path / "again") == []


def test_a_repeat_that_failed_is_told_and_the_search_goes_on(tmp_path: Path) -> None:
    def score(config: RunConfig) -> float | None:
        return None if config.training.lr == 0.003 and config.seed > 42 else better_and_better(config)

    script = [*FIRST_FIVE, wish(), proposal(0.012)]
    context, asked = search(tmp_path / "s", script, max_runs=7, launcher=ScriptedLauncher(score))
    assert [repeat.status for repeat in context.ledger.state.repeats] == ["OK", "OK", "FAILED"]
    row = "run_0002 [informer] 0.097, 1 more seed without a score, "
    assert row in asked[6]["messages"][1]["content"]
    assert drift(tmp_path / "s", tmp_path / "again") == []


def test_the_sampler_steps_in_after_a_repeat_when_the_tokens_are_spent(tmp_path: Path) -> None:
    workspace = tmp_path / "s"
    with pytest.raises(SearchPaused):
        search(workspace, [*FIRST_FIVE, wish(), FAULTS["bad_key"]])
    spent = search_context(workspace, limits=Limits(max_runs=8, max_tokens=10**6)).committed.tokens
    limits = Limits(max_runs=8, max_tokens=spent)
    context, asked = search(workspace, [], limits=limits)
    last = context.ledger.state.runs[-1]
    assert (asked, last.run_id, last.proposer) == ([], ASKING, "tpe")
    assert sum(run.tokens for run in context.ledger.state.runs) == spent
    assert drift(workspace, tmp_path / "again") == []


def test_what_a_wish_has_cost_counts_before_the_run_is_proposed_again(tmp_path: Path) -> None:
    workspace = tmp_path / "s"
    with pytest.raises(SearchPaused):
        search(workspace, [*FIRST_FIVE, wish(), FAULTS["bad_key"]])
    context = search_context(workspace, limits=Limits(max_runs=8, max_tokens=10**6))
    known = sum(run.tokens for run in context.ledger.state.runs)
    events = read_events(workspace / "runs" / ASKING / "transcript.jsonl")
    (usage,) = [event["usage"] for event in events if event["kind"] == "response"]
    assert repeats_of(context.ledger.state) == [(WISHED, "asked")]
    assert context.committed.tokens == known + usage["input_tokens"] + usage["output_tokens"]
    context, asked = search(workspace, [proposal(0.012), proposal(0.014)])
    assert "0.098 +- 0.0014 (2)" in asked[0]["messages"][1]["content"]
    assert drift(workspace, tmp_path / "again") == []


class SlowRepeat(ScriptedLauncher):
    """The repeat ends after two runs that begin next to it."""

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        found = super().survey(run_dirs)
        for folder in run_dirs:
            if folder.as_posix().endswith(WISHED) and found[folder] == "finished":
                ended = (folder.parents[2] / "run_0008" / "verdict.json").exists()
                found[folder] = "finished" if ended else "running"
        return found


def test_the_run_that_waits_for_its_repeat_holds_no_slot(tmp_path: Path) -> None:
    script = [*FIRST_FIVE, wish(), *(proposal(0.012 + number / 1000) for number in range(8))]
    launcher = SlowRepeat(better_and_better)
    context, _ = search(tmp_path / "s", script, max_runs=12, slots=Slots(2), launcher=launcher)
    state = context.ledger.state
    assert [(name, why) for name, why in repeats_of(state) if why == "asked"] == [(WISHED, "asked")]
    assert len(state.runs) == 12 and not state.in_progress
    begun_meanwhile = context.ledger.proposal("run_0007")["seen"]
    assert begun_meanwhile["in_progress"] == [ASKING, WISHED]
    # The final comes after the last configuration all the same.
    assert [repeat.purpose for repeat in state.repeats][-4:] == ["final"] * 4
    assert drift(tmp_path / "s", tmp_path / "again") == []


def test_the_repeat_has_the_device_of_the_run_that_waits_for_it(tmp_path: Path) -> None:
    script = [*FIRST_FIVE, wish(), proposal(0.012)]
    launcher = KilledAtRepeat(better_and_better)
    with pytest.raises(Killed):
        search(tmp_path / "s", script[:6], max_runs=7, slots=Slots(1, ("3",)), launcher=launcher)
    state = search_context(tmp_path / "s").ledger.state
    assert [(run.run_id, run.device) for run in state.in_progress] == [(ASKING, None), (WISHED, "3")]
    context, _ = search(tmp_path / "s", script[6:], max_runs=7, slots=Slots(1, ("3",)))
    assert context.ledger.proposal(ASKING)["device"] == "3"
    assert not context.ledger.state.in_progress


def test_a_wish_that_somebody_edited_is_refused(tmp_path: Path) -> None:
    workspace = tmp_path / "s"
    with pytest.raises(Killed):
        search(workspace, [*FIRST_FIVE, wish()], stop=KilledAtValidation(workspace))
    path = workspace / "runs" / ASKING / "proposal.json"
    write_json(path, read_object(path) | {"repeat": "run_0004"})
    context, asked = search(workspace, [proposal(0.012), proposal(0.014)])
    assert "is not the one that was written down" in asked[0]["messages"][-1]["content"]
    assert repeats_of(context.ledger.state) == []


SERIES = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--base-config", "base.yaml"),
    *("--split", "0.7,0.15,0.15", "--max-runs", "7", "--proposer", "llm"),
)


def test_a_real_search_is_killed_while_it_repeats_goes_on_and_is_replayed(
    run_cli: Any, tmp_path: Path
) -> None:
    write_hourly(tmp_path / "series.csv", 700, load=lambda hour: 10 + hour % 24 + hour % 7)
    (tmp_path / "base.yaml").write_text(
        "model: {family: linear}\ndata: {features: S, seq_len: 24}\ntraining: {max_epochs: 1}\n"
    )
    script = [*FIRST_FIVE, wish(), proposal(0.012)]
    with ScriptedServer(iter(script)) as server:
        environment = {"NAS_LLM_MODEL": "scripted", "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": "k"}
        command = [sys.executable, "-m", "nas_agent_graph.run", *SERIES]
        variables = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        with open(tmp_path / "log", "wb") as log:
            agent = subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=log, stderr=log)
            while not RunPaths(tmp_path / "runs" / WISHED).process.exists():
                assert agent.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.02)
            agent.kill()
            agent.wait()
        left = load_agent_state(tmp_path / "agent_state.json").in_progress
        assert [run.run_id for run in left] == [ASKING, WISHED]
        done = run_cli("nas_agent_graph.run", *SERIES, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(server.requests) == 7
    state = load_agent_state(tmp_path / "agent_state.json")
    assert repeats_of(state) == [(WISHED, "asked")]
    assert [run.status for run in state.runs] == ["OK"] * 7
    assert "seed 43" in done.stdout
    replayed = run_cli("nas_agent_graph.replay", tmp_path, cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert replayed.stdout.startswith("equal: 7 runs")

"""Recorded searches are driven again with neither model nor training; what drifts is named."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from builders import Silent, by_lr, chat_client, drive, search_context

from nas_agent_graph.context import Proposer, SearchInterrupted, SearchPaused
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.llm.prompts import prompts_dir
from nas_agent_graph.llm.recording import RecordedFallback, Transcript, read_events
from nas_agent_graph.llm.scripted_server import FAULTS, Reply, ScriptedServer
from nas_agent_graph.proposers.llm import LLMProposer
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_system.config_io.config_file import write_config
from nas_system.files import read_object, write_json
from nas_system.space import RunConfig

RECORDINGS = Path(__file__).parents[1] / "recordings"
NAMES = sorted(folder.name for folder in RECORDINGS.iterdir() if (folder / "agent_state.json").exists())
Replay = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(run_cli: Any, tmp_path: Path) -> Replay:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_cli("nas_agent_graph.replay", *arguments, cwd=tmp_path)

    return run


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A recording that may be spoiled."""
    return shutil.copytree(RECORDINGS / "mended_answers", tmp_path / "copy")


def answer(**changes: Any) -> str:
    """`training__lr` stands for training.lr."""
    listed = [{"parameter": n.replace("__", "."), "value": json.dumps(v)} for n, v in changes.items()]
    proposal = {"parent": "run_0000", "changes": listed, "hypothesis": "scripted", "expected_val_mse": 0.05}
    return json.dumps(proposal)


class Interrupting(Silent):
    """Ctrl-C at the moment when an answer has been refused."""

    def refused(self, run_id: str, reason: str, proposer: str) -> None:
        raise SearchInterrupted(2)


def record(
    workspace: Path,
    script: Iterable[Reply | str] | None,
    *,
    max_runs: int,
    score: Callable[[RunConfig], float | None],
    proposer: str = "llm",
    progress: type[Silent] = Silent,
) -> None:
    """A search through the real graph and a real client over HTTP; only the trainings are scripted."""
    with ScriptedServer(iter(script or ())) as server:
        fallback: Proposer = RandomSearchProposer() if proposer == "random_search" else TPEProposer()
        chosen = fallback
        if proposer == "llm":
            transcript = Transcript(workspace / "runs")
            chosen = LLMProposer(chat_client(server, timeout_s=5), transcript)
            fallback = RecordedFallback(fallback, transcript)
        context = search_context(
            workspace,
            max_runs=max_runs,
            proposer=chosen,
            fallback=fallback,
            launcher=ScriptedLauncher(score),
            progress=progress(),
        )
        write_config(workspace / "runs" / "base_config.py", RunConfig())
        context.ledger.save(max_runs=max_runs)
        drive(context)


def replayed(workspace: Path, into: Path) -> list[str]:
    recorded = RecordedSearch.open(workspace)
    return differences(recorded.state, replay(recorded, into))


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_search_ends_in_the_same_state_again(name: str, call: Replay) -> None:
    done = call(RECORDINGS / name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("equal: ")


def test_there_are_recordings_and_each_says_that_no_model_took_part() -> None:
    assert NAMES == ["continued", "mended_answers"]
    for name in NAMES:
        assert "SCRIPTED MODEL" in (RECORDINGS / name / "README").read_text()


def test_the_recordings_hold_repairs_a_fallback_repeats_and_a_search_that_was_started_again() -> None:
    kinds = [event["kind"] for path in RECORDINGS.rglob("*.jsonl") for event in read_events(path)]
    assert {"request", "response", "refused", "fallback", "failed"} == set(kinds)
    assert len(list((RECORDINGS / "mended_answers/runs/run_0000/repeats").iterdir())) == 2
    events = read_events(RECORDINGS / "continued/runs/run_0002/transcript.jsonl")
    assert [event["attempt"] for event in events if event["kind"] == "request"] == [0, 1, 0, 1]


def test_a_replay_asks_the_same_questions_and_writes_nothing_into_the_recording(tmp_path: Path) -> None:
    recording = RECORDINGS / "mended_answers"
    before = {path: path.stat().st_mtime_ns for path in recording.rglob("*")}
    assert replayed(recording, tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in recording.rglob("*")} == before
    for path in recording.rglob("transcript.jsonl"):
        again = read_events(tmp_path / path.relative_to(recording))
        assert [(e["kind"], e["attempt"], e.get("request_hash")) for e in again] == [
            (e["kind"], e["attempt"], e.get("request_hash")) for e in read_events(path)
        ]


def test_a_changed_prompt_is_named_with_a_diff_unless_the_replay_is_lenient(
    call: Replay, tmp_path: Path
) -> None:
    prompts = shutil.copytree(prompts_dir(), tmp_path / "prompts")
    system = (prompts / "system.j2").read_text()
    assert "You are an expert" in system
    (prompts / "system.j2").write_text(system.replace("You are an expert", "You are a beginner"))
    done = call(RECORDINGS / "mended_answers", "--prompts", prompts)
    assert done.returncode == 1
    assert "run_0001, node propose_config, attempt 0" in done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("-You are an expert") for line in lines)
    assert any(line.startswith("+You are a beginner") for line in lines)
    assert len(lines) < 20, "only what is around the difference is shown"
    assert call(RECORDINGS / "mended_answers", "--prompts", prompts, "--lenient").returncode == 0


def test_a_missing_transcript_is_named(call: Replay, copy: Path) -> None:
    (copy / "runs/run_0002/transcript.jsonl").unlink()
    done = call(copy)
    assert done.returncode == 3
    assert "no answer for run_0002, node propose_config, attempt 0" in done.stderr


def test_a_missing_answer_within_a_conversation_is_named(call: Replay, copy: Path) -> None:
    path = copy / "runs/run_0002/transcript.jsonl"
    kept = [line for line in path.read_text().splitlines() if json.loads(line)["attempt"] == 0]
    path.write_text("\n".join(kept) + "\n")
    done = call(copy)
    assert done.returncode == 3
    assert "no answer for run_0002, node propose_config, attempt 1 (asked because: " in done.stderr


def test_another_answer_than_the_one_that_was_trained_is_drift_of_the_proposal(
    call: Replay, copy: Path
) -> None:
    path = copy / "runs/run_0001/transcript.jsonl"
    events = read_events(path)
    (said,) = [event for event in events if event["kind"] == "response"]
    assert '"0.02"' in said["text"]
    said["text"] = said["text"].replace('"0.02"', '"0.03"')
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    done = call(copy, "--lenient")
    assert done.returncode == 1
    assert "drift at run_0001, node propose_config, attempt 0: the proposed configuration" in done.stderr
    assert "0.03" in done.stdout


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        ("request", "circumstances", {"families": ["linear", "nosuch"]}, "'nosuch' is no family that this"),
        ("request", "circumstances", {"families": [{"a": {}}]}, "is no family that this program knows"),
        ("response", "latency_s", "soon", "has a latency_s that cannot be one"),
        ("response", "latency_s", float("nan"), "has a latency_s that cannot be one"),
        ("response", "text", ["no", "text"], "has a text that cannot be one"),
        (
            "response",
            "usage",
            {"input_tokens": 10**400, "output_tokens": 1},
            "has a input_tokens that cannot",
        ),
    ],
)
def test_what_no_search_has_recorded_is_named_with_its_place(
    kind: str, name: str, value: object, said: str, call: Replay, copy: Path
) -> None:
    path = copy / "runs/run_0001/transcript.jsonl"
    events = read_events(path)
    for event in events:
        if event["kind"] == kind:
            event[name] = value
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    done = call(copy)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "run_0001" in done.stderr


def test_another_score_than_the_recorded_one_is_named_with_its_run(call: Replay, copy: Path) -> None:
    path = copy / "runs/run_0005/metrics.json"
    write_json(path, read_object(path) | {"val_mse": 0.5})
    done = call(copy)
    assert done.returncode == 1
    assert "drift at run_0005: val_mse is 0.5" in done.stderr


def test_a_question_that_is_not_asked_again_is_drift(call: Replay, copy: Path) -> None:
    first = read_events(copy / "runs/run_0001/transcript.jsonl")
    extra = [{**event, "run": "run_0001", "attempt": 1} for event in first[:2]]
    with open(copy / "runs/run_0001/transcript.jsonl", "a") as file:
        file.write("".join(json.dumps(event) + "\n" for event in extra))
    done = call(copy)
    assert done.returncode == 1
    assert "run_0001, node propose_config, attempt 1: the recorded search asked" in done.stderr


@pytest.mark.parametrize("spoil", ["empty", "no_facts", "torn_state", "foreign_transcript"])
def test_what_is_no_recording_is_refused_in_one_line(spoil: str, call: Replay, copy: Path) -> None:
    if spoil == "empty":
        shutil.rmtree(copy)
        copy.mkdir()
    elif spoil == "no_facts":
        (copy / "runs/task_facts.json").unlink()
    elif spoil == "torn_state":
        (copy / "agent_state.json").write_text('{"runs": [')
    else:
        shutil.copy(copy / "runs/run_0002/transcript.jsonl", copy / "runs/run_0001/transcript.jsonl")
    done = call(copy)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_search_under_way_is_replayed_up_to_where_it_stood(tmp_path: Path) -> None:
    script = [answer(training__lr=0.002), "no idea", FAULTS["bad_key"]]
    with pytest.raises(SearchPaused):
        record(tmp_path / "recorded", script, max_runs=5, score=by_lr)
    recorded = RecordedSearch.open(tmp_path / "recorded")
    assert [run.run_id for run in recorded.state.runs] == ["run_0000", "run_0001"]
    assert [run.run_id for run in recorded.state.in_progress] == ["run_0002"]
    state = replay(recorded, tmp_path / "again")
    assert differences(recorded.state, state) == []
    assert state.in_progress == recorded.state.in_progress


def test_a_search_that_was_stopped_between_two_questions_and_asked_anew_is_replayed(tmp_path: Path) -> None:
    workspace = tmp_path / "recorded"
    with pytest.raises(SearchInterrupted):
        record(workspace, ["no idea"], max_runs=3, score=by_lr, progress=Interrupting)
    record(workspace, [answer(training__lr=0.002), answer(training__lr=0.003)], max_runs=3, score=by_lr)
    events = read_events(workspace / "runs/run_0001/transcript.jsonl")
    assert [(e["kind"], e["attempt"]) for e in events] == [("request", 0), ("response", 0)] * 2
    assert replayed(workspace, tmp_path / "again") == []
    assert len(read_events(tmp_path / "again/runs/run_0001/transcript.jsonl")) >= 4


def test_a_search_that_was_started_again_without_the_refused_proposals_file_is_replayed(
    tmp_path: Path,
) -> None:
    """Earlier versions kept no file of a proposal that was refused because the structure has to change."""
    workspace, rates = tmp_path / "recorded", [0.002 + n / 1e4 for n in range(6)]

    def score(config: RunConfig) -> float:
        return 0.05 + config.training.lr

    script = [answer(training__lr=rate) for rate in rates]
    with pytest.raises(SearchInterrupted):
        record(workspace, script, max_runs=8, score=score, progress=Interrupting)
    (workspace / "runs/run_0006/proposal.json").unlink()
    again = [answer(training__lr=0.05), answer(model__normalization="revin")]
    record(workspace, again, max_runs=7, score=score)
    events = read_events(workspace / "runs/run_0006/transcript.jsonl")
    assert [e["attempt"] for e in events if e["kind"] == "request"] == [0, 0, 1]
    assert replayed(workspace, tmp_path / "again") == []


@pytest.mark.parametrize("proposer", ["tpe", "random_search"])
def test_a_search_without_a_model_is_replayed_with_its_failed_trainings(
    proposer: str, tmp_path: Path
) -> None:
    def score(config: RunConfig) -> float | None:
        return None if config.data.seq_len == 48 or config.model.family == "lstm" else by_lr(config)

    record(tmp_path / "recorded", None, max_runs=18, score=score, proposer=proposer)
    assert {run.status for run in RecordedSearch.open(tmp_path / "recorded").state.runs} == {"OK", "FAILED"}
    assert replayed(tmp_path / "recorded", tmp_path / "again") == []


def test_a_long_search_is_replayed_without_loading_torch(run_cli: Any, tmp_path: Path) -> None:
    # Every run is better than all before, so that nothing else is demanded of the model; one answer in five
    # has to be mended.
    script: list[Reply | str] = []
    for number in range(1, 40):
        script += ["let me think"] * (number % 5 == 0) + [answer(training__lr=round(1e-3 * 1.02**number, 6))]
    record(tmp_path / "recorded", script, max_runs=40, score=by_lr)
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    done = run_cli("nas_agent_graph.replay", tmp_path / "recorded", cwd=tmp_path, env=env, fresh=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal: 40 runs" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "nas_agent_graph.replay.search" in loaded and "torch" not in loaded

"""The files of a workspace, damaged in every way: every reader copes, or says so in an error of ours."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fuzzing import CANARY, amount, damaged_file, hold, write_all
from hypothesis import strategies as st

from nas_agent_graph.context import run_views
from nas_agent_graph.llm.recording import read_events
from nas_agent_graph.replay.cassette import exchanges_in
from nas_agent_graph.report.data import report_record
from nas_agent_graph.show.leaderboard import leaderboard
from nas_agent_graph.show.pages import print_leaderboard, read_facts, read_state
from nas_agent_graph.show.run import page, record_of_run
from nas_agent_graph.show.transcript import record_of_transcript, transcript_lines
from nas_agent_graph.show.views import search_record
from nas_system.config_io.config_file import render_config
from nas_system.errors import NasError, StateError
from nas_system.nas_agent.agent_state import AgentState, RunInfo, load_agent_state, save_agent_state
from nas_system.nas_agent.history_summary import build_history_summary
from nas_system.nas_agent.ledger import Ledger, rebuild_state
from nas_system.nas_agent.logging_utils import load_history, load_metrics
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.space import ForecastingTask, RunConfig

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXIT = {
    **{"schema": 1, "attempt": 1, "ended": "exited", "returncode": 0, "signal": None, "message": None},
    **{"wall_s": 12.5, "peak_memory_mb": 812.0, "kernel_oom_kills": 0, "disk_free_mb": 5000.0},
}
PROCESS = {
    "schema": 1,
    "attempt": 1,
    "supervisor": {"pid": 4_000_000, "start_ticks": 7, "boot_id": "b", "pid_namespace": "p", "cookie": "c"},
    "training": None,
}
METRICS = {"val_mse": 0.05, "test_mse": 0.06, "best_epoch": 1, "reason": "completed", "non_finite": ["x"]}
ERROR = {"kind": "diverged", "message": "the loss became NaN", "epoch": 3, "step": 700, "lr": 0.5}
EPOCHS = [
    {"epoch": n, "train_mse": 0.1, "val_mse": 0.07 - n / 100, "lr": 0.1, "seconds": 1} for n in range(3)
]
HISTORY = {"best_epoch": 2, "epochs": EPOCHS}
CHANGE = {"parameter": "training.lr", "value": 0.01}
PROPOSAL = {
    **{"proposer": "llm:m", "parent": "run_0000", "hypothesis": "faster", "expected_val_mse": 0.04},
    **{"changes": [CHANGE], "tokens": 812, "attempt": 0},
}
VERDICT = {
    **{"accepted": True, "against": "run_0000", "reason": "0.01 below run_0000", "noise": 0.001},
    **{"noise_runs": 3, "run": {"run_id": "run_0001", "val_mse": 0.05, "status": "OK", "accepted": True}},
}
SOURCE = {"name": "ETTh1", "kind": "file", "path": "/data/ETTh1.csv", "sha256": "0" * 64, "notice": None}
FACTS = {
    **{"task": ForecastingTask().model_dump(mode="json"), "source": SOURCE, "columns": ["HUFL", "OT"]},
    "references": [{"name": "last-value", "val_mse": 0.07, "test_mse": 0.03}],
    "windows": {"sealed": 3, "max_seq_len": 500},
}
STATE = AgentState(
    max_runs=9,
    best_run_id="run_0001",
    task=ForecastingTask(),
    data=SOURCE,
    noise=0.001,
    noise_runs=3,
    hold_out={"run_0001": 0.04},
    runs=(
        RunInfo(run_id="run_0000", val_mse=0.06, accepted=True, family="informer", proposer="base config"),
        RunInfo(
            run_id="run_0001", val_mse=0.05, accepted=True, parent="run_0000", proposer="llm:m", tokens=9
        ),
        RunInfo(run_id="run_0002", status="DIVERGED", cause="loss is NaN (epoch 3)", seconds=4.0),
    ),
).model_dump(mode="json")
MESSAGE = {"role": "user", "content": "Propose."}
PLACE = {
    "v": 1,
    "seq": 0,
    "ts": "2026-01-01T00:00:00",
    "run": "run_0001",
    "node": "propose_config",
    "attempt": 0,
}
EVENTS: list[dict[str, Any]] = [
    {**PLACE, "kind": "request", "messages": [MESSAGE], "model": "m", "settings": {}, "circumstances": {}},
    {
        **{**PLACE, "kind": "response", "seq": 1, "text": "{}", "finish_reason": "stop", "model": "m"},
        **{"usage": {"input_tokens": 3, "output_tokens": 4}, "latency_s": 0.5, "answer_format": "prompt"},
    },
    {**PLACE, "kind": "refused", "seq": 2, "reason": "no"},
    {**PLACE, "kind": "fallback", "seq": 3, "proposer": "tpe"},
]
CONFIG = render_config(RunConfig()).encode()
WHOLE: dict[str, Any] = {
    "exit.json": EXIT,
    "proc.json": PROCESS,
    "metrics.json": METRICS,
    "error.json": ERROR,
    "history.json": HISTORY,
    "proposal.json": PROPOSAL,
    "verdict.json": VERDICT,
}


@pytest.fixture(autouse=True)
def _nothing_is_executed(tmp_path: Path) -> Any:
    with contextlib.chdir(tmp_path):
        yield
    assert not (tmp_path / CANARY).exists()


def whole_run(**changed: bytes) -> dict[str, bytes | None]:
    files = {name: json.dumps(value).encode() for name, value in WHOLE.items()}
    return {**files, "config_used.py": CONFIG, "train.log": b"epoch 1\n", **changed}


def damaged_run() -> st.SearchStrategy[dict[str, bytes | None]]:
    """The files of one run, one or two of which are damaged or gone."""
    one = st.sampled_from(sorted(WHOLE)).flatmap(
        lambda name: st.tuples(st.just(name), st.none() | damaged_file(WHOLE[name]))
    )
    return st.lists(one, min_size=1, max_size=2).map(lambda damaged: {**whole_run(), **dict(damaged)})


@pytest.mark.fault(16, 25, 26)
@amount(quick=80, long=5000)
def test_an_outcome_is_read_from_whatever_a_run_left_behind(examples: int, tmp_path: Path) -> None:
    def check(files: dict[str, bytes | None], log: bytes) -> None:
        write_all(tmp_path / "run", {**files, "train.log": log})
        with contextlib.suppress(StateError):
            load_metrics(tmp_path / "run")
        with contextlib.suppress(StateError):
            assert build_history_summary(load_history(tmp_path / "run")).isprintable()
        try:
            outcome = read_outcome(tmp_path / "run")
        except StateError:
            return
        json.dumps(asdict(outcome), allow_nan=False)
        assert (outcome.val_score is None) == (outcome.status is not Status.OK)
        for text in (outcome.cause, outcome.cause_and_numbers):
            assert (text is None) == (outcome.status is Status.OK)
            assert text is None or (len(text) <= 200 and text.isprintable())
        RunInfo(run_id="run_0000", status=outcome.status, cause=outcome.cause_and_numbers)

    hold(check, examples, damaged_run(), st.binary(max_size=200))


@pytest.mark.fault(5)
@amount(quick=150, long=3000)
def test_a_damaged_state_is_loaded_or_refused_and_what_is_loaded_can_be_kept(
    examples: int, tmp_path: Path
) -> None:
    def check(content: bytes) -> None:
        path = tmp_path / "agent_state.json"
        path.write_bytes(content)
        try:
            state = load_agent_state(path)
        except StateError as refusal:
            said = str(refusal)
            assert path.read_bytes() == content
            assert len(said) < 1000
            return
        keeps(state, path)
        leaderboard(state, FACTS)

    hold(check, examples, damaged_file(STATE))


def keeps(state: AgentState, path: Path) -> None:
    """What was written, read and written again is the same."""
    save_agent_state(state, path)
    kept = path.read_bytes()
    save_agent_state(load_agent_state(path), path)
    assert path.read_bytes() == kept


@pytest.mark.fault(5)
@amount(quick=60, long=2000)
def test_a_state_is_rebuilt_from_whatever_the_run_folders_hold(examples: int, tmp_path: Path) -> None:
    def check(verdict: bytes, facts: bytes, base: bytes) -> None:
        runs = tmp_path / "runs"
        write_all(runs, {"task_facts.json": facts, "base_config.py": base})
        write_all(runs / "run_0000", {"verdict.json": verdict})
        write_all(runs / "run_0001", {"verdict.json": json.dumps(VERDICT).encode()})
        state = rebuild_state(runs)
        if state is not None:
            keeps(state, tmp_path / "agent_state.json")

    rarely = st.just(json.dumps(FACTS).encode())
    bases = st.sampled_from([CONFIG, CONFIG, CONFIG, b"", b"seed = 1"])
    hold(check, examples, damaged_file(VERDICT), rarely | rarely | damaged_file(FACTS), bases)


@pytest.mark.fault(7)
@amount(quick=80, long=4000)
def test_a_damaged_transcript_is_read_as_far_as_it_goes(examples: int, tmp_path: Path) -> None:
    def check(line: bytes, place: int) -> None:
        lines = [json.dumps(event).encode() for event in EVENTS]
        lines[place] = line
        write_all(tmp_path / "run_0001", {"transcript.jsonl": b"\n".join(lines) + b"\n"})
        path = tmp_path / "run_0001" / "transcript.jsonl"
        kinds = [event["kind"] for event in read_events(path)]
        others = [event["kind"] for number, event in enumerate(EVENTS) if number != place]
        assert set(others) <= set(kinds), "one damaged line costs no other"
        record = record_of_transcript(tmp_path, "run_0001")
        json.dumps(record)
        for width in (20, 80):
            assert all(line.text.isprintable() for line in transcript_lines(record, width))
        with contextlib.suppress(StateError):
            exchanges_in(path, "run_0001")

    at = st.integers(0, len(EVENTS) - 1).flatmap(
        lambda place: st.tuples(damaged_file(EVENTS[place]), st.just(place))
    )
    hold(lambda both: check(*both), examples, at)


@pytest.mark.fault(14)
@amount(quick=60, long=2000)
def test_a_damaged_workspace_is_shown_or_refused_in_our_own_words(examples: int, tmp_path: Path) -> None:
    def check(files: dict[str, bytes | None], state_file: bytes, facts: bytes) -> None:
        runs = tmp_path / "runs"
        write_all(runs, {"task_facts.json": facts})
        write_all(runs / "run_0000", whole_run())
        write_all(runs / "run_0001", files)
        (tmp_path / "agent_state.json").write_bytes(state_file)
        with contextlib.suppress(NasError):
            state = read_state(tmp_path)
            known = read_facts(tmp_path, state)
            json.dumps(search_record(state, known, 5), allow_nan=False)
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                print_leaderboard(tmp_path, state, known)
            assert "\x1b" not in shown.getvalue()
            ledger = Ledger(tmp_path, state)
            for run in state.runs:
                record = record_of_run(ledger, run.run_id)
                json.dumps(record.to_json())
                assert all(line.text.isprintable() for line in page(record, 80))
            run_views(ledger)
            json.dumps(report_record(tmp_path, state, known, now=NOW), allow_nan=False, default=vars)

    rarely_state, rarely_facts = (st.just(json.dumps(value).encode()) for value in (STATE, FACTS))
    hold(
        check,
        examples,
        damaged_run(),
        rarely_state | rarely_state | damaged_file(STATE),
        rarely_facts | rarely_facts | damaged_file(FACTS),
    )

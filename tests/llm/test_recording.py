"""The transcript: append-only, typed, whole after a tear, without the key."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nas_agent_graph.context import Proposal, SearchView
from nas_agent_graph.llm.recording import (
    LARGEST_TRANSCRIPT_BYTES,
    RecordedFallback,
    Transcript,
    circumstances_of,
    read_events,
    request_hash,
    under,
)
from nas_agent_graph.replay.cassette import Cassette, exchanges_in
from nas_system.errors import StateError
from nas_system.space import ForecastingTask, RunConfig

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "propose"}]
KEY = "sk-canary-7f3a"
VIEW = SearchView(
    "run_0001",
    ForecastingTask(),
    RunConfig(),
    ("OT",),
    (),
    (),
    None,
    None,
    1,
    9,
    refused=("too large",),
    attempt=2,
)


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    (tmp_path / "run_0001").mkdir()
    return tmp_path


def file_of(runs_dir: Path) -> Path:
    return runs_dir / "run_0001" / "transcript.jsonl"


def test_every_event_says_what_it_is_and_where_it_belongs(runs_dir: Path) -> None:
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    transcript = Transcript(runs_dir, now=lambda: at)
    transcript.append("run_0001", "request", attempt=0, messages=MESSAGES, model="m", settings={})
    transcript.append("run_0001", "response", text="no")
    transcript.refused(VIEW)
    transcript.append("run_0001", "request", attempt=2, messages=MESSAGES, model="m", settings={})
    transcript.append("run_0001", "response", text="yes")
    events = [json.loads(line) for line in file_of(runs_dir).read_text().splitlines()]
    head = {"v": 1, "ts": "2024-05-01T12:00:00.000+00:00", "run": "run_0001", "node": "propose_config"}
    assert all(head.items() <= event.items() for event in events)
    assert [(e["seq"], e["attempt"], e["kind"]) for e in events] == [
        (0, 0, "request"),
        (1, 0, "response"),
        (2, 1, "refused"),
        (3, 2, "request"),
        (4, 2, "response"),
    ]
    assert events[2]["reason"] == "too large"
    assert events[0]["request_hash"] == request_hash(MESSAGES, "m", {})


def test_another_process_goes_on_where_the_last_one_stopped(runs_dir: Path) -> None:
    Transcript(runs_dir).append("run_0001", "request", attempt=3, messages=MESSAGES)
    Transcript(runs_dir).append("run_0001", "response", text="x")
    assert [(e["seq"], e["attempt"]) for e in read_events(file_of(runs_dir))] == [(0, 3), (1, 3)]


@pytest.mark.fault(6)
@pytest.mark.parametrize("torn_bytes", [1, 5, 40])
def test_a_torn_last_line_costs_that_line_and_nothing_else(torn_bytes: int, runs_dir: Path) -> None:
    first = Transcript(runs_dir)
    first.append("run_0001", "response", text="first")
    first.append("run_0001", "response", text="torn")
    path = file_of(runs_dir)
    path.write_bytes(path.read_bytes()[:-torn_bytes])
    # Without its line break alone a line is still whole.
    kept = ["first", "torn"] if torn_bytes == 1 else ["first"]
    assert [event["text"] for event in read_events(path)] == kept
    Transcript(runs_dir).append("run_0001", "response", text="after")
    assert [event["text"] for event in read_events(path)] == [*kept, "after"]
    assert read_events(path)[-1]["seq"] == len(kept)


@pytest.mark.fault(6, 39)
@pytest.mark.parametrize("kind", ["fifo", "link", "endless", "folder", "huge"])
def test_what_lies_where_the_transcript_belongs_is_set_aside_and_named(kind: str, runs_dir: Path) -> None:
    path, precious = file_of(runs_dir), runs_dir / "precious"
    precious.write_text('{"kind": "response", "text": "no line break behind it"')
    before = precious.read_bytes()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(LARGEST_TRANSCRIPT_BYTES + 1)
    else:
        path.symlink_to(precious if kind == "link" else Path("/dev/zero"))
    warnings: list[str] = []
    transcript = Transcript(runs_dir, warn=warnings.append)
    transcript.append("run_0001", "response", text="an answer that was paid for")
    assert [event["text"] for event in read_events(path)] == ["an answer that was paid for"]
    (warning,) = warnings
    assert warning.endswith("it is set aside as transcript.jsonl.damaged")
    assert os.path.lexists(path.with_name("transcript.jsonl.damaged"))
    assert precious.read_bytes() == before


def test_only_the_first_append_to_a_run_reads_its_file(runs_dir: Path) -> None:
    transcript = Transcript(runs_dir)
    transcript.append("run_0001", "response", text="a")
    path = file_of(runs_dir)
    path.rename(path.with_name("elsewhere"))
    transcript.append("run_0001", "response", text="b")
    assert [event["seq"] for event in read_events(path)] == [1]


@pytest.mark.fault(37)
def test_a_server_that_quotes_the_key_does_not_bring_it_into_the_file(runs_dir: Path) -> None:
    transcript = Transcript(runs_dir, secret=KEY)
    transcript.append("run_0001", "response", text=f"Incorrect API key: {KEY}", nested=[{"x": KEY}])
    text = file_of(runs_dir).read_text()
    assert KEY not in text
    assert "Incorrect API key: [key]" in text


def test_a_placeholder_for_a_key_masks_no_words(runs_dir: Path) -> None:
    Transcript(runs_dir, secret="none").append("run_0001", "response", text="none of these")
    assert read_events(file_of(runs_dir))[0]["text"] == "none of these"


def test_the_hash_is_of_messages_model_and_settings() -> None:
    plain = request_hash(MESSAGES, "m", {"temperature": None})
    assert plain == request_hash([dict(reversed(m.items())) for m in MESSAGES], "m", {"temperature": None})
    others = [
        request_hash(MESSAGES[::-1], "m", {"temperature": None}),
        request_hash(MESSAGES, "n", {"temperature": None}),
        request_hash(MESSAGES, "m", {"temperature": 0.5}),
    ]
    assert len({plain, *others}) == 4


def test_circumstances_give_a_view_back_what_flags_and_machine_had_told_it() -> None:
    told = json.loads(json.dumps(circumstances_of(VIEW, ["linear", "tft"])))
    elsewhere = under(told, replace(VIEW, max_runs=500))
    assert elsewhere.max_runs == 9
    assert elsewhere.families == ("linear", "tft")
    assert under({}, VIEW) == VIEW


def test_what_seeds_and_rows_had_told_is_given_back_and_nothing_is_where_nothing_was() -> None:
    view = replace(VIEW, leads_by="mean", resolution=0.0024, final=4, repeats_left=2)
    told = json.loads(json.dumps(circumstances_of(view, ["linear"])))
    elsewhere = under(told, replace(view, resolution=None, final=9, repeats_left=7))
    assert (elsewhere.resolution, elsewhere.final, elsewhere.repeats_left) == (0.0024, 4, 2)
    known = circumstances_of(VIEW, ["linear"])
    assert not {"resolution", "final", "repeats_left"} & set(known)
    without = under(known, view)
    assert (without.resolution, without.final, without.repeats_left) == (None, 0, 0)


def test_an_answer_belongs_to_the_question_before_it_and_a_question_may_have_none(runs_dir: Path) -> None:
    transcript = Transcript(runs_dir)
    for attempt, text in ((0, None), (0, "a"), (1, "b")):
        transcript.append("run_0001", "request", attempt=attempt, messages=MESSAGES)
        if text is not None:
            transcript.append("run_0001", "response", text=text)
    found = exchanges_in(file_of(runs_dir), "run_0001")
    assert [(e.key[2], e.response and e.response["text"]) for e in found] == [(0, None), (0, "a"), (1, "b")]
    assert len(Cassette.load(runs_dir, ["run_0001"]).unplayed()) == 3


@pytest.mark.parametrize(
    "spoiled", [{"run": "run_0009"}, {"attempt": "0"}, {"node": None}, {"messages": "hello"}]
)
def test_a_transcript_without_its_keys_is_refused(spoiled: dict[str, object], runs_dir: Path) -> None:
    event = {"kind": "request", "run": "run_0001", "node": "n", "attempt": 0, "messages": MESSAGES}
    file_of(runs_dir).write_text(json.dumps(event | spoiled) + "\n")
    with pytest.raises(StateError, match=r"transcript\.jsonl, event"):
        Cassette.load(runs_dir, ["run_0001"])


def test_refused_answers_are_paid_for_also_when_a_sampler_steps_in(runs_dir: Path) -> None:
    class Sampler:
        name = "tpe"

        def propose(self, view: SearchView) -> Proposal:
            return Proposal("tpe", parent="run_0000", hypothesis="drawn")

    transcript = Transcript(runs_dir)
    assert transcript.paid("run_0001") == (0, None)
    for answer in ("no", "no again"):
        transcript.append("run_0001", "request", attempt=0, messages=MESSAGES, model="m", settings={})
        usage = {"input_tokens": 900, "output_tokens": 60, "reasoning_tokens": 20}
        transcript.append("run_0001", "response", text=answer, usage=usage, cost_usd=0.0021)
    # Thoughts are part of the output tokens, not more of them.
    assert transcript.paid("run_0001") == (2 * 960, 0.0042)
    transcript.append("run_0001", "response", text="of an older program", usage=None)
    proposal = RecordedFallback(Sampler(), transcript).propose(VIEW)
    assert (proposal.tokens, proposal.cost_usd) == (2 * 960, 0.0042)

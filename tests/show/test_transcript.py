"""`show RUN --transcript`: the whole conversation, every word once, and nothing that moves the cursor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.llm.recording import Transcript
from nas_agent_graph.show.transcript import record_of_transcript, transcript_lines

RECORDING = Path(__file__).parents[1] / "recordings" / "mended_answers"
PROMPT = [{"role": "system", "content": "rules"}, {"role": "user", "content": "- a list\n  of two lines"}]


@pytest.fixture
def conversation(tmp_path: Path) -> Path:
    """A refused answer, a mended one, and one more question that nobody answered."""
    (tmp_path / "run_0001").mkdir()
    transcript = Transcript(tmp_path)
    usage = {"input_tokens": 900, "output_tokens": 60}
    bad = "I \x1b[31mwould\u202e not"
    transcript.append("run_0001", "request", attempt=0, messages=PROMPT, model="m-14b")
    transcript.append("run_0001", "response", text=bad, usage=usage, latency_s=12.0, finish_reason="stop")
    transcript.append("run_0001", "refused", reason="no JSON object was found")
    mended = [*PROMPT, {"role": "assistant", "content": bad}, {"role": "user", "content": "again please"}]
    transcript.append("run_0001", "request", attempt=1, messages=mended, model="m-14b")
    transcript.append("run_0001", "response", text="{}", usage=usage, latency_s=3.0, refusal="I cannot")
    transcript.append("run_0001", "request", attempt=0, messages=mended, model="m-14b")
    return tmp_path


def text_of(runs_dir: Path, width: int = 80) -> str:
    return "\n".join(
        line.text for line in transcript_lines(record_of_transcript(runs_dir, "run_0001"), width)
    )


def test_the_first_line_sums_up(conversation: Path) -> None:
    first = text_of(conversation).splitlines()[0]
    assert first == "run_0001: 3 questions, 2 answers, 1 refused; 1800 tokens in, 120 out, 15 s"


def test_every_message_is_shown_once_and_with_what_it_cost(conversation: Path) -> None:
    text = text_of(conversation)
    for words in ("rules", "no JSON object was found", "again please", "I cannot"):
        assert text.count(words) == 1, words
    assert "(after the 3 messages above)" in text
    assert "(900 tokens in, 60 out, 12 s, finish reason: stop)" in text
    assert "--- attempt 1: answer of the model" in text


def test_line_breaks_and_indentation_of_a_prompt_stay(conversation: Path) -> None:
    assert "\n  - a list\n    of two lines\n" in text_of(conversation)


def test_nothing_in_an_answer_reaches_the_terminal_as_a_command(conversation: Path) -> None:
    text = text_of(conversation)
    assert "\x1b" not in text and "\u202e" not in text
    assert "I [31mwould not" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    record = record_of_transcript(RECORDING / "runs", "run_0002")
    assert max(len(line.text) for line in transcript_lines(record, width)) <= width


def test_a_search_that_is_asked_again_from_the_start_says_so(tmp_path: Path) -> None:
    (tmp_path / "run_0001").mkdir()
    transcript = Transcript(tmp_path)
    for _ in range(2):
        transcript.append("run_0001", "request", attempt=0, messages=PROMPT, model="m")
    assert "(the same 2 messages again)" in text_of(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "request"}',
        '{"kind": "response", "usage": 3, "latency_s": "x"}',
        '{"kind": "\\u001b"}',
        "[]",
    ],
)
def test_a_strange_event_is_no_error(line: str, conversation: Path) -> None:
    with open(conversation / "run_0001/transcript.jsonl", "a") as file:
        file.write(line + "\n")
    assert "again please" in text_of(conversation)


def show(run_cli: Any, *arguments: str | Path) -> Any:
    return run_cli("nas_agent_graph.show", *arguments, "--workspace", RECORDING, cwd=RECORDING)


def test_show_prints_the_conversation(run_cli: Any) -> None:
    done = show(run_cli, "run_0002", "--transcript")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run_0002: 2 questions, 2 answers, 1 refused; ")
    assert "I would raise the learning rate." in done.stdout


def test_json_is_one_object_with_every_event(run_cli: Any) -> None:
    done = show(run_cli, "run_0002", "--transcript", "--json")
    record = json.loads(done.stdout)
    assert (record["run_id"], record["requests"], record["responses"]) == ("run_0002", 2, 2)
    lines = (RECORDING / "runs/run_0002/transcript.jsonl").read_text().splitlines()
    assert record["events"] == [json.loads(line) for line in lines]
    assert record["input_tokens"] == sum(
        event["usage"]["input_tokens"] for event in record["events"] if event["kind"] == "response"
    )


def test_a_run_without_a_conversation_and_a_missing_run_id_say_so(run_cli: Any) -> None:
    assert "nothing was exchanged" in show(run_cli, "run_0000", "--transcript").stdout
    done = show(run_cli, "--transcript")
    assert done.returncode == 2
    assert "name it" in done.stderr

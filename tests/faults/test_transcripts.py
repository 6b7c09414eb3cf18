"""transcript.jsonl after a kill, a bad disk and an editor: what can be read is read, the rest is counted."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_agent_graph.llm.recording import Transcript, read_events, read_transcript

Cli = Callable[..., subprocess.CompletedProcess[str]]
RECORDING = Path(__file__).resolve().parents[1] / "recordings" / "mended_answers"
TEXTS = ("first", "second é 🙂", "third")


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    """Three events, as the program writes them."""
    (tmp_path / "run_0001").mkdir()
    writer = Transcript(tmp_path)
    for text in TEXTS:
        writer.append("run_0001", "response", text=text)
    return tmp_path / "run_0001" / "transcript.jsonl"


def texts(path: Path) -> list[str]:
    return [event["text"] for event in read_events(path)]


@pytest.mark.fault(6)
def test_wherever_the_file_is_cut_the_next_process_goes_on_behind_the_last_whole_line(
    transcript: Path, record_property: Callable[[str, object], None]
) -> None:
    content, torn = transcript.read_bytes(), transcript.with_name("transcript.jsonl.torn")
    ends = [position for position in range(len(content)) if content[position : position + 1] == b"\n"]
    cuts = {*range(0, len(content), 4), *ends, *(end + 1 for end in ends[:-1]), *(end - 1 for end in ends)}
    for cut in sorted(cuts):
        torn.unlink(missing_ok=True)
        transcript.write_bytes(content[:cut])
        # A line whose line break alone is missing is whole.
        whole = sum(end <= cut for end in ends)
        warnings: list[str] = []
        writer = Transcript(transcript.parent.parent, warn=warnings.append)
        writer.append("run_0001", "response", text="after")
        assert texts(transcript) == [*TEXTS[:whole], "after"], cut
        assert [event["seq"] for event in read_events(transcript)] == list(range(whole + 1)), cut
        assert read_transcript(transcript).damaged_lines == 0, cut
        rest = content[ends[whole - 1] + 1 if whole else 0 : cut]
        assert (torn.read_bytes() if torn.exists() else b"") == (rest + b"\n" if rest else b""), cut
        assert len(warnings) == bool(rest), cut
    record_property("measured", f"{len(cuts)} cut points, 0 whole lines lost")


@pytest.mark.fault(7)
def test_a_damaged_byte_costs_its_own_line_at_most(
    transcript: Path, record_property: Callable[[str, object], None]
) -> None:
    content, flips = transcript.read_bytes(), 0
    for position in range(0, len(content), 7):
        for byte in (0x00, content[position] ^ 0x80, ord("\n"), ord('"')):
            flips += 1
            transcript.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
            line = content[:position].count(b"\n")
            others = [text for number, text in enumerate(TEXTS) if number != line]
            # A lost line break joins two lines: both are gone.
            least = len(others) - (content[position : position + 1] == b"\n")
            found = read_events(transcript)
            assert len([event for event in found if event.get("text") in others]) >= least, position
            assert read_transcript(transcript).damaged_lines <= 2, position
            warnings: list[str] = []
            writer = Transcript(transcript.parent.parent, warn=warnings.append)
            writer.append("run_0001", "response", text="after")
            assert texts_of(transcript)[-1] == "after", position
            damaged = read_transcript(transcript).damaged_lines or transcript_was_torn(transcript)
            assert bool(warnings) == bool(damaged), position
            transcript.with_name("transcript.jsonl.torn").unlink(missing_ok=True)
    record_property("measured", f"{flips} damaged bytes, no other line lost")


def texts_of(path: Path) -> list[object]:
    return [event.get("text") for event in read_events(path)]


def transcript_was_torn(path: Path) -> bool:
    return path.with_name("transcript.jsonl.torn").exists()


@pytest.mark.fault(7)
def test_damage_is_counted_wherever_a_transcript_is_shown(tmp_path: Path, run_cli: Cli) -> None:
    workspace = shutil.copytree(RECORDING, tmp_path / "search")
    path = workspace / "runs" / "run_0005" / "transcript.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join(lines[:1]) + b'{"kind": "respo\n' + bytes(range(128, 256)) + b"\n" + b"".join(lines[1:])
    )
    shown = run_cli("nas_agent_graph.show", "run_0005", "--transcript", cwd=workspace)
    assert shown.returncode == 0, shown.stderr
    assert "2 lines of transcript.jsonl cannot be read" in shown.stdout
    record = run_cli("nas_agent_graph.show", "run_0005", "--transcript", "--json", cwd=workspace)
    assert json.loads(record.stdout)["damaged_lines"] == 2
    assert len(json.loads(record.stdout)["events"]) == len(lines)
    replayed = run_cli("nas_agent_graph.replay", workspace, cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stderr
    assert f"{path}: 2 of its lines cannot be read" in replayed.stderr
    reported = run_cli("nas_agent_graph.report", "--workspace", workspace, "--out", "page.html", cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr


@pytest.mark.fault(8)
def test_an_answer_that_found_no_space_is_written_once_there_is_some(tmp_path: Path) -> None:
    """It has been paid for; asking again would pay twice."""
    refused: list[OSError] = []

    def retry_until_space(write: Callable[[], None]) -> None:
        while True:
            try:
                return write()
            except OSError as error:
                refused.append(error)
                (tmp_path / "run_0001").mkdir()

    Transcript(tmp_path, retry_until_space=retry_until_space).append("run_0001", "response", text="paid for")
    assert [error.errno for error in refused] == [errno.ENOENT]
    assert texts(tmp_path / "run_0001" / "transcript.jsonl") == ["paid for"]

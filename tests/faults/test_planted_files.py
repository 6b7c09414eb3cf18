"""Links, FIFOs, devices, folders where files of a search belong: nothing hangs, leaks or leaves the place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_system.nas_agent.agent_state import AgentState, load_agent_state

Cli = Callable[..., subprocess.CompletedProcess[str]]
GoOn = Callable[[], tuple[int, str]]
SECRET = "sk-canary-41fd"
ENDLESS_S = 120.0
"""Against a reader that waits or reads for ever; nothing here asserts that a machine is fast."""
KINDS = ("fifo", "endless", "secret", "dangling", "folder")
READ = (
    *("proposal.json", "config_used.py", "history.json", "metrics.json", "verdict.json", "sealed.json"),
    *("transcript.jsonl", "train.log", "error.json", "retried.json", "predictions.png", "attention.png"),
    "val_errors.npy",
)
"""Files of a finished run that somebody reads."""
WRITTEN = ("proposal.json", "proposal.json.tmp", "config_used.py", "config_used.py.tmp", "transcript.jsonl")
WRITTEN_LAST = ("verdict.json", "verdict.json.tmp", ".space")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with one precious file; what a link leads to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / ".env").write_text(f"NAS_LLM_API_KEY={SECRET}\n")
    return folder


def plant(path: Path, kind: str, outside: Path) -> None:
    """Put something else where a file of ours belongs."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
        (path / "theirs").write_text("theirs")
    else:
        targets = {"endless": "/dev/zero", "secret": outside / ".env", "dangling": outside / "new"}
        path.symlink_to(targets[kind])


def assert_untouched(outside: Path) -> None:
    assert [path.name for path in outside.iterdir()] == [".env"], "nothing is made through a link"
    assert (outside / ".env").read_text() == f"NAS_LLM_API_KEY={SECRET}\n"


def assert_no_secret(workspace: Path, outside: Path, *said: str) -> None:
    for text in said:
        assert SECRET not in text, text
    for path in workspace.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes(), path
    assert_untouched(outside)


def state_of(workspace: Path) -> AgentState:
    return load_agent_state(workspace / "agent_state.json")


@pytest.mark.fault(25, 36, 37)
@pytest.mark.parametrize("kind", ["fifo", "endless", "secret"])
def test_every_reader_ends_whatever_lies_in_a_finished_run(
    kind: str, workspace: Path, outside: Path, go_on: GoOn, run_cli: Cli
) -> None:
    for name in READ:
        plant(workspace / "runs" / "run_0001" / name, kind, outside)
    said = []
    for command in (
        ["show"],
        ["show", "run_0001"],
        ["show", "run_0001", "--json"],
        ["show", "run_0001", "--transcript"],
        ["show", "--lessons"],
        ["report", "--out", "report.html"],
        ["replay", workspace],
    ):
        done = run_cli(f"nas_agent_graph.{command[0]}", *command[1:], cwd=workspace, timeout_s=ENDLESS_S)
        assert "Traceback" not in done.stderr, (command, done.stderr)
        assert done.returncode == 0 or command[0] == "replay", (command, done.stderr)
        said += [done.stdout, done.stderr]
    code, text = go_on()
    assert code == 0, text
    assert [run.status for run in state_of(workspace).runs] == ["OK"] * 4
    assert_no_secret(workspace, outside, *said, text)


@pytest.mark.fault(7)
@pytest.mark.parametrize("kind", ["fifo", "endless"])
def test_a_transcript_that_is_no_file_is_named_and_counted(
    kind: str, workspace: Path, outside: Path, run_cli: Cli
) -> None:
    path = workspace / "runs" / "run_0001" / "transcript.jsonl"
    plant(path, kind, outside)
    word = "is a link" if path.is_symlink() else "is not a file"
    show = run_cli("nas_agent_graph.show", "run_0001", "--transcript", cwd=workspace, timeout_s=ENDLESS_S)
    assert f"transcript.jsonl {word} and is not read" in " ".join(show.stdout.split())
    record = run_cli(
        "nas_agent_graph.show", "run_0001", "--transcript", "--json", cwd=workspace, timeout_s=ENDLESS_S
    )
    assert (json.loads(record.stdout)["damaged_lines"], json.loads(record.stdout)["events"]) == (1, [])
    replay = run_cli("nas_agent_graph.replay", workspace, cwd=workspace, timeout_s=ENDLESS_S)
    assert f"{path}: {word} and is not read" in replay.stderr
    report = run_cli("nas_agent_graph.report", cwd=workspace, timeout_s=ENDLESS_S)
    assert report.returncode == 0, report.stderr
    assert f"transcript.jsonl: {word} and is not read" in (workspace / "report.html").read_text()


@pytest.mark.fault(7)
def test_a_transcript_larger_than_any_is_not_read(workspace: Path, run_cli: Cli) -> None:
    path = workspace / "runs" / "run_0001" / "transcript.jsonl"
    with open(path, "wb") as file:
        file.truncate(2**40)
    done = run_cli("nas_agent_graph.show", "run_0001", "--transcript", cwd=workspace, timeout_s=ENDLESS_S)
    assert done.returncode == 0, done.stderr
    assert "more than any such file has and is not read" in " ".join(done.stdout.split())


@pytest.mark.fault(36, 37)
def test_a_log_that_leads_to_a_secret_is_not_quoted(
    workspace: Path, outside: Path, go_on: GoOn, run_cli: Cli
) -> None:
    """A run that ended without a word of its own: its cause would be the last line of its log."""
    run_dir = workspace / "runs" / "run_0003"
    shutil.copytree(workspace / "runs" / "run_0002", run_dir)
    for name in ("metrics.json", "verdict.json"):
        (run_dir / name).unlink()
    ended = json.loads((run_dir / "exit.json").read_text()) | {"ended": "exited", "returncode": 1}
    (run_dir / "exit.json").write_text(json.dumps(ended))
    plant(run_dir / "train.log", "secret", outside)
    state = json.loads((workspace / "agent_state.json").read_text())
    state["current"] = {"run_id": "run_0003", "step": "launch_training"}
    (workspace / "agent_state.json").write_text(json.dumps(state))
    code, text = go_on()
    assert code == 0, text
    run = state_of(workspace).runs[-1]
    assert (run.run_id, run.status) == ("run_0003", "FAILED"), text
    assert (run.cause or "").startswith("exit code 1: it printed nothing")
    prompt = run_cli("nas_agent_graph.run", "--dry-run", "--max-runs", "9", cwd=workspace)
    assert "run_0003" in prompt.stdout, prompt.stderr
    shown = run_cli("nas_agent_graph.show", "run_0003", cwd=workspace)
    report = run_cli("nas_agent_graph.report", cwd=workspace)
    assert (shown.returncode, report.returncode) == (0, 0)
    assert_no_secret(workspace, outside, text, prompt.stdout, shown.stdout, shown.stderr, report.stdout)


@pytest.mark.fault(39)
@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_where_the_search_writes_is_replaced_or_set_aside(
    kind: str, workspace: Path, outside: Path, go_on: GoOn
) -> None:
    run_dir = workspace / "runs" / "run_0003"
    run_dir.mkdir()
    for name in (*WRITTEN, *WRITTEN_LAST):
        plant(run_dir / name, kind, outside)
    for path in (workspace / "agent_state.json.tmp", workspace / "runs" / "task_facts.new.json"):
        plant(path, kind, outside)
    code, text = go_on()
    assert code == 0, text
    assert [run.status for run in state_of(workspace).runs] == ["OK"] * 4
    for name in ("proposal.json", "config_used.py", "verdict.json"):
        assert (run_dir / name).is_file() and not (run_dir / name).is_symlink(), name
    assert_untouched(outside)


@pytest.mark.fault(39)
@pytest.mark.parametrize("kind", ["fifo", "secret", "dangling"])
@pytest.mark.parametrize("name", ["runs/.agent.lock", ".agent_state.json.probe"])
def test_a_lock_or_a_probe_is_never_written_through_a_link(
    name: str, kind: str, workspace: Path, outside: Path, go_on: GoOn
) -> None:
    plant(workspace / name, kind, outside)
    code, text = go_on()
    assert (code, "Traceback" in text) in ((0, False), (2, False)), text
    assert code == 0 or (text.startswith("error: ") and str(workspace / name) in text), text
    assert_untouched(outside)


@pytest.mark.fault(5, 39)
@pytest.mark.parametrize("kind", ["fifo", "secret", "folder"])
@pytest.mark.parametrize("name", ["agent_state.json", "runs/task_facts.json", "runs/base_config.py"])
def test_what_belongs_to_the_whole_search_is_made_again_or_refused_by_name(
    name: str, kind: str, workspace: Path, outside: Path, go_on: GoOn, run_cli: Cli
) -> None:
    plant(workspace / name, kind, outside)
    for command in ("show", "report", "replay"):
        more = [str(workspace)] if command == "replay" else []
        done = run_cli(f"nas_agent_graph.{command}", *more, cwd=workspace, timeout_s=ENDLESS_S)
        assert done.returncode in (0, 2), (command, done.stderr)
        assert "Traceback" not in done.stderr, (command, done.stderr)
    code, text = go_on()
    assert code in (0, 2), text
    assert "Traceback" not in text
    assert code == 0 or Path(name).name in text, text
    if code == 0:
        assert len(state_of(workspace).runs) == 4
    assert_no_secret(workspace, outside, text)


def linked(workspace: Path, name: str, outside: Path) -> Path:
    """Move a folder out, and leave a link to it."""
    folder = workspace / "runs" / name
    place = outside / "moved"
    folder.rename(place) if folder.exists() else place.mkdir()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(place)
    return place


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    "name",
    ["run_0003", "run_0001", "run_0000/repeats", "run_0000/repeats/seed_43", "run_0003/repeats"],
)
def test_a_run_folder_that_is_a_link_is_refused_before_anything_is_written_there(
    name: str, workspace: Path, outside: Path, go_on: GoOn, run_cli: Cli
) -> None:
    place = linked(workspace, name, outside)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in place.rglob("*"))
    state = (workspace / "agent_state.json").read_bytes()
    code, text = go_on()
    assert code == 2, text
    assert f"{workspace / 'runs' / name} is a link to {place}" in text
    assert "remove the link" in text
    assert sorted((path.name, path.stat().st_mtime_ns) for path in place.rglob("*")) == before
    assert (workspace / "agent_state.json").read_bytes() == state
    for command in ("show", "report", "replay"):
        more = [str(workspace)] if command == "replay" else []
        done = run_cli(f"nas_agent_graph.{command}", *more, cwd=workspace)
        assert (done.returncode, "is a link to" in done.stderr) == (2, True), (command, done.stderr)


def test_all_runs_together_may_lie_on_another_disk(workspace: Path, tmp_path: Path, go_on: GoOn) -> None:
    (workspace / "runs").rename(tmp_path / "disk")
    (workspace / "runs").symlink_to(tmp_path / "disk")
    code, text = go_on()
    assert code == 0, text
    assert (tmp_path / "disk" / "run_0003" / "verdict.json").is_file()

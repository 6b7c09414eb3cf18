"""Standard output is closed, its reader or terminal gone, its disk full: commands end, searches go on."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.search import Search

from nas_system.nas_agent.agent_state import load_agent_state

RECORDING = Path(__file__).resolve().parents[1] / "recordings" / "mended_answers"
NAS = f"{sys.executable} -m nas_agent_graph.cli"
NewSearch = Callable[..., Search]


def shell(line: str, folder: Path, project_root: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; its exit code is that of the first command in a pipe."""
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(project_root)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return shutil.copytree(RECORDING, tmp_path / "search")


@pytest.mark.parametrize(
    "command",
    ["show run_0003 --transcript", "report", "replay .", "doctor", "run --help"],
)
@pytest.mark.parametrize("where", [">&- 2>&-", "| true"])
def test_a_command_whose_output_is_closed_ends_quietly(
    command: str, where: str, recording: Path, project_root: Path
) -> None:
    done = shell(f"{NAS} {command} {where}", recording, project_root)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("where", [">&- 2>&-", "2>/dev/full"])
def test_an_error_keeps_its_exit_code_when_nobody_can_read_it(
    where: str, recording: Path, project_root: Path
) -> None:
    done = shell(f"{NAS} show run_9999 {where}", recording, project_root)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "run_9999" not in done.stdout


@pytest.mark.parametrize("command", ["show", "space --json"])
def test_an_output_that_cannot_be_written_is_an_error_in_one_line(
    command: str, recording: Path, project_root: Path
) -> None:
    done = shell(f"{NAS} {command} >/dev/full", recording, project_root)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_opened_never_takes_the_place_of_a_closed_output(
    recording: Path, project_root: Path
) -> None:
    before = {path: path.read_bytes() for path in recording.rglob("*") if path.is_file()}
    done = shell(f"{NAS} show >&- 2>&- <&-; {NAS} replay . >&- 2>&- <&-", recording, project_root)
    assert done.returncode == 0
    assert {path: path.read_bytes() for path in recording.rglob("*") if path.is_file()} == before


@pytest.mark.fault(29)
@pytest.mark.parametrize("where", [">&- 2>&-", "| head -1", "> /dev/full 2>&1"])
def test_a_search_that_nobody_sees_any_more_goes_on(
    where: str, new_search: NewSearch, project_root: Path
) -> None:
    search = new_search("--max-runs", "3")
    command = " ".join(map(str, search.command))
    done = subprocess.run(
        ["bash", "-c", f"{command} {where}; exit ${{PIPESTATUS[0]}}"],
        cwd=search.workspace,
        env={**os.environ, "PYTHONPATH": str(project_root), **search.env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    runs = load_agent_state(search.workspace / "agent_state.json").runs
    assert [run.status for run in runs] == ["OK"] * 3


@pytest.mark.fault(29)
def test_a_live_display_may_lose_its_terminal(new_search: NewSearch, project_root: Path) -> None:
    search = new_search("--max-runs", "3")
    terminal, stream = pty.openpty()
    process = subprocess.Popen(
        search.command,
        cwd=search.workspace,
        env={**os.environ, "PYTHONPATH": str(project_root), "TERM": "xterm", **search.env},
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
        start_new_session=True,
    )
    os.close(stream)
    seen = b""
    while b"runs done" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    assert process.wait(240) == 0
    runs = load_agent_state(search.workspace / "agent_state.json").runs
    assert [run.status for run in runs] == ["OK"] * 3


def test_a_damaged_name_cannot_command_the_terminal(recording: Path, project_root: Path) -> None:
    path = recording / "runs" / "run_0001" / "transcript.jsonl"
    path.write_text(path.read_text().replace("propose_config", "\\u001b[2Jpropose"))
    done = shell(f"{NAS} replay .", recording, project_root)
    assert done.returncode != 0
    assert "\x1b" not in done.stdout + done.stderr

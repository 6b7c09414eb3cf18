"""A workspace that cannot be written, a process that may open no files, folders that a person has edited."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.search import Search
from chaos.series import CHEAP

from nas_system.config_io.config_file import read_config, write_config
from nas_system.nas_agent.agent_state import AgentState, load_agent_state
from nas_system.nas_agent.ledger import Ledger

GoOn = Callable[[], tuple[int, str]]
RUNS = 3
"""Of the finished search in `workspace`."""


def state_of(workspace: Path) -> AgentState:
    return load_agent_state(workspace / "agent_state.json")


def as_nobody(code: str, folder: Path, project_root: Path) -> subprocess.CompletedProcess[str]:
    """A process without rights; skips where this one has none to give away."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", code, folder],
        env={**os.environ, "PYTHONPATH": str(project_root), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if "PermissionError" in done.stderr and str(sys.prefix) in done.stderr:
        pytest.skip("this Python cannot be read by others")
    return done


OPEN = (
    "import pathlib, sys\nfrom nas_system.nas_agent.ledger import Ledger\n"
    "from nas_system.nas_agent.workspace_lock import WorkspaceLock\n"
)


@pytest.fixture
def public_workspace(workspace: Path) -> Iterator[Path]:
    # pytest's own folder is closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(workspace, f"{folder}/workspace")
        yield Path(folder, "workspace")


@pytest.mark.fault(5)
def test_a_state_that_may_not_be_read_is_not_taken_for_a_damaged_one(
    public_workspace: Path, project_root: Path
) -> None:
    path = public_workspace / "agent_state.json"
    path.chmod(0o600)
    public_workspace.chmod(0o777)
    done = as_nobody(f"{OPEN}Ledger.open(pathlib.Path(sys.argv[1]))", public_workspace, project_root)
    assert "cannot be read (Permission denied)" in done.stderr
    assert {entry.name for entry in public_workspace.glob("agent_state.json*")} == {"agent_state.json"}


@pytest.mark.fault(10)
def test_a_folder_without_the_right_to_write_is_refused_at_the_start(
    public_workspace: Path, project_root: Path
) -> None:
    code = f"{OPEN}WorkspaceLock(pathlib.Path(sys.argv[1])).__enter__()"
    done = as_nobody(code, public_workspace, project_root)
    assert "cannot be written (Permission denied); choose another --workspace" in done.stderr
    # Also where runs/ alone may be written: the state lies next to it.
    (public_workspace / "runs").chmod(0o777)
    for file in (public_workspace / "runs").iterdir():
        file.chmod(0o777)
    done = as_nobody(code, public_workspace, project_root)
    assert f"{public_workspace}/.agent_state.json.probe: cannot be written" in done.stderr


@pytest.mark.fault(10)
def test_a_read_only_disk_is_refused_at_the_start(workspace: Path, go_on: GoOn) -> None:
    if os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs the right to mount a file system")
    before = (workspace / "agent_state.json").read_bytes()
    done = subprocess.run(["mount", "--bind", workspace, workspace], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.decode().strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", workspace], check=True)
        code, said = go_on()
        assert code == 2, said
        assert "Read-only file system" in said
        assert said.startswith("error: ")
        assert (workspace / "agent_state.json").read_bytes() == before
    finally:
        subprocess.run(["umount", "-l", workspace], check=True)


@pytest.mark.fault(11)
@pytest.mark.parametrize("files", [6, 7, 12])
def test_a_search_that_may_open_few_files_ends_cleanly_or_works(
    files: int, workspace: Path, project_root: Path, record_property: Callable[[str, object], None]
) -> None:
    before = state_of(workspace)
    search = Search(workspace, *CHEAP, "--repeat-baseline", "1", "--max-runs", str(RUNS + 1))
    done = subprocess.run(
        ["bash", "-c", f'ulimit -n {files}; exec "$@"', "bash", *search.command],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(project_root), **search.env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    search.clean_up()
    record_property("measured", f"{files} files: exit code {done.returncode}")
    after = state_of(workspace)
    assert after.runs[:RUNS] == before.runs
    assert len(after.runs) == RUNS + (done.returncode == 0)
    if done.returncode:
        assert done.returncode == 4, "nobody is to blame, and the same command goes on later"
        said = ("Too many open files", "may open no further file")  # by the agent, or by the supervisor
        assert any(words in done.stderr for words in said), done.stderr
        assert "raise the limit (ulimit -n)" in done.stderr
        assert done.stderr.startswith("error: "), done.stderr
        assert "Traceback" not in done.stderr
        assert [run.run_id for run in after.in_progress] in ([], ["run_0003"])


@pytest.mark.fault(14)
def test_folders_that_were_deleted_edited_or_half_copied_stop_nothing(
    workspace: Path, go_on: GoOn, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    before, runs = state_of(workspace), workspace / "runs"
    shutil.rmtree(runs / "run_0001")
    config = runs / "run_0002" / "config_used.py"
    other = read_config(config)
    training = other.training.model_copy(update={"patience": other.training.patience + 1})
    write_config(config, other.model_copy(update={"training": training}))
    (runs / "run_0000" / "metrics.json").write_text('{"val_mse": 0.000001}')
    (runs / "run_0003").mkdir()
    (runs / "run_0003" / "metrics.json").write_text('{"val_mse": 0.000001}')
    code, said = go_on()
    assert code == 0, said
    after = state_of(workspace)
    assert after.runs[:RUNS] == before.runs, "what was acknowledged stays as it was"
    assert [run.status for run in after.runs] == ["OK"] * (RUNS + 1)
    assert after.runs[RUNS].val_mse != 0.000001, "a score without a training is none"
    for run_id, words in [
        ("run_0000", "today its metrics.json says val_mse 0.000001"),
        ("run_0001", "today its folder says MISSING"),
        ("run_0002", "was changed after the training"),
    ]:
        shown = run_cli("nas_agent_graph.show", run_id, cwd=workspace)
        assert shown.returncode == 0, shown.stderr
        assert words in " ".join(shown.stdout.split()), shown.stdout
    ledger, _ = Ledger.open(workspace)
    assert ledger.config("run_0002") is None, "nobody builds upon what was never trained"
    assert ledger.config("run_0001") is None
    assert ledger.config("run_0000") is not None

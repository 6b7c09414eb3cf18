"""Two agents that share a folder and no kernel: the lock's mark tells them apart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from python_server import ROOT

from nas_system.errors import WorkspaceBusy
from nas_system.nas_agent.workspace_lock import STALE_AFTER_S, WorkspaceLock
from nas_system.processes.process_tree import identify


def mark_of(path: Path, **changes: object) -> None:
    """Leave the mark of an agent that lives on another host."""
    process = {**identify(os.getpid())._asdict(), "boot_id": "another-boot"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": 7, "host": "login2", "process": process, **changes}) + "\n")


@pytest.mark.fault(64)
def test_an_agent_on_another_host_is_seen_while_it_renews_its_mark(
    tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    lock = tmp_path / "runs/.agent.lock"
    mark_of(lock)
    done = run_cli("nas_agent_graph.run", "--max-runs", "1", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "is held by another agent (pid 7 on login2)" in done.stderr
    left = re.search(r"if it was killed, the workspace is free in (\d+) s", done.stderr)
    assert left is not None and 0 < int(left[1]) <= STALE_AFTER_S
    # Without a renewal it is gone: by the clock of the folder, not of this host.
    old = time.time() - STALE_AFTER_S - 5
    os.utime(lock, (old, old))
    with WorkspaceLock(tmp_path):
        mark = json.loads(lock.read_text())
        assert (mark["pid"], mark["process"]["boot_id"]) == (os.getpid(), identify(os.getpid()).boot_id)
    assert lock.read_text() == "", "who comes next need not wait"


def test_the_same_host_after_a_reboot_does_not_wait(tmp_path: Path) -> None:
    mark_of(tmp_path / "runs/.agent.lock", host=os.uname().nodename)
    with WorkspaceLock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "pid 7 on login2\n", "{", "[]", '{"process": 3}', "\0" * 9])
def test_any_other_content_is_nobodys(tmp_path: Path, content: str) -> None:
    lock = tmp_path / "runs/.agent.lock"
    lock.parent.mkdir()
    lock.write_text(content)
    with WorkspaceLock(tmp_path):
        pass


def test_the_mark_is_renewed(tmp_path: Path) -> None:
    with WorkspaceLock(tmp_path, renewed_every_s=0.05) as lock:
        os.utime(lock.path, (1.0, 1.0))
        give_up_at = time.monotonic() + 30
        while lock.path.stat().st_mtime < 2.0:
            assert time.monotonic() < give_up_at
            time.sleep(0.02)


def test_a_second_agent_on_this_host_is_named(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from nas_system.nas_agent.workspace_lock import WorkspaceLock\n"
        "with WorkspaceLock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusy, match=f"pid {other.pid} on "), WorkspaceLock(tmp_path):
            pass
        other.kill()
    with WorkspaceLock(tmp_path):  # no stale lock
        pass

"""Every system call of the state's writer fails once, in every way that hurts; the state stays whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas_system.nas_agent.agent_state import AgentState, load_agent_state, save_agent_state
from nas_system.nas_agent.ledger import Ledger

SAVES = 3
CALLS = ("openat", "write", "fsync", "/^rename")
FAULTS = ("error=ENOSPC", "error=EDQUOT", "error=EIO", "error=EROFS", "error=EINTR", "signal=KILL")
# Python is imported once; each fault meets a fork of it that waits until strace has taken hold.
WRITER = f"""
import ctypes, os, signal, sys
from pathlib import Path
from nas_system.nas_agent.ledger import Ledger

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
for line in sys.stdin:
    workspace = Path(line.strip())
    if (pid := os.fork()) == 0:
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # anybody may trace me
        acknowledged = os.open(workspace / "acknowledged", os.O_WRONLY | os.O_CREAT)
        ledger, _ = Ledger.open(workspace)
        print(os.getpid(), flush=True)
        signal.sigwait([signal.SIGUSR1])
        for seed in range(1, {SAVES} + 1):
            try:
                ledger.save(seed=seed)
            except OSError:
                os._exit(1)
            os.write(acknowledged, b"1")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture
def writer(project_root: Path) -> Iterator[subprocess.Popen[str]]:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        env={**os.environ, "PYTHONPATH": str(project_root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def inject(writer: subprocess.Popen[str], workspace: Path, call: str, fault: str, number: int) -> int | None:
    """Three saves, this fault at the `number`-th such call; its exit code, None if no such call was made."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    save_agent_state(AgentState(seed=0), workspace / "agent_state.json")
    (workspace / "acknowledged").unlink(missing_ok=True)
    writer.stdin.write(f"{workspace}\n")
    pid = int(writer.stdout.readline())
    log, state = workspace / "log", workspace / "agent_state.json"
    paths = [argument for path in (state, f"{state}.tmp", workspace) for argument in ("-P", str(path))]
    # Only what touches the state, its temporary file and their folder is counted.
    injection = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}"]
    tracer = subprocess.Popen(
        ["strace", "-p", str(pid), "-o", str(log), *paths, *injection], stderr=subprocess.PIPE, text=True
    )
    with tracer:
        assert tracer.stderr is not None
        about = tracer.stderr.readline()
        if "attached" not in about:
            os.kill(pid, signal.SIGKILL)
            writer.stdout.readline()
            pytest.skip(f"strace may not trace here: {about.strip()}")
        os.kill(pid, signal.SIGUSR1)
        code = int(writer.stdout.readline())
        tracer.communicate()
    struck = code == -signal.SIGKILL if fault == "signal=KILL" else "(INJECTED)" in log.read_text()
    return code if struck else None


@pytest.mark.fault(1, 8)
def test_no_fault_of_a_system_call_destroys_the_state(
    writer: subprocess.Popen[str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    struck, codes = Counter[str](), Counter[int]()
    for call in CALLS:
        for fault in FAULTS:
            for number in range(1, 100):
                code = inject(writer, tmp_path, call, fault, number)
                if code is None:
                    break
                struck[call] += 1
                codes[code] += 1
                about = f"{call} number {number}: {fault}"
                acknowledged = len((tmp_path / "acknowledged").read_bytes())
                found = load_agent_state(tmp_path / "agent_state.json").seed
                assert found in (acknowledged, acknowledged + 1), about
                assert code != 0 or acknowledged == SAVES, about
                ledger, note = Ledger.open(tmp_path)
                assert (ledger.state.seed, note) == (found, None), about
    # Of every save: the new file and the folder opened and made durable, one write, one rename.
    assert set(struck) == set(CALLS)
    assert all(struck[call] >= SAVES * len(FAULTS) for call in CALLS), struck
    assert codes[1] > 0
    assert codes[-signal.SIGKILL] >= SAVES * len(CALLS)
    record_property("measured", f"{struck.total()} faults in system calls, 0 states destroyed")

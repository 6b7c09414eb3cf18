"""The process tree of one training, seen from its supervisor: start it, measure it, kill all of it.

Standard library only, one thread: PR_SET_PDEATHSIG fires when the *thread* that started the child
ends, so a training started from a thread of a busy program would die with that thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from nas_system.processes.process_tree import (
    COOKIE_NAME,
    carriers_of,
    identify,
    proportional_bytes,
    resident_bytes_by_descendant,
)
from nas_system.processes.sandbox import Sandbox

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PIPE_BYTES = 2**20
_SWEEP_S = 3.0


class TrainingProcess:
    """The training and everything it starts. One per supervisor."""

    def __init__(
        self, command: Sequence[str], *, inherited_lock: int, sandbox: Sandbox | None = None
    ) -> None:
        """Start `command`, which dies with this process. Raises OSError if it cannot be started."""
        self.supervisor = identify(os.getpid())
        self.exit_code: int | None = None
        """As in subprocess: negative for a signal; None while the training runs."""
        self.peak_resident_bytes = 0
        self.leftovers: set[int] = set()
        """Pids of the processes still running when the training ended."""
        self.output, writing = _output_pipe()
        try:
            self._process = self._start(command, writing, inherited_lock, sandbox)
        except (ValueError, subprocess.SubprocessError) as error:  # a NUL in an argument, no prctl
            raise OSError(str(error)) from error
        finally:
            os.close(writing)
        self.id = identify(self._process.pid)

    def _start(
        self, command: Sequence[str], output: int, lock: int, sandbox: Sandbox | None
    ) -> subprocess.Popen[bytes]:
        libc = ctypes.CDLL(None)
        # Orphans of the training become our children, so that the tree below us stays complete.
        _prctl(libc, _PR_SET_CHILD_SUBREAPER, 1)
        # A core dump of a training is gigabytes, and nobody looks at it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

        environment = {**os.environ, COOKIE_NAME: self.supervisor.cookie}
        if sandbox is not None and sandbox.temporary is not None:
            environment["TMPDIR"] = str(sandbox.temporary)

        def die_with_supervisor() -> None:
            _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.supervisor.pid:  # it died before the line above
                os._exit(1)
            if sandbox is not None:
                sandbox.enter()

        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
            preexec_fn=die_with_supervisor,
        )

    def has_ended(self) -> bool:
        """Collect ended children, adopted orphans too; return True once the training is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return self.exit_code is not None
            if pid == self._process.pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
                self._process.returncode = self.exit_code

    def read_output(self) -> bytes | None:
        """Return new output; empty once every writer has closed it, None if there is none yet."""
        return read_now(self.output)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the training and those of its children that stayed in its process group."""
        # Until its leader is collected the group's number cannot belong to other processes.
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill_tree(self) -> None:
        """Kill the training and all its descendants, in any process group."""
        self.signal_group(signal.SIGKILL)
        for pid in resident_bytes_by_descendant(self.supervisor.pid):
            identify(pid).send(signal.SIGKILL)

    def end_leftovers(self) -> None:
        """Kill everything that the training started and left running, daemons included."""
        give_up_at = time.monotonic() + _SWEEP_S
        while time.monotonic() < give_up_at:
            processes = {identify(pid) for pid in resident_bytes_by_descendant(self.supervisor.pid)}
            processes.update(carriers_of(self.supervisor.cookie))
            if not processes:
                break
            for process in processes:
                process.send(signal.SIGKILL)
            self.leftovers.update(process.pid for process in processes)
            time.sleep(0.005)
            self.has_ended()

    def exceeds_memory(self, limit_bytes: float) -> bool:
        """Measure the whole tree and return whether it is larger than `limit_bytes`."""
        resident = resident_bytes_by_descendant(self.supervisor.pid)
        total = sum(resident.values())
        self.peak_resident_bytes = max(self.peak_resident_bytes, total)
        if total <= limit_bytes:
            return False
        # Resident sizes count a shared page once per process, and forked data loaders share nearly
        # all of theirs. The exact measure is slow, so it is taken only above the limit.
        exact = {pid: proportional_bytes(pid) for pid in resident}
        return sum(resident[pid] if size is None else size for pid, size in exact.items()) > limit_bytes


def read_now(descriptor: int) -> bytes | None:
    """Return what can be read without waiting; empty at the end of the file, None if there is nothing yet."""
    try:
        return os.read(descriptor, _PIPE_BYTES)
    except BlockingIOError:
        return None


def _output_pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    if sys.platform == "linux":
        # A larger pipe means fewer wake-ups under a flood of output; users may not be allowed one.
        with contextlib.suppress(OSError):
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return reading, writing


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if sys.platform == "linux":
        libc.prctl(option, value, 0, 0, 0)

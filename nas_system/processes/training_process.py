"""The process tree of one training, seen from its supervisor: start it, measure it, kill all of it.

Between the two stands a keeper: a copy of the supervisor that holds the lock of the run and waits. Where the
kernel allows it, the keeper is the first process of a namespace, so everything in there ends with it.
Standard library only, one thread: PR_SET_PDEATHSIG fires when the *thread* that started the child
ends, so a training started from a thread of a busy program would die with that thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from nas_system.processes.forked_program import ForkedProgram
from nas_system.processes.process_tree import (
    COOKIE_NAME,
    LONGEST_LOOK_S,
    ProcessId,
    Stat,
    carriers_of,
    children_of,
    descendants_of,
    hidden_bytes,
    identify,
    nameless_bytes,
    proportional_bytes,
)
from nas_system.processes.sandbox.namespaces import SHARED_MEMORY
from nas_system.processes.sandbox.sandbox import Report, Sandbox, report_as_line
from nas_system.processes.sandbox.system_calls import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl

_PIPE_BYTES = 2**20
_SWEEP_S = 3.0
_LAST_WAIT_S = 2.0
_STATUS = struct.Struct("=i")


class TrainingProcess:
    """The training and everything it starts. One per supervisor."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        inherited_lock: int,
        sandbox: Sandbox,
        program: ForkedProgram | None = None,
    ) -> None:
        """Start `command`, which dies with this process; in a copy of it if the command is `program`.

        Raises OSError if it cannot be started.
        """
        self.supervisor = identify(os.getpid())
        self.exit_code: int | None = None
        """As in subprocess: negative for a signal; None while the training runs."""
        self.peak_resident_bytes = 0
        self.leftovers: set[int] = set()
        """Pids of the processes still running when the training ended."""
        # Orphans of the training become our children where they are not the keeper's.
        _set_of_linux(PR_SET_CHILD_SUBREAPER, 1)
        # A core dump of a training is gigabytes, and nobody looks at it.
        # At 1 the kernel does not start a handler for it, either, which would be outside the sandbox.
        with contextlib.suppress(ValueError, OSError):  # a limit of 0 cannot be raised, and need not be
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
        self.output, output_end = _output_pipe()
        self.status, status_end = os.pipe()
        os.set_blocking(self.status, False)
        started, started_end = os.pipe()
        environment = {**os.environ, COOKIE_NAME: self.supervisor.cookie, **sandbox.environment}
        ends = _Ends(output_end, status_end, started_end, inherited_lock)
        self._keeper = os.fork()
        if self._keeper == 0:
            _keep(ends, self.status, command, environment, sandbox, program)
        self._keeper_is_there = True
        for descriptor in (output_end, status_end, started_end):
            os.close(descriptor)
        self.report = self._wait_for_start(started)
        """What the sandbox holds."""
        self.id = self._identify_training()
        self._shared_memory = self._own_shared_memory()

    def _wait_for_start(self, started: int) -> Report:
        """Return once the training's program runs, or has ended. Raises OSError if it does not start."""
        with open(started, "rb") as pipe:
            lines = pipe.read().splitlines()
        messages: dict[str, object] = {}
        for line in lines:
            messages |= json.loads(line)
        error = messages.get("error")
        if error is not None or "layers" not in messages:
            self._end_keeper()
            code, text = error if isinstance(error, list) else (None, "its keeper ended before it began")
            raise OSError(code, text)
        return Report.from_json(messages)

    def _identify_training(self) -> ProcessId:
        children = children_of(self._keeper)
        return identify(children[0] if children else self._keeper)

    def _own_shared_memory(self) -> str | None:
        """Return the path to the training's shared memory, None if it shares that of the machine."""
        inside = f"/proc/{self._keeper}/root{SHARED_MEMORY}"
        try:
            return inside if os.stat(inside).st_dev != os.stat(SHARED_MEMORY).st_dev else None
        except OSError:
            return None

    def has_ended(self) -> bool:
        """Collect ended children, adopted orphans too; return True once the training has ended."""
        if self.exit_code is None:
            status = read_now(self.status)
            if status:
                self.exit_code = os.waitstatus_to_exitcode(_STATUS.unpack(status)[0])
            elif status == b"":
                # The keeper was killed, and the training with it.
                self.exit_code = -signal.SIGKILL
        self._collect()
        return self.exit_code is not None

    def _collect(self) -> None:
        """Collect ended children: the keeper, and orphans that we have adopted."""
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self._keeper_is_there &= pid != self._keeper

    def read_output(self) -> bytes | None:
        """Return new output; empty once every writer has closed it, None if there is none yet."""
        return read_now(self.output)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the training and those of its children that stayed in its process group."""
        # Until its leader is collected the group's number cannot belong to other processes.
        if self._keeper_is_there:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._keeper, number)

    def kill_tree(self) -> None:
        """Kill the training and all its descendants, in any process group."""
        # The keeper dies with its group, and with the keeper its namespace.
        self.signal_group(signal.SIGKILL)
        for pid in self._descendants():
            identify(pid).send(signal.SIGKILL)

    def end_leftovers(self) -> None:
        """Kill everything that the training started and left running, daemons included."""
        give_up_at = time.monotonic() + _SWEEP_S
        while time.monotonic() < give_up_at:
            processes = {identify(pid) for pid in self._descendants()}
            processes.update(carriers_of(self.supervisor.cookie))
            if not processes:
                break
            for process in processes:
                process.send(signal.SIGKILL)
            self.leftovers.update(process.pid for process in processes)
            time.sleep(0.005)
            self._collect()
        self._end_keeper()

    def _end_keeper(self) -> None:
        give_up_at = time.monotonic() + _LAST_WAIT_S
        while self._keeper_is_there and time.monotonic() < give_up_at:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._keeper, signal.SIGKILL)
            self._collect()
            time.sleep(0.001)

    def _descendants(self) -> dict[int, Stat]:
        """Return the training's processes that live, by their pids."""
        return {pid: stat for pid, stat in self._family().items() if not stat.is_dead}

    def _family(self) -> dict[int, Stat]:
        """Return the training's processes by their pids, zombies too, without the keeper."""
        found = descendants_of(self.supervisor.pid)
        found.pop(self._keeper, None)
        return found

    def measure(self, work: Path) -> Measured:
        """Measure the whole tree, which has its files in `work`."""
        family = self._family()
        found = {pid: stat for pid, stat in family.items() if not stat.is_dead}
        device = None
        held = 0
        if self._shared_memory is not None:
            with contextlib.suppress(OSError):
                space, device = os.statvfs(self._shared_memory), os.stat(self._shared_memory).st_dev
                held = (space.f_blocks - space.f_bfree) * space.f_frsize
        nameless, hidden = nameless_bytes(found, work, device), hidden_bytes(found)
        resident = {pid: stat.resident_bytes for pid, stat in found.items()}
        unmapped = max(0, held + nameless.memory - hidden.shared) + hidden.page_tables
        self.peak_resident_bytes = max(self.peak_resident_bytes, sum(resident.values()) + unmapped)
        # A zombie takes up a pid, of which the machine has only so many.
        tasks = sum(max(stat.threads, 1) for stat in family.values())
        complete = nameless.complete and not any(stat.has_lost_its_first_thread for stat in found.values())
        return Measured(resident, unmapped, tasks, nameless.disk, complete)


class Measured(NamedTuple):
    """What all processes of a training use at one moment."""

    resident_bytes: dict[int, int]
    """By pid. A page that several processes share counts in each."""
    unmapped_bytes: int
    """Shared memory that none of them maps, and their page tables."""
    tasks: int
    """Processes and threads."""
    nameless_disk_bytes: int
    """Of files that have been removed and are still open."""
    complete: bool
    """Whether there was nothing that could not be measured."""

    def exceeds_memory(self, limit_bytes: float) -> bool:
        """Return whether memory of any kind is more than `limit_bytes`."""
        if sum(self.resident_bytes.values()) + self.unmapped_bytes <= limit_bytes:
            return False
        # Forked data loaders share nearly all of their pages. The exact measure is slow, so it is taken only
        # above the limit, and not for long.
        give_up_at, total = time.monotonic() + LONGEST_LOOK_S, self.unmapped_bytes
        for pid, resident in self.resident_bytes.items():
            exact = proportional_bytes(pid) if time.monotonic() < give_up_at else None
            total += resident if exact is None else exact
        return total > limit_bytes


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


def _set_of_linux(option: int, value: int) -> None:
    if sys.platform == "linux":
        prctl(option, value)


# -- in the child: the keeper, and the training before its program starts -------------------------------


class _Ends:
    """The ends of pipes that the children write to, and the lock of the run."""

    def __init__(self, output: int, status: int, started: int, lock: int) -> None:
        self.output, self.status, self.started, self.lock = output, status, started, lock


def _keep(
    ends: _Ends,
    status_of_supervisor: int,
    command: Sequence[str],
    environment: dict[str, str],
    sandbox: Sandbox,
    program: ForkedProgram | None,
) -> NoReturn:
    """Start the training, wait for its end, say so, and stay until killed. Never returns."""
    try:
        _die_with_parent()
        os.close(status_of_supervisor)
        if _reader_is_gone(ends.status):  # the supervisor died before it could take us along
            os._exit(1)
        os.setsid()
        sandbox.isolate()
        keeper = os.getpid()
        training = os.fork()
        if training == 0:
            _become(command, environment, sandbox, ends, keeper, program)
        # Requests to end reach our group, and are not meant for us.
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        close_all_but(ends.status, ends.lock)
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                signal.pause()
                continue
            if pid == training:
                os.write(ends.status, _STATUS.pack(status))
    except OSError as error:
        with contextlib.suppress(OSError):  # once the training runs, nobody waits for this
            _report(ends, error, "its keeper: ")
    finally:
        os._exit(1)


def _become(
    command: Sequence[str],
    environment: dict[str, str],
    sandbox: Sandbox,
    ends: _Ends,
    keeper: int,
    program: ForkedProgram | None,
) -> NoReturn:
    """Enter the sandbox and become the training's program. Never returns."""
    what = ""
    try:
        _die_with_parent()
        if os.getppid() != keeper:
            os._exit(1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, other programs should not
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(ends.output, 1)
        os.dup2(ends.output, 2)
        close_all_but(ends.started)
        forked = program if program is not None and program.is_named_by(command) else None
        if forked is not None:
            forked.mark(environment[COOKIE_NAME])
        os.write(ends.started, report_as_line(sandbox.enter()))
        if forked is not None:
            os.close(ends.started)  # what exec would do
            forked.run(command, environment)
        what = f"{command[0]}: "
        os.execvpe(command[0], list(command), environment)
    except (OSError, ValueError) as error:  # a NUL in an argument is a ValueError
        _report(ends, error, what)
    finally:
        os._exit(127)


def _report(ends: _Ends, error: OSError | ValueError, what: str) -> None:
    number, text = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
    message = {"error": [number, f"{what}{text or error}"]}
    os.write(ends.started, json.dumps(message).encode() + b"\n")


def _die_with_parent() -> None:
    _set_of_linux(PR_SET_PDEATHSIG, signal.SIGKILL)


def _reader_is_gone(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def close_all_but(*kept: int) -> None:
    """Close every descriptor but standard input, output and error, and these."""
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))

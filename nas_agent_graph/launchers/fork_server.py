"""The launcher's end of a fork server: a process that forks supervisors, and programs that answer calls, from
an interpreter with torch in it.

The server is an accelerator and nothing else: what it cannot do is done as if there were none.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nas_system.processes.fork_server import LARGEST_MESSAGE_BYTES, send
from nas_system.processes.forked_program import placeholder
from nas_system.processes.process_tree import COOKIE_NAME, identify

PROGRAM = "nas_system.train"
CALLED = ("nas_system.score", "nas_system.evaluate")
"""Modules that are forked when they are called."""
SWITCH = "NAS_FORK_SERVER"
"""Environment variable; `off` starts every training in a new interpreter."""
ANSWER_TIMEOUT_S = 10.0
"""A fork takes milliseconds: a server that is silent for so long hangs, and is given up."""
IMPORTS_S = 20.0
"""So long after its start a server is waited for: what a training imports for itself takes no less."""
_LOOK_S = 0.1
_MOST_STARTS = 2
"""A server that has died is started again once."""


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Return whether trainings may be forked here: on Linux, unless NAS_FORK_SERVER is `off`."""
    return sys.platform == "linux" and environment.get(SWITCH, "").strip().lower() not in ("off", "0", "no")


class ForkedSupervisor:
    """A supervisor that the server has forked, as `subprocess.Popen` would show it."""

    def __init__(self, pid: int, listen: Callable[[], object]) -> None:
        """`listen` reads what the server has to say."""
        self.pid = pid
        self.returncode: int | None = None
        """As in subprocess, -SIGKILL also for one that ended unseen, after its server; None while it runs."""
        self.is_watched = True
        """Whether the server will say how it ended."""
        self._listen = listen
        self._process = identify(pid)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        self._listen()
        if self.returncode is None and not self.is_watched and not self._process.is_alive():
            self.returncode = -signal.SIGKILL
        return self.returncode


class Returned(NamedTuple):
    """How a call ended."""

    code: int | None
    """None if it was killed, because it took too long."""
    output: bytes
    complaint: bytes


class ForkServer:
    """One server after the other: `start` it early, `fork` when it is ready, `close` it."""

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        program: str = PROGRAM,
        modules: Sequence[str] = (),
        called: Sequence[str] = (),
    ) -> None:
        """`environment` is that of trainings, `python -m program` their command; it needs `modules`, too.

        `called` are the modules for `call`.
        """
        self._forked = [python, "-m", program]
        self._command = [python, "-m", "nas_system.processes.fork_server", "--program", program]
        self._command += [f"--preload={module}" for module in modules]
        self._command += [f"--call={module}" for module in called]
        self._called = frozenset(called)
        self._calls = 0
        self._returned: dict[int, int] = {}
        """Exit codes of calls by their numbers, until `call` returns them."""
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._starts = 0
        self._started_at = -math.inf
        self._started: list[ForkedSupervisor] = []
        """What the server has forked, until `fork` returns it."""
        self._supervisors: dict[int, ForkedSupervisor] = {}
        """Those whose end the server will report, by their pids."""
        self.is_ready = False
        """Whether it has imported everything and can fork now."""
        self.problem: str | None = None
        """Why there is no server; None while there is one or none has been asked for."""

    @property
    def pid(self) -> int | None:
        """Return the server's process; None if there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server unless there is one, or there were too many; do not wait for its imports."""
        self._listen()
        if self._connection is not None or self._starts == _MOST_STARTS:
            return
        self._starts += 1
        self._started_at = time.monotonic()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            self.problem = str(error)
            return
        with theirs:
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # Trainings overwrite the placeholder, each with its own cookie.
                    env={**self._environment, COOKIE_NAME: placeholder()},
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                self.problem = str(error)
                return
        self._connection, self.problem = ours, None

    def is_for(self, command: Sequence[str]) -> bool:
        """Return whether this is the command of a training that the server forks."""
        return list(command[:3]) == self._forked

    def wait_for_imports(self) -> None:
        """Wait for the server's first imports, but never longer than `IMPORTS_S` after its start."""
        self.wait_until_ready(self._started_at + IMPORTS_S - time.monotonic())

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait for the server's imports; return whether it can fork."""
        give_up_at = time.monotonic() + timeout_s
        while self._connection is not None and not self.is_ready and time.monotonic() < give_up_at:
            self._listen(give_up_at - time.monotonic())
        return self.is_ready

    def can_fork(self, command: Sequence[str]) -> bool:
        """Return whether a training with this command can be forked now. Starts a dead server again."""
        self.start()
        return self.is_ready and self.is_for(command)

    def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: int
    ) -> ForkedSupervisor | None:
        """Fork a supervisor with these arguments, which writes to the open file `log`; None if it failed."""
        request = {"arguments": list(arguments), "environment": dict(environment)}
        give_up_at = time.monotonic() + ANSWER_TIMEOUT_S
        try:
            request["folder"] = os.getcwd()
            assert self._connection is not None
            send(self._connection, request, log)
        except (FileNotFoundError, ValueError):  # no folder to work in, or too long a message for a server
            return None
        except OSError as error:
            self._give_up(str(error))
            return None
        while not self._started and self._connection is not None:
            if time.monotonic() > give_up_at:
                self._give_up("it does not answer")
            self._listen(_LOOK_S)
        return self._started.pop() if self._started else None

    def call(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], *, timeout_s: float
    ) -> Returned | None:
        """Fork `python -m module`, wait for its end and return it; None if it was not forked, or nobody knows
        how it ended. It is gone when this returns or raises."""
        self.start()
        if not self.is_ready or module not in self._called:
            return None
        with _printed_to() as output, _printed_to() as complaint:
            self._calls += 1
            number, give_up_at = self._calls, time.monotonic() + timeout_s
            request = {"call": number, "module": module, "arguments": list(arguments)}
            try:
                assert self._connection is not None
                request |= {"environment": dict(environment), "folder": os.getcwd()}
                send(self._connection, request, output, complaint)
            except (FileNotFoundError, ValueError):
                return None
            except OSError as error:
                self._give_up(str(error))
                return None
            try:
                while not self._knows_end_of(number) and time.monotonic() < give_up_at:
                    self._listen(min(_LOOK_S, max(0.0, give_up_at - time.monotonic())))
                in_time = self._knows_end_of(number)
            finally:
                self._end_call(number)
            code = self._returned.pop(number, None)
            if not in_time:
                return Returned(None, b"", b"")
            return None if code is None else Returned(code, _content(output), _content(complaint))

    def _knows_end_of(self, call: int) -> bool:
        """Return whether the call has returned, or its server is gone, and the call with it."""
        return call in self._returned or self._connection is None

    def _end_call(self, call: int) -> None:
        """Kill the call unless it has returned; if the server does not do so, it ends, and its calls do."""
        if self._knows_end_of(call):
            return
        give_up_at = time.monotonic() + ANSWER_TIMEOUT_S
        try:
            assert self._connection is not None
            send(self._connection, {"kill": call})
        except OSError as error:
            self._give_up(str(error))
        while not self._knows_end_of(call):
            if time.monotonic() > give_up_at:
                self._give_up("it does not answer")
            self._listen(_LOOK_S)

    def close(self) -> None:
        """End the server. Supervisors that it has forked go on."""
        self._starts = _MOST_STARTS
        self._give_up("it was closed")

    def _listen(self, timeout_s: float = 0.0) -> None:
        """Read what the server has said, waiting for its first message at most."""
        while self._connection is not None:
            if not select.select([self._connection], [], [], max(timeout_s, 0.0))[0]:
                return
            timeout_s = 0.0
            try:
                content = self._connection.recv(LARGEST_MESSAGE_BYTES)
            except OSError:
                content = b""
            if not content:
                self._give_up("it has ended")
                return
            self._hear(json.loads(content))

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "started" in message:
            pid = message["started"]
            self._supervisors[pid] = ForkedSupervisor(pid, self._listen)
            self._started.append(self._supervisors[pid])
        elif "ended" in message:
            ended = self._supervisors.pop(message["ended"], None)
            if ended is not None:
                ended.returncode = message["code"]
        elif "returned" in message:
            self._returned[message["returned"]] = message["code"]
        elif message["ready"]:
            self.is_ready = True
        else:
            # Another one would find the same.
            self._starts = _MOST_STARTS
            self._give_up(message["problem"])

    def _give_up(self, problem: str) -> None:
        """Do without this server: it ends when its connection does."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.is_ready, self.problem = False, problem
        for supervisor in self._supervisors.values():
            supervisor.is_watched = False
        self._supervisors.clear()
        if self._process is not None:
            # It may still be at its imports, and nothing is lost with it.
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def _printed_to() -> Iterator[int]:
    """Open a file in memory for what a program prints: unlike a pipe it never keeps the program waiting."""
    descriptor = os.memfd_create("printed")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

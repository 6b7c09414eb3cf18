"""The launcher's end of a fork server: a process that forks supervisors from an interpreter with torch in it.

The server is an accelerator and nothing else: what it cannot do is done as if there were none.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas_system.processes.fork_server import LARGEST_MESSAGE_BYTES, send
from nas_system.processes.forked_program import placeholder
from nas_system.processes.process_tree import COOKIE_NAME, identify

PROGRAM = "nas_system.train"
SWITCH = "NAS_FORK_SERVER"
"""Environment variable; `off` starts every training in a new interpreter."""
ANSWER_TIMEOUT_S = 10.0
"""A fork takes milliseconds: a server that is silent for so long hangs, and is given up."""
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


class ForkServer:
    """One server after the other: `start` it early, `fork` when it is ready, `close` it."""

    def __init__(
        self, python: str, environment: Mapping[str, str], program: str = PROGRAM, modules: Sequence[str] = ()
    ) -> None:
        """`environment` is that of trainings, `python -m program` their command; it needs `modules`, too."""
        self._forked = [python, "-m", program]
        self._command = [python, "-m", "nas_system.processes.fork_server", "--program", program]
        self._command += [f"--preload={module}" for module in modules]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._starts = 0
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

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait for the server's imports; return whether it can fork."""
        give_up_at = time.monotonic() + timeout_s
        while self._connection is not None and not self.is_ready and time.monotonic() < give_up_at:
            self._listen(give_up_at - time.monotonic())
        return self.is_ready

    def can_fork(self, command: Sequence[str]) -> bool:
        """Return whether a training with this command can be forked now. Starts a dead server again."""
        self.start()
        return self.is_ready and list(command[:3]) == self._forked

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

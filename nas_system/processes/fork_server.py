"""A fork server: imports what trainings need, then forks a supervisor for each of them.

    python -m nas_system.processes.fork_server --program nas_system.train --call nas_system.score

A training then starts in milliseconds, not in seconds of imports. Its processes are the same as without a
fork server: a detached supervisor (`supervisor.py`), a keeper, and the training in its sandbox. Only the
program `python -m PROGRAM` does not begin with a new interpreter, but in a copy of this one. Programs that
its launcher calls for an answer are forked as well; they write to files that come with the request, and end
with the server.

Nothing is shared after a fork, and the server itself runs nothing but imports: no thread, no
computation, no CUDA. It is started by a launcher, with the environment of a training, talks to it over a
socket in the place of standard input, and ends with it. Its supervisors do not: they belong to nobody.
Linux only.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nas_system.processes import supervisor
from nas_system.processes.forked_program import CookieSlot, ForkedProgram, exit_code_of
from nas_system.processes.process_tree import COOKIE_NAME
from nas_system.processes.sandbox.system_calls import PR_SET_PDEATHSIG, prctl
from nas_system.processes.training_process import close_all_but

LARGEST_MESSAGE_BYTES = 2**17
"""A packet larger than this is refused by the sending side."""
_MOST_DESCRIPTORS = 2
"""Open files that come with a request."""


class ForkServer:
    """The server's end of the connection to a launcher."""

    def __init__(
        self, connection: socket.socket, program: ForkedProgram, called: Mapping[str, ForkedProgram]
    ) -> None:
        """`program` trains; `called` are those that answer, by their modules."""
        self._connection, self._program, self._called = connection, program, called
        self._calls: dict[int, int] = {}
        """The launcher's numbers of the calls in progress, by the pids of their processes."""
        self._woken, self._wakeup = os.pipe()
        for descriptor in (self._woken, self._wakeup):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Fork for each request and report all ends, until the launcher is gone."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, LARGEST_MESSAGE_BYTES)
            self._report_ended()
            if self._connection.fileno() in ready and not self._answer():
                return

    def _report_ended(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                code, call = os.waitstatus_to_exitcode(status), self._calls.pop(pid, None)
                ended = {"ended": pid} if call is None else {"returned": call}
                send(self._connection, {**ended, "code": code})

    def _answer(self) -> bool:
        """Serve one request; return whether there was one."""
        descriptors = array.array("i")
        content, ancillary, _, _ = self._connection.recvmsg(
            LARGEST_MESSAGE_BYTES, socket.CMSG_SPACE(_MOST_DESCRIPTORS * descriptors.itemsize)
        )
        if not content:
            return False
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        request = json.loads(content)
        if "kill" in request:
            self._kill(request["kill"])
            return True
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            if "call" in request:
                self._become_called(request, server, *descriptors)
            self._become_supervisor(request, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if "call" in request:
            self._calls[pid] = request["call"]
        else:
            send(self._connection, {"started": pid})
        return True

    def _kill(self, call: int) -> None:
        """Kill a call's processes if it is in progress: not collected, so the numbers are still its own."""
        for pid, number in self._calls.items():
            if number == call:
                with contextlib.suppress(ProcessLookupError):  # not yet in a group of its own
                    os.killpg(pid, signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)

    def _become_called(self, request: dict[str, Any], server: int, output: int, complaint: int) -> NoReturn:
        """Do in a child what `python -m MODULE` does in a new process, and die with the server."""
        try:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != server:
                os._exit(supervisor.NOT_RECORDED)
            os.setsid()
            os.dup2(output, 1)
            os.dup2(complaint, 2)
            signal.set_wakeup_fd(-1)
            close_all_but()
            os.chdir(request["folder"])
            program = self._called[request["module"]]
            # On top of the server's own, to which its interpreter may have added a locale.
            environment = {**os.environ, **request["environment"]}
            program.run([*program.command, *request["arguments"]], environment)
        finally:
            # Nothing of this process may return to the server's loop.
            os._exit(supervisor.NOT_RECORDED)

    def _become_supervisor(self, request: dict[str, Any], log: int) -> NoReturn:
        """Do in a child what `python -m nas_system.processes.supervisor` does in a new process."""
        code = supervisor.NOT_RECORDED
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (1, 2):
                os.dup2(log, descriptor)
            for descriptor in (log, self._woken, self._wakeup):
                os.close(descriptor)
            self._connection.close()
            # On top of the server's own, to which its interpreter may have added a locale.
            os.environ.update(request["environment"])
            os.chdir(request["folder"])
            arguments = request["arguments"]
            code = exit_code_of(lambda: supervisor.main(arguments, program=self._program))
        finally:
            # Nothing of this process may return to the server's loop.
            os._exit(code)


def send(connection: socket.socket, message: dict[str, Any], *descriptors: int) -> None:
    """Send one message, and open files with it. Raises OSError, or ValueError for one that is too long."""
    content = json.dumps(message).encode()
    if len(content) > LARGEST_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(content):,} bytes is too long")
    socket.send_fds(connection, [content], descriptors)


def why_not_to_fork() -> str | None:
    """Return what forbids to fork this process, None if nothing does."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"the imports have started {threads - 1} threads"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "the imports have started CUDA"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Import, say so or why the server is of no use, and serve. Returns 0."""
    parser = argparse.ArgumentParser(prog="fork_server", description="Fork supervisors of trainings.")
    parser.add_argument("--program", required=True, metavar="MODULE", help="what trains")
    parser.add_argument("--call", action="append", default=[], metavar="MODULE", help="what answers calls")
    parser.add_argument("--preload", action="append", default=[], metavar="MODULE", help="import this, too")
    options = parser.parse_args(arguments)
    # In the place of standard input, so that no number of a descriptor has to be agreed upon.
    connection = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        # Objects that are never freed need no collector, and one would write to pages that forks share.
        gc.disable()
        slot = CookieSlot.find()
        del os.environ[COOKIE_NAME]
        program = ForkedProgram(options.program, slot)
        called = {module: ForkedProgram(module, slot) for module in options.call}
        for module in options.preload:
            importlib.import_module(module)
        gc.freeze()
        problem = why_not_to_fork()
    except Exception as error:
        # Of any kind: trainings start without the server, and say what is wrong with their imports.
        problem = f"{type(error).__name__}: {error}"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        send(connection, {"ready": problem is None, "problem": problem})
        if problem is None:
            ForkServer(connection, program, called).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())

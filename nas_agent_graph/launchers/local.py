"""Trains on this machine: one detached supervisor per run.

A training belongs to its run directory, not to this process: any launcher, also one in an agent
that was started after the first was killed, finds it there by its lock.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nas_agent_graph.context import RunState
from nas_agent_graph.launchers.drawer import Drawer
from nas_agent_graph.launchers.environment import proxy_settings, training_environment
from nas_agent_graph.launchers.fork_server import (
    CALLED,
    PROGRAM,
    ForkedSupervisor,
    ForkServer,
    Returned,
    is_wanted,
)
from nas_agent_graph.launchers.package_servers import PackageServers
from nas_system.errors import ConfigError, RunError
from nas_system.files import LARGEST_RECORD_BYTES, open_to_append, read_bounded, read_record
from nas_system.nas_agent.log_text import one_line
from nas_system.processes.job import Job
from nas_system.processes.machine_cores import usable_cores
from nas_system.processes.machine_memory import memory_limit_mb, total_memory_mb
from nas_system.processes.process_tree import kill_carriers
from nas_system.processes.run_files import RunPaths
from nas_system.processes.run_lock import attempt_in, is_alive, is_finished, is_supervised, supervisor_of
from nas_system.processes.sandbox.modes import mode_in
from nas_system.processes.stop_requests import REPEATABLE_STOP_SIGNAL
from nas_system.processes.supervisor import BUSY
from nas_system.processes.work_folder import continue_from

START_TIMEOUT_S = 30.0
CHECK_DEVICE_TIMEOUT_S = 300.0
DEAF_AFTER_S = 30.0
"""A supervisor that lives on so long after a forced cancel is killed."""
PROBE_TIMEOUT_S = 60.0
_PAUSE_S = 0.005
_KILLED_STARTS = 3
"""A supervisor killed before it left a trace is started again this often."""
_ERROR_CHARACTERS = 2000


class LocalLauncher:
    """Starts, finds and stops trainings on this machine."""

    def __init__(
        self,
        *,
        python: str | None = None,
        environment: Mapping[str, str] | None = None,
        extra_names: Sequence[str] = (),
        sandbox: str | None = None,
        forked_program: str | None = PROGRAM,
        forked_calls: Sequence[str] = CALLED,
    ) -> None:
        """`python` runs supervisors and modules (default: this interpreter); trainings see the usual names
        and `extra_names` of `environment` (default: ours). `sandbox` is one of its modes, by default what
        the environment says. A job `python -m forked_program` is forked after `warm_up`, on Linux and unless
        NAS_FORK_SERVER is `off`; None forks none. So is what `call` runs if it is one of the modules
        `forked_calls`. Raises ConfigError for the name of a secret."""
        self._python = python or sys.executable
        seen = os.environ if environment is None else environment
        self._environment = training_environment(seen, extra_names)
        # Only our own programs download; to them a proxy's password may be told.
        self._call_environment = self._environment | proxy_settings(seen)
        self._sandbox = mode_in(self._environment) if sandbox is None else sandbox
        self._forced_at: dict[Path, float] = {}
        self._supervisors: list[subprocess.Popen[bytes]] = []
        self._forked_program = forked_program if is_wanted(seen) else None
        self._forked_calls = forked_calls
        self._drawer: Drawer | None = None
        self.fork_server: ForkServer | None = None
        """None before `warm_up` and where there is to be none."""
        self.package_servers: PackageServers | None = None

    def warm_up(self, runs_dir: Path, modules: Sequence[str] = ()) -> None:
        """Start to import what trainings need, and `modules`: they start in less time once it is done.

        Does not wait. A training that is submitted earlier imports for itself. From now on the pictures of
        finished runs in `runs_dir` are drawn in the background.
        """
        self._drawer = Drawer(self._python, self._environment, runs_dir)
        if self._forked_program is not None:
            self.fork_server = self._new_server(modules)
            self.fork_server.start()
            self.package_servers = PackageServers(self._new_server, modules)

    def _new_server(self, modules: Sequence[str]) -> ForkServer:
        program = self._forked_program
        assert program is not None
        return ForkServer(self._python, self._environment, program, modules, self._forked_calls)

    def finish(self, runs_dir: Path) -> None:
        """Return once the pictures of all finished runs are there. Raises RunError if some are not."""
        drawer = self._drawer or Drawer(self._python, self._environment, runs_dir)
        drawer.finish()

    def close(self) -> None:
        """End what `warm_up` has started. Trainings go on."""
        if self._drawer is not None:
            self._drawer.end()
            self._drawer = None
        if self.fork_server is not None:
            self.fork_server.close()
            self.fork_server = None
        if self.package_servers is not None:
            self.package_servers.close()
            self.package_servers = None

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        """Start the attempt unless it runs or ran already; returns once its files say that it has begun.

        Raises RunError if it cannot be started.
        """
        if job.continues is not None and attempt == 1:
            try:
                continue_from(job.continues, run_dir)
            except OSError as error:
                reason = error.strerror or str(error)
                raise RunError(f"the training in {job.continues} cannot be continued: {reason}") from error
        deadline = time.monotonic() + START_TIMEOUT_S
        supervisor = self._start_supervisor(run_dir, job, attempt)
        killed = 0
        while not _has_begun(run_dir, attempt, supervisor.pid):
            if code := supervisor.poll():
                killed += code < 0
                if code > 0 and code != BUSY:
                    raise RunError(f"cannot start {run_dir}: {_supervisor_log(run_dir)}")
                if killed > _KILLED_STARTS:
                    raise RunError(
                        f"cannot start {run_dir}: signal {-code} ended its supervisor "
                        f"{killed} times before it could begin; look for what kills processes here"
                    )
                # It was killed, or one of an earlier attempt is about to leave, or another agent was faster.
                supervisor = self._start_supervisor(run_dir, job, attempt)
            if time.monotonic() > deadline:
                raise RunError(
                    f"cannot start attempt {attempt} of {run_dir} within {START_TIMEOUT_S:.0f} s: "
                    + ("another attempt still runs there" if is_alive(run_dir) else "the machine is too busy")
                )
            time.sleep(_PAUSE_S)
        self._reap()

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        """Return what the runs' files and locks say, whoever started them."""
        self._reap()
        found: dict[Path, RunState] = {run_dir: _state_of(run_dir) for run_dir in run_dirs}
        if self._drawer is not None:
            for run_dir, state in found.items():
                if state == "finished":
                    self._drawer.tell(run_dir)
        return found

    def n_queued(self, run_dirs: Sequence[Path]) -> int:
        """Return 0: here trainings begin at once."""
        return 0

    def is_running(self, run_dir: Path) -> bool:
        """Return whether a live supervisor holds the run's lock."""
        return is_supervised(run_dir)

    def cancel(self, run_dir: Path, *, force: bool = False) -> None:
        """Ask the training to end, or kill it with `force`. Does nothing if it does not run; idempotent."""
        self._reap()
        supervisor = supervisor_of(run_dir)
        # The lock says that the run is alive; only the same process, not the same pid, is signalled.
        if supervisor is None or not is_alive(run_dir):
            return
        # One that was stopped (SIGSTOP) would hear of the request only when it goes on.
        supervisor.send(signal.SIGCONT)
        if force:
            # The second stop request kills, and two different signals are never merged into one.
            supervisor.send(signal.SIGTERM)
            supervisor.send(signal.SIGINT)
            since = self._forced_at.setdefault(run_dir, time.monotonic())
            if time.monotonic() - since > DEAF_AFTER_S:
                supervisor.send(signal.SIGKILL)  # its training dies with it
        else:
            supervisor.send(REPEATABLE_STOP_SIGNAL)
        if supervisor.is_certainly_dead():
            kill_carriers(supervisor.cookie)

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        """Run `python -m module` to its end and return what it printed.

        Raises ConfigError with its complaint if it exits with 2, RunError for any other failure.
        """
        returned = self._called_in_fork(module, arguments, timeout_s)
        if returned is None:
            returned = self._called(module, arguments, timeout_s)
        if returned.code == 0:
            return returned.output.decode(errors="replace")
        complaint = returned.complaint.decode(errors="replace")
        complaint = complaint.strip()[-_ERROR_CHARACTERS:] or "it printed nothing"
        if returned.code is None:
            raise RunError(f"{module} did not end within {timeout_s:g} s and was ended")
        if returned.code == ConfigError.exit_code:
            raise ConfigError(complaint.removeprefix("error: "))
        raise RunError(f"{module} ended with exit code {returned.code}: {complaint}")

    def _called_in_fork(self, module: str, arguments: Sequence[str], timeout_s: float) -> Returned | None:
        """Return how the call ended, None where it has to be done in an interpreter of its own."""
        if self.fork_server is None:
            return None
        # One with a package first: which models are looked at is not known here.
        for server in (*(self.package_servers or ()), self.fork_server):
            try:
                returned = server.call(module, arguments, self._call_environment, timeout_s=timeout_s)
            except OSError:  # no file can be opened for what it prints
                return None
            # Any other end may be that of the server's copy alone.
            if returned is not None and returned.code in (0, ConfigError.exit_code, None):
                return returned
        return None

    def _called(self, module: str, arguments: Sequence[str], timeout_s: float) -> Returned:
        command = [self._python, "-m", module, *arguments]
        with _own_process_group(command, self._call_environment) as process:
            try:
                output, complaint = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                return Returned(None, b"", b"")
        return Returned(process.returncode, output, complaint)

    def memory_limit_mb(self) -> int | None:
        """Return the default limit of one training: a share of this machine's or container's memory."""
        return memory_limit_mb(total_memory_mb())

    def cores(self) -> int:
        """Return how many cores trainings may use: of those that this process may run on, and of its
        control group's share."""
        return usable_cores()

    def cuda_devices(self, name: str) -> tuple[str, ...]:
        """Return the CUDA devices behind a name such as `auto`, as `CUDA_VISIBLE_DEVICES` names them."""
        found = self.call("nas_system.describe", ["--list-devices", name], timeout_s=CHECK_DEVICE_TIMEOUT_S)
        return tuple(json.loads(found))

    def check_device(self, name: str) -> None:
        """Raise ConfigError for a device that is not there: every training of the search would fail on it."""
        # Some installers leave compiling to the first import, and a training in its sandbox cannot keep what
        # it has compiled: each would spend seconds on it again.
        if name not in ("auto", "cpu") or not has_bytecode("torch"):
            self.call("nas_system.describe", ["--check-device", name], timeout_s=CHECK_DEVICE_TIMEOUT_S)

    def check_sandbox(self) -> str | None:
        """Return what a training could do here although it should not, in one sentence; None for nothing.

        Raises ConfigError if the sandbox is required and does not hold.
        """
        command = ["--sandbox", self._sandbox]
        found = json.loads(
            self.call("nas_system.processes.sandbox.check", command, timeout_s=PROBE_TIMEOUT_S)
        )
        return found["warning"]

    def _start_supervisor(
        self, run_dir: Path, job: Job, attempt: int
    ) -> subprocess.Popen[bytes] | ForkedSupervisor:
        command = job.supervisor_arguments(run_dir, attempt, sandbox=self._sandbox)
        command += ["--", *job.command]
        server, environment = self._server_for(job), self._environment | dict(job.environment)
        # A file, not a pipe: a pipe would break when this agent dies, and the training with it.
        try:
            with open(open_to_append(RunPaths(run_dir).supervisor_log), "ab") as log:
                if server is not None and server.can_fork(job.command):
                    forked = server.fork(command, environment, log.fileno())
                    if forked is not None:
                        return forked
                process = subprocess.Popen(
                    [self._python, "-m", "nas_system.processes.supervisor", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise RunError(f"cannot start a supervisor for {run_dir}: {error}") from error
        self._supervisors.append(process)
        return process

    def _server_for(self, job: Job) -> ForkServer | None:
        """Return the server that is to fork the job, if it can, once it has done its first imports."""
        server = self.fork_server
        if server is None or not server.is_for(job.command):
            return None
        servers = self.package_servers
        with_package = servers.for_training(job.command, job.package) if servers is not None else None
        if with_package is not None:
            return with_package
        server.wait_for_imports()
        return server

    def _reap(self) -> None:
        """Collect supervisors that have ended, so that none stays as a zombie."""
        self._supervisors = [process for process in self._supervisors if process.poll() is None]


def has_bytecode(module: str) -> bool:
    """Return whether the installed module has been compiled; it is found, not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return True  # there is nothing to compile
    return Path(importlib.util.cache_from_source(spec.origin)).exists()


def _state_of(run_dir: Path) -> RunState:
    # The lock first: once it is free, or exit.json is there, nothing changes any more.
    running = is_supervised(run_dir)
    if is_finished(run_dir):
        return "finished"
    if running:
        return "running"
    return "lost" if read_record(RunPaths(run_dir).process) else "absent"


@contextlib.contextmanager
def _own_process_group(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process whose whole group is gone when the block is left, also by Ctrl-C."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise RunError(f"cannot start {command[0]}: {error.strerror}") from error
    try:
        yield process
    finally:
        if process.returncode is None:
            # Not collected yet, so the group's number is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _has_begun(run_dir: Path, attempt: int, pid: int) -> bool:
    """Return whether the attempt, or a later one, has ended, is running, or was begun by supervisor `pid`."""
    if attempt_in(read_record(RunPaths(run_dir).exit)) >= attempt:
        return True
    if attempt_in(read_record(RunPaths(run_dir).process)) < attempt:
        return False
    # The record may be that of an earlier, lost start of the same attempt.
    supervisor = supervisor_of(run_dir)
    return (supervisor is not None and supervisor.pid == pid) or is_supervised(run_dir)


def _supervisor_log(run_dir: Path) -> str:
    try:
        content = read_bounded(RunPaths(run_dir).supervisor_log, LARGEST_RECORD_BYTES)
    except (OSError, ValueError):
        content = b""
    text = content.decode(errors="replace")
    return one_line(text[-_ERROR_CHARACTERS:], _ERROR_CHARACTERS) or "its supervisor printed nothing"

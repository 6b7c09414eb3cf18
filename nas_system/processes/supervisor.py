"""Runs one training: starts it, limits it, keeps its log, and records how it ended.

    python -m nas_system.processes.supervisor RUN_DIR --attempt 1 --time-limit 600 -- COMMAND...

One small process per run, independent of the agent: limits hold and the end is recorded even when
the agent is dead. Exit codes: 0 the attempt is recorded in exit.json, 1 it could not be recorded,
2 bad arguments, 75 another supervisor runs this run, or the attempt on a cluster. Standard library and our
file functions only, so that it starts in a few dozen milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nas_system.files import make_room, read_record, write_json
from nas_system.processes.capped_log import CappedLog
from nas_system.processes.cluster_job import (
    allocated_memory_mb,
    claim_attempt,
    is_fenced_off,
    lock_of_claimed_run,
    orders_for,
)
from nas_system.processes.forked_program import ForkedProgram
from nas_system.processes.machine_memory import memory_limit_mb, total_memory_mb
from nas_system.processes.process_tree import identify, kernel_oom_kills
from nas_system.processes.run_files import SCHEMA_VERSION, RunPaths, stop_file
from nas_system.processes.run_lock import acquire_run_lock, attempt_in, free_reserve, is_own_lock
from nas_system.processes.sandbox.modes import MODES, mode_in
from nas_system.processes.sandbox.sandbox import Limits, Report, Sandbox
from nas_system.processes.stop_requests import StopRequests
from nas_system.processes.training_process import TrainingProcess, read_now
from nas_system.processes.work_folder import DISK_LIMIT_MB, MOST_FILES, WorkFolder

RECORDED, NOT_RECORDED, BUSY = 0, 1, 75

_MIB = 2**20
_SHORTEST_LOOK_S = 0.2
_LONGEST_WAIT_S = 1.0
_LONGEST_PAUSE_S = 2.0
_MOST_UNMEASURED = 3
_KILL_AGAIN_S = 0.5
_LAST_WORDS_S = 1.0
# ru_maxrss is in kibibytes on Linux and in bytes on macOS.
_MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


class Supervisor:
    """One attempt at one run, from the held lock to exit.json."""

    def __init__(self, options: argparse.Namespace, lock: int, program: ForkedProgram | None) -> None:
        self.options = options
        self.program = program
        self.run_dir: Path = options.run_dir
        self.lock = lock
        self.stop = StopRequests()
        self.ended: str | None = None
        """The first reason to end the training; None if it ended by itself."""
        self.fenced_off = False
        """Whether another attempt has begun, so that nothing of this one may be written any more."""
        self.started_at = _utc_now()
        self.oom_kills_before = kernel_oom_kills()
        self.kill_at = math.inf
        self.look_at = 0.0
        self.history_stamp: tuple[int, int] | None = None
        self.peak_disk_bytes = 0
        self.unmeasured = 0
        """How often in turn something of the training could not be measured."""
        self.disk_limit_bytes = options.disk_limit_mb * _MIB
        self.work = WorkFolder(options.run_dir, self.disk_limit_bytes)
        self.report: Report | None = None
        """What the sandbox holds; None before the training has started."""
        self.uncopied: dict[str, str] = {}
        """Why a result did not cross into the run's folder, by its name."""

    def run(self) -> int:
        """Train, clean up, record; return this process's exit code."""
        self._write_process_record(None)
        # Results of an earlier attempt must not be taken for this one's; history and checkpoints stay,
        # because a resumed training continues from them.
        make_room(RunPaths(self.run_dir).exit)
        self.work.begin()
        log = CappedLog(self.run_dir / self.options.log, self.options.log_cap_bytes)
        self.started = self.last_progress = time.monotonic()
        try:
            training = self._start()
        except OSError as error:
            self.ended = "cannot_start"
            log.write(f"cannot start the training: {error.strerror or error}\n".encode(errors="replace"))
            return self._record_end(self._exit_record(None, log, error), log)
        self.report = training.report
        with contextlib.suppress(OSError):  # the disk is full already; the first record is enough to go on
            self._write_process_record(training)
        self._watch(training, log)
        if self.fenced_off:
            print(f"attempt {self.options.attempt} was given up, and another has begun", file=sys.stderr)
            return BUSY
        if is_own_lock(self.run_dir, self.lock):
            self.uncopied = self.work.publish()
        return self._record_end(self._exit_record(training, log, None), log)

    def _start(self) -> TrainingProcess:
        """Prepare the sandbox and start the training in it. Raises OSError."""
        options = self.options
        sandbox = Sandbox(
            options.sandbox,
            self.run_dir,
            self.work.path,
            command=options.command,
            record=RunPaths(self.run_dir).lock,
            readable=options.read,
            limits=Limits(options.memory_limit_mb * _MIB, self.disk_limit_bytes, options.process_limit),
        )
        sandbox.prepare()
        return TrainingProcess(
            options.command, inherited_lock=self.lock, sandbox=sandbox, program=self.program
        )

    def _write_process_record(self, training: TrainingProcess | None) -> None:
        record = {
            "schema": SCHEMA_VERSION,
            "attempt": self.options.attempt,
            "supervisor": identify(os.getpid())._asdict(),
            "training": training.id._asdict() if training else None,
            "started_at": self.started_at,
            "command": self.options.command,
        }
        write_json(RunPaths(self.run_dir).process, record)

    # -- while it runs -------------------------------------------------------------------------

    def _watch(self, training: TrainingProcess, log: CappedLog) -> None:
        """Copy output and check limits until the training has ended; then kill what it left running."""
        poll = select.poll()
        poll.register(training.output, select.POLLIN)
        poll.register(self.stop.wakeup, select.POLLIN)
        poll.register(training.status, select.POLLIN)
        while not training.has_ended():
            self._check_limits(training)
            ready = [descriptor for descriptor, _ in poll.poll(self._wait_s() * 1000)]
            if self.stop.wakeup in ready:
                read_now(self.stop.wakeup)
            if training.output in ready:
                data = training.read_output()
                if data:
                    log.write(data)
                    self.last_progress = time.monotonic()
                elif data is not None:  # every writer has closed it; the training may still run
                    poll.unregister(training.output)
        self.wall_s = time.monotonic() - self.started
        training.end_leftovers()
        if self.ended is None and self._exceeds_disk(0):
            self.ended = "disk_limit"  # between two looks
        with contextlib.suppress(OSError):
            # The training, in its sandbox, can see this file but not remove it.
            stop_file(self.run_dir.name).unlink(missing_ok=True)
        # Bounded, because a process that cannot be killed may still print.
        give_up_at = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < give_up_at and (data := training.read_output()):
            log.write(data)

    def _wait_s(self) -> float:
        due = min(self.look_at, self.kill_at)
        if self.ended is None:
            due = min(due, self.started + self.options.time_limit)
        return min(max(due - time.monotonic(), 0.001), _LONGEST_WAIT_S)

    def _check_limits(self, training: TrainingProcess) -> None:
        now = time.monotonic()
        if now >= self.look_at:
            self._look_at_what_it_uses(training)
        if self.stop.requested:
            self._end(training, "stop_request")
        if now - self.started >= self.options.time_limit:
            self._end(training, "time_limit")
        if now - self.last_progress >= self.options.silence_limit:
            self._end(training, "silence_limit")
        if now >= self.kill_at or self.stop.take_force():
            training.kill_tree()
            self.kill_at = now + _KILL_AGAIN_S  # a process in a system call may end later

    def _end(self, training: TrainingProcess, reason: str) -> None:
        """Ask the training to end; only the first reason is recorded."""
        if self.ended is not None:
            return
        self.ended = reason
        self.kill_at = time.monotonic() + self.options.grace
        # A hung program rarely handles SIGTERM, and where it hangs is worth knowing: on SIGABRT
        # Python's faulthandler (PYTHONFAULTHANDLER=1) prints every thread's stack to the log.
        training.signal_group(signal.SIGABRT if reason == "silence_limit" else signal.SIGTERM)

    def _look_at_what_it_uses(self, training: TrainingProcess) -> None:
        began = time.monotonic()
        exceeded = self._exceeded_limit(training)
        if exceeded is not None:
            # No grace: in ten more seconds the whole machine could be out of memory.
            self.ended = self.ended or exceeded
            training.kill_tree()
        if self.options.engine is not None:
            self._obey(training)
        stamp = self.work.stamp_of_history()
        if stamp != self.history_stamp:
            self.history_stamp, self.last_progress = stamp, began
            self.work.show_history()
        if not is_own_lock(self.run_dir, self.lock):
            training.kill_tree()  # the folder was deleted or replaced: nobody can read its results
        # Among thousands of processes a look is slow: spend 5% of one core, if that is often enough.
        cost_s = time.monotonic() - began
        self.look_at = began + cost_s + min(max(_SHORTEST_LOOK_S, 20 * cost_s), _LONGEST_PAUSE_S)

    def _obey(self, training: TrainingProcess) -> None:
        """Do what the agent, on another machine, asks for by files."""
        run_dir, attempt = self.run_dir, self.options.attempt
        if is_fenced_off(run_dir, attempt):
            self.fenced_off = True
            training.kill_tree()
        orders = orders_for(run_dir, attempt)
        self.stop.requested = self.stop.requested or orders.stop
        if orders.force:
            self.ended = self.ended or "stop_request"
            training.kill_tree()

    def _exceeded_limit(self, training: TrainingProcess) -> str | None:
        """Measure memory, processes and files; return the name of a limit that is exceeded."""
        used = training.measure(self.work.path)
        if used.exceeds_memory(self.options.memory_limit_mb * _MIB):
            return "memory_limit"
        if used.tasks > self.options.process_limit:
            return "process_limit"
        # A process that is about to end cannot be measured for a moment; a setuid program, which only a
        # training without a sandbox can start, never.
        self.unmeasured = 0 if used.complete or self.options.sandbox == "off" else self.unmeasured + 1
        if self.unmeasured > _MOST_UNMEASURED:
            return "unmeasurable"
        return "disk_limit" if self._exceeds_disk(used.nameless_disk_bytes) else None

    def _exceeds_disk(self, nameless_bytes: int) -> bool:
        """Measure the files and return whether there are too many, or too large ones."""
        bytes_used, files = self.work.usage()
        bytes_used += nameless_bytes
        self.peak_disk_bytes = max(self.peak_disk_bytes, bytes_used)
        return bytes_used > self.disk_limit_bytes or files > MOST_FILES

    # -- when it has ended ---------------------------------------------------------------------

    def _exit_record(
        self, training: TrainingProcess | None, log: CappedLog, error: OSError | None
    ) -> dict[str, object]:
        code = training.exit_code if training else None
        signaled = code is not None and code < 0
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        # A short training can end between two looks; the kernel's number is that of the largest process.
        peak_bytes = max(
            training.peak_resident_bytes if training else 0, usage.ru_maxrss * _MAXRSS_UNIT_BYTES
        )
        return {
            "schema": SCHEMA_VERSION,
            "attempt": self.options.attempt,
            "ended": self.ended or ("signaled" if signaled else "exited"),
            "returncode": None if signaled else code,
            "signal": -code if code is not None and signaled else None,
            "message": None if error is None else error.strerror or str(error),
            "errno": None if error is None else error.errno,
            "wall_s": round(self.wall_s, 3) if training else 0.0,
            "user_s": round(usage.ru_utime, 3),
            "sys_s": round(usage.ru_stime, 3),
            "peak_memory_mb": round(peak_bytes / _MIB, 1),
            "kernel_oom_kills": kernel_oom_kills() - self.oom_kills_before,
            "log_bytes": log.bytes_seen,
            "log_bytes_unwritable": log.bytes_unwritable,
            "leftover_processes": len(training.leftovers) if training else 0,
            "started_at": self.started_at,
            "ended_at": _utc_now(),
            "peak_disk_mb": round(self.peak_disk_bytes / _MIB, 1),
            "uncopied": self.uncopied,
            "confinement": None if self.report is None else self.report.level,
            "sandbox": None if self.report is None else self.report.to_json(),
        }

    def _record_end(self, record: dict[str, object], log: CappedLog) -> int:
        if not is_own_lock(self.run_dir, self.lock):
            print(f"{self.run_dir} was deleted while its training ran", file=sys.stderr)
            return NOT_RECORDED
        record["disk_free_mb"] = _disk_free_mb(self.run_dir)
        free_reserve(self.lock)
        write_json(RunPaths(self.run_dir).exit, record)
        log.close()
        with contextlib.suppress(OSError):  # what cannot be removed is left; the end is on record
            self.work.close(keep=self.ended != "disk_limit")
        return RECORDED


def main(arguments: Sequence[str] | None = None, *, program: ForkedProgram | None = None) -> int:
    """Supervise one attempt unless it is recorded already or another supervisor runs it.

    A training that is `program` starts in a copy of this interpreter; any other in one of its own.
    """
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        _refuse_link(options.run_dir)
        if options.engine is None:
            lock = acquire_run_lock(options.run_dir)
        elif claim_attempt(options.run_dir, options.attempt, options.engine):
            lock = lock_of_claimed_run(options.run_dir)
        else:
            lock = None
        if lock is None:
            return BUSY
        if attempt_in(read_record(RunPaths(options.run_dir).exit)) >= options.attempt:
            return RECORDED
        return Supervisor(options, lock, program).run()
    except OSError as error:
        print(f"cannot supervise {options.run_dir}: {error}", file=sys.stderr)
        return NOT_RECORDED
    finally:
        _remove_if_empty(RunPaths(options.run_dir).supervisor_log)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="supervisor",
        description="Run one training under limits.",
        usage="%(prog)s [options] RUN_DIR -- COMMAND",
    )
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--time-limit", type=_seconds, required=True, metavar="S")
    parser.add_argument("--grace", type=_seconds, default=10.0, metavar="S")
    parser.add_argument("--silence-limit", type=_seconds, default=math.inf, metavar="S")
    parser.add_argument("--memory-limit-mb", type=float, default=math.inf, metavar="MIB")
    parser.add_argument(
        "--disk-limit-mb", type=float, default=DISK_LIMIT_MB, metavar="MIB", help="inf for none"
    )
    parser.add_argument("--process-limit", type=float, default=math.inf, metavar="N")
    parser.add_argument("--sandbox", choices=MODES, help="default: as NAS_SANDBOX says, else best")
    parser.add_argument("--engine", metavar="NAME", help="the cluster whose job this is")
    parser.add_argument("--log-cap-bytes", type=int, default=8 * _MIB, metavar="N")
    parser.add_argument("--log", default=RunPaths(Path()).log.name, metavar="NAME")
    parser.add_argument("--read", type=Path, action="append", default=[], metavar="PATH")
    # Cut by hand: argparse would also swallow a second `--`, which belongs to the command.
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.command = list(arguments[cut + 1 :])
    # The training gets the name of its folder, and may change its working directory.
    options.run_dir = options.run_dir.absolute()
    if options.engine is not None:
        # The agent does not know the node.
        here = memory_limit_mb(allocated_memory_mb(os.environ) or total_memory_mb())
        options.memory_limit_mb = min(options.memory_limit_mb, math.inf if here is None else here)
    if options.sandbox is None:
        try:
            options.sandbox = mode_in(os.environ)
        except ValueError as error:
            parser.error(str(error))
    if not options.command or options.attempt < 1:
        parser.error("an attempt from 1 on, and -- followed by the command of the training, are needed")
    return options


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError(f"not a duration: {text}")
    return value


def _refuse_link(run_dir: Path) -> None:
    """Raise OSError for a folder that is a link: it would lead records and training to any other place."""
    if run_dir.is_symlink():
        raise OSError(errno.ELOOP, "a run's folder must not be a link; put a folder in its place")


def _disk_free_mb(folder: Path) -> float:
    disk = os.statvfs(folder)
    return round(disk.f_bavail * disk.f_frsize / _MIB, 1)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()


def _utc_now() -> str:
    seconds, fraction = divmod(time.time(), 1)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{int(1000 * fraction):03d}Z", time.gmtime(seconds))


if __name__ == "__main__":
    sys.exit(main())

"""Attacks on the supervisor, on what it writes and copies, and on its limits; each is a training of its own.

`attack_cases.py` says under which conditions they run and what must be left of the run then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attacks.toolbox import (
    CAPABILITIES,
    CARE,
    LANDLOCK,
    LANDLOCK_SCOPE,
    LIMITS,
    NAMESPACE,
    ROOT,
    SECCOMP,
    USER,
    Target,
    call,
    way,
)

RECORDS = (
    "train.log",
    "supervisor.log",
    "exit.json",
    "exit.json.tmp",
    "proc.json",
    "proc.json.tmp",
    "retried.json.tmp",
    "verdict.json.tmp",
    "sealed.json.tmp",
)
"""What only agent and supervisor write."""
RESULTS = (
    "history.json",
    "metrics.json",
    "error.json",
    "learning_curve.png",
    "predictions.png",
    "attention.png",
    "best_model.pth",
)
"""What is copied out of the training's folder."""
MIB = 2**20
ALLOCATED_MIB = 192
WRITTEN_MIB = 96
MANY_FILES = 120_000
MANY_PROCESSES = 300
CASE = "case"
_KEPT: list[object] = []
_HOLD_S = 1.0
"""As long as the supervisor may take to look again."""
_HOLD_MANY_S = 8.0
"""And among hundreds of processes, where a look is slow and the next one waits for longer."""


def _folders(it: Target) -> list[Path]:
    """Return where the training may write, and where it would like to."""
    return list(dict.fromkeys((it.here, it.run)))


def _each(actions: Iterator[Callable[[], object]]) -> None:
    """Do as many as possible; raise an OSError if nothing was."""
    done, last = 0, OSError(errno.ENOENT, "nothing to do")
    for action in actions:
        try:
            action()
        except OSError as error:
            last = error
        else:
            done += 1
    if not done:
        raise last


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    make(path)


# -- links in the place of records -----------------------------------------------------------------------


@way(LANDLOCK, CARE, seen=CASE, off=())
def link_records(it: Target) -> None:
    """Put links in the place of log and records, for the next attempt to write through."""
    _each(
        lambda name=name: _replace(it.run / name, lambda path: path.symlink_to(it.folder / f"of {path.name}"))
        for name in RECORDS
    )


@way(LANDLOCK, CARE, seen=CASE, off=())
def hard_link_records(it: Target) -> None:
    """Put other names of the victim's files in the place of log and records."""
    _each(
        lambda name=name: _replace(it.run / name, lambda path: os.link(it.folder / f"of {path.name}", path))
        for name in RECORDS
    )


@way(LANDLOCK, CARE, seen=CASE, off=())
def link_lock(it: Target) -> None:
    """Put a link in the place of the lock, for the next attempt to write through."""
    _replace(it.run / "run.lock", lambda path: path.symlink_to(it.folder / "of run.lock"))


@way(LANDLOCK, CARE, seen=CASE, off=())
def hard_link_lock(it: Target) -> None:
    """Put another name of the victim's file in the place of the lock."""
    _replace(it.run / "run.lock", lambda path: os.link(it.folder / "of run.lock", path))


@way(LANDLOCK, CARE, seen=CASE, off=())
def fifo_records(it: Target) -> None:
    """Put FIFOs in the place of log, records and results, for whoever opens them to wait."""
    _each(
        lambda folder=folder, name=name: _replace(folder / name, os.mkfifo)
        for folder in _folders(it)
        for name in (*RECORDS, *RESULTS)
    )


@way(LANDLOCK, CARE, seen=CASE, off=())
def link_folder_of_a_repeat(it: Target) -> None:
    """Put a link to the victim's folder where the training with another seed will have its own."""
    (it.run / "repeats").mkdir()
    (it.run / "repeats/seed_43").symlink_to(it.folder)


@way(CARE, seen=CASE, off=())
def link_run_folder(it: Target) -> None:
    """Be started in a run folder that is a link to the victim's."""
    print("started")


# -- results that are no results -------------------------------------------------------------------------


def _as_results(it: Target, make: Callable[[Path], object]) -> None:
    _each(lambda name=name: _replace(it.here / name, make) for name in RESULTS)


@way(CARE, seen=CASE, off=())
def results_that_are_links(it: Target) -> None:
    """Make results that are links to a secret."""
    _as_results(it, lambda path: path.symlink_to(it.secret))


@way(LANDLOCK, CARE, seen=CASE, off=())
def results_that_are_hard_links(it: Target) -> None:
    """Make results that are other names of a secret."""
    _as_results(it, lambda path: os.link(it.secret, path))


@way(CARE, seen=CASE, off=())
def results_that_never_end(it: Target) -> None:
    """Make results that are links to /dev/zero."""
    _as_results(it, lambda path: path.symlink_to("/dev/zero"))


@way(CARE, seen=CASE, off=())
def results_that_wait(it: Target) -> None:
    """Make results that are FIFOs."""
    _as_results(it, os.mkfifo)


@way(LANDLOCK, CARE, seen=CASE, off=())
def results_that_are_sockets(it: Target) -> None:
    """Make results that are sockets."""
    _as_results(it, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600))


@way(CAPABILITIES, LANDLOCK, SECCOMP, CARE, seen=CASE, off=(), who=(ROOT,))
def results_that_are_devices(it: Target) -> None:
    """Make results that are device nodes."""
    _as_results(it, lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)))


@way(CARE, seen=CASE, off=())
def results_that_are_folders(it: Target) -> None:
    """Make results that are folders, with more in them."""
    _as_results(it, lambda path: (path / "more").mkdir(parents=True))


@way(LIMITS, CARE, seen=CASE, off=())
def results_that_are_huge(it: Target) -> None:
    """Make results of 1 TiB that take no space."""

    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, 2**40)

    _as_results(it, make)


@way(CARE, SECCOMP, seen=CASE, off=())
def results_with_privileges(it: Target) -> None:
    """Make results that are setuid programs; by creating them so, for no mode may be changed."""
    os.umask(0)
    _as_results(it, lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o4777)))


def _for_a_moment() -> Iterator[None]:
    end = time.monotonic() + _HOLD_S
    while time.monotonic() < end:
        yield


@way(CARE, LANDLOCK, seen=CASE, off=())
def results_that_change(it: Target) -> None:
    """Exchange results and links to a secret all the time."""
    for _ in _for_a_moment():
        for name in RESULTS:
            _replace(it.here / name, lambda path: path.symlink_to(it.secret))
            _replace(it.here / name, lambda path: path.write_text("{}"))
        time.sleep(0.001)


@way(CARE, LIMITS, seen=CASE, off=())
def results_that_grow(it: Target) -> None:
    """Let the curves grow while they are copied."""
    with open(it.here / "history.json", "wb") as file:
        file.write(b"[")
        for _ in _for_a_moment():
            file.write(b"0," * 50_000)
            file.flush()
            time.sleep(0.01)


@way(LANDLOCK, CARE, seen=CASE, off=())
def folder_that_is_a_link(it: Target) -> None:
    """Put a link to the victim's folder in the place of the training's own."""
    os.rename(it.here, it.here.with_name("set_aside"))
    it.here.symlink_to(it.folder)


# -- forgeries -------------------------------------------------------------------------------------------


@way(LANDLOCK, CARE, seen=CASE)
def empty_the_folder(it: Target) -> None:
    """Delete all that is in the run's folder, the lock too."""
    for folder in _folders(it):
        for path in folder.iterdir():
            if path != it.here:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@way(LANDLOCK, CARE, seen=CASE, off=())
def forge_end(it: Target) -> None:
    """Write down an end that did not happen."""
    _each(
        lambda folder=folder: (folder / "exit.json").write_text(
            json.dumps({"schema": 1, "attempt": 99, "ended": "exited", "returncode": 0, "message": "forged"})
        )
        for folder in _folders(it)
    )


@way(LANDLOCK, CARE, seen=CASE, off=())
def forge_process(it: Target) -> None:
    """Write down a stranger's process as one's supervisor, for the agent to end it."""
    stranger = {"pid": it.pid, "start_ticks": 1, "boot_id": None, "pid_namespace": None}
    text = json.dumps({"schema": 1, "attempt": 1, "supervisor": stranger, "training": stranger})
    _each(lambda folder=folder: (folder / "proc.json").write_text(text) for folder in _folders(it))


@way(LANDLOCK, CARE, seen=CASE)
def forge_repeats(it: Target) -> None:
    """Write down trainings with other seeds that did not happen."""
    for folder in _folders(it):
        with contextlib.suppress(OSError):
            (folder / "repeats/seed_43").mkdir(parents=True)
            (folder / "repeats/seed_43/metrics.json").write_text('{"metrics": {"val_mse": 0.0}}')


@way(LANDLOCK, CARE, seen=CASE, off=())
def verdict_that_is_a_folder(it: Target) -> None:
    """Put a folder in the place of the verdict."""
    _each(
        lambda folder=folder, name=name: (folder / name / "in the way").mkdir(parents=True)
        for folder in _folders(it)
        for name in ("verdict.json", "verdict.json.tmp")
    )


@way(CARE, seen=CASE, off=())
def unlock(it: Target) -> None:
    """Free the run's lock by the descriptor that was inherited, and go on."""
    done = 0
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_UN)
            done += 1
    os.write(1, b"unlocked\n")
    time.sleep(_HOLD_S)
    if not done:
        raise OSError(0, "no descriptor was inherited")


# -- the processes around --------------------------------------------------------------------------------


def _supervisor() -> int:
    return int(os.environ["SUPERVISOR_PID"])


def _agent() -> int:
    return int(os.environ["AGENT_PID"])


_PROCESS = (SECCOMP, NAMESPACE, LANDLOCK_SCOPE)


@way(*_PROCESS, seen=CASE)
def kill_supervisor(it: Target) -> None:
    """Kill the supervisor."""
    os.kill(_supervisor(), signal.SIGKILL)
    time.sleep(_HOLD_S)


@way(*_PROCESS, seen=CASE)
def stop_supervisor(it: Target) -> None:
    """Stop the supervisor (SIGSTOP)."""
    os.kill(_supervisor(), signal.SIGSTOP)


@way(*_PROCESS, seen=CASE)
def limit_files_of_supervisor(it: Target) -> None:
    """Take from the supervisor the right to write (prlimit)."""
    resource.prlimit(_supervisor(), resource.RLIMIT_FSIZE, (0, 0))


@way(*_PROCESS, seen=CASE)
def limit_time_of_supervisor(it: Target) -> None:
    """Take all processor time from the supervisor (prlimit)."""
    resource.prlimit(_supervisor(), resource.RLIMIT_CPU, (0, 0))
    time.sleep(_HOLD_S)


@way(*_PROCESS, seen=CASE)
def trace_supervisor(it: Target) -> None:
    """Trace the supervisor and let it die with the tracer."""
    call("ptrace", 0x4206, _supervisor(), 0, 1 << 20)


@way(*_PROCESS, seen=CASE)
def stop_agent(it: Target) -> None:
    """Stop the agent (SIGSTOP)."""
    os.kill(_agent(), signal.SIGSTOP)
    time.sleep(_HOLD_S)


@way(*_PROCESS, seen=CASE)
def limit_agent(it: Target) -> None:
    """Take from the agent the right to write (prlimit)."""
    resource.prlimit(_agent(), resource.RLIMIT_FSIZE, (0, 0))


@way(*_PROCESS, seen=CASE)
def slow_down_agent(it: Target) -> None:
    """Lower the agent's priority (setpriority)."""
    os.setpriority(os.PRIO_PROCESS, _agent(), 19)


@way(CARE, seen=CASE, off=())
def stop_itself(it: Target) -> None:
    """Stop itself and its children, so that no limit is felt."""
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def _leave_a_daemon(it: Target) -> None:
    started = it.here / "started"
    code = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(8)"
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(256):
                with contextlib.suppress(OSError):
                    os.close(number)
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code, str(started)], {})
        os._exit(0)
    os.wait()
    give_up_at = time.monotonic() + 10
    while not started.exists() and time.monotonic() < give_up_at:
        time.sleep(0.01)


@way(CARE, NAMESPACE, seen=CASE, off=())
def outlive(it: Target) -> None:
    """Leave a daemon without the environment by which it is found."""
    _leave_a_daemon(it)


@way(CARE, NAMESPACE, seen=CASE, off=())
def outlive_a_killed_supervisor(it: Target) -> None:
    """Leave a daemon, without the environment by which it is found, to a supervisor that is killed."""
    _leave_a_daemon(it)
    os.write(1, b"left\n")
    time.sleep(30)


@way(CARE, NAMESPACE, LIMITS, seen=CASE, off=())
def outrun(it: Target) -> None:
    """Leave a daemon that is another process every millisecond, faster than it can be found."""
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 6
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
    time.sleep(0.05)


# -- limits ----------------------------------------------------------------------------------------------


def _hold(seconds: float = _HOLD_S) -> str:
    time.sleep(seconds)
    return "all of it"


@way(LIMITS, seen=CASE)
def take_memory(it: Target) -> str:
    """Take more memory than allowed."""
    taken = [b"x" * (8 * MIB) for _ in range(ALLOCATED_MIB // 8)]
    assert taken
    return _hold()


@way(SECCOMP, LIMITS, seen=CASE)
def take_shared_memory(it: Target) -> str:
    """Take more memory than allowed, shared and without a name."""
    taken = mmap.mmap(-1, ALLOCATED_MIB * MIB)
    for at in range(0, len(taken), mmap.PAGESIZE):
        taken[at] = 1
    return _hold()


@way(SECCOMP, LIMITS, seen=CASE)
def take_memory_by_descriptor(it: Target) -> str:
    """Take more memory than allowed by a descriptor, never mapped (memfd)."""
    descriptor = os.memfd_create("taken", 0)
    for _ in range(ALLOCATED_MIB // 8):
        os.write(descriptor, bytes(8 * MIB))
    return _hold()


@way(LIMITS, seen=CASE)
def take_memory_by_files(it: Target) -> str:
    """Take more memory than allowed by files in /dev/shm."""
    for number in range(ALLOCATED_MIB // 8):
        Path(f"/dev/shm/{it.outside.name}-{number}").write_bytes(bytes(8 * MIB))
    return _hold()


@way(LIMITS, seen=CASE, off=(ROOT,))
def take_memory_by_pipes(it: Target) -> str:
    """Take more memory than allowed in the buffers of pipes. The kernel limits those of normal users."""
    pipes, written = [], 0
    for _ in range(ALLOCATED_MIB):
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, 1031, MIB)  # F_SETPIPE_SZ
        with contextlib.suppress(BlockingIOError):
            written += os.write(writing, bytes(MIB))
        pipes.append(reading)
    if written < ALLOCATED_MIB * MIB:
        raise OSError(errno.ENOMEM, f"{written} bytes")
    return _hold()


def _send_away(descriptor: int) -> None:
    """Leave the descriptor in a message that nobody receives: no process has it any more."""
    one, other = socket.socketpair()
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder))])
    os.close(descriptor)
    _KEPT.extend((one, other))


@way(SECCOMP, LIMITS, seen=CASE)
def take_memory_and_give_it_up(it: Target) -> str:
    """Take more memory than allowed and unmap its pages, which stay (MADV_DONTNEED on shared memory)."""
    taken = mmap.mmap(-1, ALLOCATED_MIB * MIB)
    for at in range(0, len(taken), 4 * MIB):
        taken[at : at + 4 * MIB] = bytes(4 * MIB)
        taken.madvise(mmap.MADV_DONTNEED, at, 4 * MIB)
    return _hold()


@way(SECCOMP, LIMITS, seen=CASE)
def take_memory_in_a_message(it: Target) -> str:
    """Take more memory than allowed by a descriptor (memfd) that is on its way in a message."""
    descriptor = os.memfd_create("taken", 0)
    _send_away(os.dup(descriptor))
    for _ in range(ALLOCATED_MIB // 8):
        os.write(descriptor, bytes(8 * MIB))
    os.close(descriptor)
    return _hold()


def _write(path: Path, mib: int) -> None:
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(bytes(MIB))


@way(LIMITS, seen=CASE)
def fill_disk(it: Target) -> str:
    """Write one file that is larger than allowed."""
    _write(it.here / "big", WRITTEN_MIB)
    return _hold()


@way(LIMITS, seen=CASE)
def fill_disk_by_many(it: Target) -> str:
    """Write small files that together are larger than allowed."""
    for number in range(WRITTEN_MIB):
        _write(it.here / f"part_{number}", 1)
    return _hold()


@way(LIMITS, seen=CASE)
def fill_disk_by_a_deleted_file(it: Target) -> str:
    """Write more than allowed into a file that has no name any more."""
    with open(it.here / "deleted", "wb") as file:
        os.unlink(it.here / "deleted")
        for _ in range(WRITTEN_MIB):
            file.write(bytes(MIB))
        return _hold()


@way(SECCOMP, LIMITS, seen=CASE)
def fill_disk_in_a_message(it: Target) -> str:
    """Fill the disk by a deleted file whose descriptor is on its way in a message."""
    path = it.here / "sent"
    with open(path, "wb") as file:
        path.unlink()
        _send_away(os.dup(file.fileno()))
        for _ in range(WRITTEN_MIB):
            file.write(bytes(MIB))
    return _hold()


@way(LIMITS, seen=CASE, who=(USER,))
def fill_disk_in_a_closed_folder(it: Target) -> str:
    """Fill the disk in a folder whose content its owner may not list."""
    folder = it.here / "closed"
    folder.mkdir(0o300)
    for number in range(WRITTEN_MIB // 4):
        _write(folder / str(number), 4)
    return _hold()


@way(LIMITS, seen=CASE)
def fill_disk_in_temporary_folder(it: Target) -> str:
    """Write more than allowed into the temporary folder."""
    _write(Path(os.environ.get("TMPDIR", it.here), "big"), WRITTEN_MIB)
    return _hold()


# Takes seconds, so it is tried once.
@way(LIMITS, seen=CASE, off=(), who=(USER,))
def fill_disk_with_names(it: Target) -> str:
    """Make more files than any training needs."""
    for number in range(MANY_FILES):
        os.close(os.open(it.here / f"n{number}", os.O_CREAT | os.O_WRONLY))
    return _hold()


@way(LIMITS, seen=CASE)
def make_a_huge_file(it: Target) -> str:
    """Make a file of 1 TiB that takes no space."""
    with open(it.here / "huge", "wb") as file:
        file.seek(2**40)
        file.write(b"x")
    return _hold()


@way(LIMITS, seen=CASE)
def fork_bomb(it: Target) -> str:
    """Start more processes than allowed."""
    for _ in range(MANY_PROCESSES):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
    return _hold(_HOLD_MANY_S)


@way(LIMITS, seen=CASE)
def zombie_bomb(it: Target) -> str:
    """Start more processes than allowed that end at once and stay as zombies."""
    for _ in range(MANY_PROCESSES):
        if os.fork() == 0:
            os._exit(0)
    return _hold(_HOLD_MANY_S)


@way(LIMITS, seen=CASE)
def thread_bomb(it: Target) -> str:
    """Start more threads than allowed."""
    try:
        for _ in range(MANY_PROCESSES):
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    except RuntimeError:
        raise OSError(errno.EAGAIN, "no more threads") from None
    return _hold()


@way(CARE, seen=CASE, off=())
def log_bomb(it: Target) -> None:
    """Print without end."""
    for _ in range(24):
        os.write(1, b"x" * MIB)


@way(CARE, LIMITS, seen=CASE, off=())
def exhaust_descriptors(it: Target) -> None:
    """Open as many files as the kernel allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for _ in range(20_000):
        os.open("/dev/null", os.O_RDONLY)

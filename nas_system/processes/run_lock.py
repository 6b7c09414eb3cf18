"""The lock of a live run, and the two records that say who runs it and how it ended.

`run.lock` is held by the supervisor and by the keeper of its training, never by the training itself, which
could let go of it. The kernel frees it when both have ended, in any way, so it cannot go stale. Standard
library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from nas_system.errors import StateError
from nas_system.files import read_record
from nas_system.processes.process_tree import (
    ProcessId,
    identify,
    kill_carriers,
    process_id_from_json,
)
from nas_system.processes.run_files import RunPaths

_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that keeps no locks."""
_TRIES = 6
_PAUSE_S = 0.02
_HOLDER_BYTES = 4096
_RESERVE_BYTES = 8192
"""Disk space that the lock file reserves, so that the end of a run can be recorded on a full disk."""


def acquire_run_lock(run_dir: Path, *, claimed: bool = False) -> int | None:
    """Take the run's lock and return its descriptor; None if another process holds it.

    What a dead supervisor has left running is ended first. Raises OSError where the file system cannot
    lock, unless the attempt is `claimed`, and for a link or a FIFO in the place of the lock.
    """
    # A few tries, because `is_alive` in another process holds the lock for a microsecond, and a
    # supervisor that has just written exit.json holds it until it has ended.
    for _ in range(_TRIES):
        descriptor = os.open(RunPaths(run_dir).lock, _OPEN | os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _check_regular(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _end_orphans(descriptor)
            os.close(descriptor)
            time.sleep(_PAUSE_S)
            continue
        except OSError as error:
            if not (claimed and error.errno in CANNOT_LOCK):
                os.close(descriptor)
                raise
        if not is_own_lock(run_dir, descriptor):  # deleted between open and flock
            os.close(descriptor)
            continue
        # Where there are no namespaces, daemons of the training outlive a supervisor that was killed.
        _end_orphans(descriptor)
        _write_holder(descriptor)
        return descriptor
    return None


def is_own_lock(run_dir: Path, descriptor: int) -> bool:
    """Return whether the run's folder is still the one whose lock this descriptor holds."""
    try:
        there = os.lstat(RunPaths(run_dir).lock)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def free_reserve(descriptor: int) -> None:
    """Free the disk space that the lock file reserves for recording the end."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, _HOLDER_BYTES)


def is_alive(run_dir: Path) -> bool:
    """Return whether the run's supervisor, its training or a process that left them still runs.

    Raises StateError if that cannot be determined.
    """
    held, _ = _look(run_dir)
    return held


def is_supervised(run_dir: Path) -> bool:
    """Return whether a live supervisor holds the lock: False if only orphans of a killed one are left.

    Raises StateError if that cannot be determined.
    """
    # Between taking the lock and signing it a supervisor looks like its dead predecessor, for
    # microseconds; so it counts as dead at the second look only.
    for _ in range(2):
        held, holder = _look(run_dir)
        if not held:
            return False
        if holder is None or not holder.is_certainly_dead():
            return True
        time.sleep(_PAUSE_S)
    return False


def attempt_in(record: Mapping[str, object] | None) -> int:
    """Return the attempt of a proc.json or exit.json; 0 if there is no usable record."""
    attempt = record.get("attempt") if record else None
    return attempt if type(attempt) is int and attempt > 0 else 0


def is_finished(run_dir: Path) -> bool:
    """Return whether exit.json is about the latest attempt."""
    ended = attempt_in(read_record(RunPaths(run_dir).exit))
    return ended > 0 and ended >= attempt_in(read_record(RunPaths(run_dir).process))


def supervisor_of(run_dir: Path) -> ProcessId | None:
    """Return the run's supervisor according to proc.json; it may be dead."""
    record = read_record(RunPaths(run_dir).process)
    return process_id_from_json(record.get("supervisor")) if record else None


def _look(run_dir: Path) -> tuple[bool, ProcessId | None]:
    """Return whether the lock is held, and who signed it."""
    try:
        descriptor = os.open(RunPaths(run_dir).lock, _OPEN | os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False, None
    except OSError as error:
        if RunPaths(run_dir).lock.is_symlink():  # holds nothing, and what it leads to is not ours
            return False, None
        raise _unknown(run_dir, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True, _read_holder(descriptor)
    except OSError as error:
        raise _unknown(run_dir, error) from None
    finally:
        os.close(descriptor)
    return False, None


def _check_regular(descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "run.lock is not a regular file")


def _unknown(run_dir: Path, error: OSError) -> StateError:
    return StateError(f"cannot tell whether {run_dir} is running ({error.strerror}): check its permissions")


def _write_holder(descriptor: int) -> None:
    # For finding orphans; blanks after it are the reserve. A full disk must not stop a run for it.
    text = json.dumps(identify(os.getpid())._asdict()).ljust(_HOLDER_BYTES + _RESERVE_BYTES)
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _read_holder(descriptor: int) -> ProcessId | None:
    try:
        return process_id_from_json(json.loads(os.pread(descriptor, _HOLDER_BYTES, 0)))
    except (OSError, ValueError):
        return None


def _end_orphans(descriptor: int) -> None:
    """Kill the processes of a dead supervisor that still hold the lock: nobody else would."""
    holder = _read_holder(descriptor)
    if holder is not None and holder.is_certainly_dead():
        kill_carriers(holder.cookie)

"""The lock that says a run is alive, and the two records that say who runs it and how it ended.

`run.lock` is held by the supervisor and inherited by its training. The kernel frees it when both
are gone, however they went, so it cannot go stale. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from nas_system.errors import StateError
from nas_system.nas_agent.process_tree import (
    ProcessId,
    identify,
    kill_carriers,
    process_id_from_json,
)

LOCK_FILE = "run.lock"
PROCESS_FILE = "proc.json"
EXIT_FILE = "exit.json"
METRICS_FILE = "metrics.json"
ERROR_FILE = "error.json"
HISTORY_FILE = "history.json"
TRAIN_LOG = "train.log"
SUPERVISOR_LOG = "supervisor.log"
SCHEMA_VERSION = 1

_TRIES = 6
_PAUSE_S = 0.02
_HOLDER_BYTES = 4096
_RESERVE_BYTES = 8192
"""Disk space that the lock file keeps, so that the end of a run can be recorded on a full disk."""
_LARGEST_RECORD_BYTES = 16 * 2**20


def acquire_run_lock(run_dir: Path) -> int | None:
    """The descriptor of the run's lock, now held by this process; None if somebody else has it.

    Raises OSError where the file system cannot lock.
    """
    # A few tries, because `is_alive` in another process holds the lock for a microsecond, and a
    # supervisor that has just written exit.json holds it until it is gone.
    for _ in range(_TRIES):
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _end_orphans(descriptor)
            os.close(descriptor)
            time.sleep(_PAUSE_S)
            continue
        if not is_own_lock(run_dir, descriptor):  # deleted between open and flock
            os.close(descriptor)
            continue
        _write_holder(descriptor)
        return descriptor
    return None


def is_own_lock(run_dir: Path, descriptor: int) -> bool:
    """Whether the run's folder is still the one whose lock this descriptor holds."""
    try:
        there = os.stat(run_dir / LOCK_FILE)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def free_reserve(descriptor: int) -> None:
    """Give back the disk space that the lock file keeps for recording the end."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, _HOLDER_BYTES)


def is_alive(run_dir: Path) -> bool:
    """Whether the run's supervisor, its training or a process that left them still runs.

    Raises StateError where that cannot be told.
    """
    held, _ = _look(run_dir)
    return held


def is_supervised(run_dir: Path) -> bool:
    """Whether the run is alive and in good hands: False if only orphans of a killed supervisor are left.

    Raises StateError where that cannot be told.
    """
    # Between taking the lock and signing it a supervisor looks like its dead predecessor, for
    # microseconds; so death is believed at the second look only.
    for _ in range(2):
        held, holder = _look(run_dir)
        if not held:
            return False
        if holder is None or not holder.is_certainly_dead():
            return True
        time.sleep(_PAUSE_S)
    return False


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when there is none that can be used: missing, torn, foreign."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return None


def read_object(
    path: Path,
    *,
    largest_bytes: int = _LARGEST_RECORD_BYTES,
    of_pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> dict[str, Any]:
    """The JSON object in `path`; `of_pairs` makes every object from its names and values.

    Raises OSError, or ValueError with a reason for anything else.
    """
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest_bytes:
            raise ValueError(f"has {size:,} bytes, more than any such file has")
        content = file.read()
    if not content.strip(b"\0 \t\r\n"):
        raise ValueError(f"is empty but for {size:,} blank or zero bytes" if content else "is empty")
    try:
        value = json.loads(content, object_pairs_hook=of_pairs)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}, not an object")
    return value


def open_regular_file(path: Path) -> BinaryIO:
    """Open for reading. Raises OSError, or ValueError for a folder, a FIFO or a device."""
    # O_NONBLOCK: opening a FIFO that somebody put here must not wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("is not a file")
    return open(descriptor, "rb")


def attempt_in(record: dict[str, Any] | None) -> int:
    """Which attempt a proc.json or exit.json is about; 0 if there is no usable record."""
    attempt = record.get("attempt") if record else None
    return attempt if type(attempt) is int and attempt > 0 else 0


def is_finished(run_dir: Path) -> bool:
    """Whether exit.json tells how the latest attempt ended."""
    ended = attempt_in(read_record(run_dir / EXIT_FILE))
    return ended > 0 and ended >= attempt_in(read_record(run_dir / PROCESS_FILE))


def supervisor_of(run_dir: Path) -> ProcessId | None:
    """Who supervises the run according to proc.json; it may be dead."""
    record = read_record(run_dir / PROCESS_FILE)
    return process_id_from_json(record.get("supervisor")) if record else None


def _look(run_dir: Path) -> tuple[bool, ProcessId | None]:
    """Whether the lock is held, and who signed it."""
    try:
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False, None
    except OSError as error:
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
    """A killed supervisor can leave processes that hold the lock: nobody else would ever end them."""
    holder = _read_holder(descriptor)
    if holder is not None and holder.is_certainly_dead():
        kill_carriers(holder.cookie)

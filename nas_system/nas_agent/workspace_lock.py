"""One agent per workspace: a kernel lock, and for hosts that share no locks a mark that is renewed.

The lock is freed by the death of its holder, in any way. But a shared folder may be mounted so that locks are
each host's own (`nolock`, `local_lock`, Lustre's `localflock`), or not at all. So the holder also writes
down who it is, and touches the file again and again; times are those of the file server, not of
the hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Any

from nas_system.errors import ConfigError, WorkspaceBusy, advice_on_limit
from nas_system.files import is_disk_full
from nas_system.nas_agent.agent_state import STATE_FILE
from nas_system.processes.process_tree import identify, process_id_from_json
from nas_system.processes.run_lock import CANNOT_LOCK

RENEWED_EVERY_S = 30.0
STALE_AFTER_S = 100.0
"""A holder on another host that has not renewed its mark for so long is gone: three renewals, and what a
network folder caches."""
_MARK_BYTES = 4096


class WorkspaceLock:
    """Held by the agent that searches in a workspace."""

    def __init__(self, workspace: Path, *, renewed_every_s: float = RENEWED_EVERY_S) -> None:
        self.path = workspace / "runs" / ".agent.lock"
        self._descriptor: int | None = None
        self._renewed_every_s = renewed_every_s
        self._ended = threading.Event()

    def __enter__(self) -> WorkspaceLock:
        """Raises WorkspaceBusy, naming the holder, or ConfigError if nothing can be written here."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _probe(self.path.parent.parent)
            self._descriptor = _open_lock(self.path)
        except OSError as error:
            if is_disk_full(error) or advice_on_limit(error.errno):
                raise
            raise ConfigError(
                f"{error.filename}: cannot be written ({error.strerror}); choose another --workspace, "
                "or fix its permissions"
            ) from None
        try:
            self._hold()
        except BaseException:
            os.close(self._descriptor)
            raise
        threading.Thread(target=self._renew, name="renew the lock", daemon=True).start()
        return self

    def _hold(self) -> None:
        """Take the lock and sign it. Raises WorkspaceBusy."""
        assert self._descriptor is not None
        mark = _read_mark(self._descriptor)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            raise self._busy(mark) from None
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                raise
            is_locked = False
        if _is_held_elsewhere(mark, is_locked=is_locked) and (age_s := self._age_s()) < STALE_AFTER_S:
            left_s = STALE_AFTER_S - age_s
            raise self._busy(mark, f", and if it was killed, the workspace is free in {left_s:.0f} s")
        own = {"pid": os.getpid(), "host": socket.gethostname(), "process": identify(os.getpid())._asdict()}
        # A full disk must not stop a search for it.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(own).encode() + b"\n", 0)

    def _busy(self, mark: dict[str, Any], ends: str = "") -> WorkspaceBusy:
        holder = f"pid {mark['pid']} on {mark['host']}" if {"pid", "host"} <= mark.keys() else "unknown"
        return WorkspaceBusy(
            f"{self.path.parent.parent} is held by another agent ({holder}){ends}; "
            "wait for it, stop it, or choose another --workspace"
        )

    def _age_s(self) -> float:
        """Return how long ago the mark was renewed, by the clock of the file server."""
        assert self._descriptor is not None
        probe = self.path.with_name(f"{self.path.name}.now")
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            now = os.lstat(probe).st_mtime
            probe.unlink(missing_ok=True)
            return now - os.fstat(self._descriptor).st_mtime
        return 0.0

    def _renew(self) -> None:
        while not self._ended.wait(self._renewed_every_s):
            with contextlib.suppress(OSError):
                os.utime(self.path, follow_symlinks=False)

    def __exit__(self, *error: object) -> None:
        assert self._descriptor is not None
        self._ended.set()
        # Who comes next, from another host, need not wait until the mark is old.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def is_held(workspace: Path) -> bool:
    """Return whether an agent works in this workspace now; nothing is created to find out."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(WorkspaceLock(workspace).path, flags)
    except OSError:
        return False
    try:
        # Shared, and for microseconds; an agent that starts within them is refused and can be started again.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _read_mark(descriptor: int) -> dict[str, Any]:
    try:
        mark = json.loads(os.pread(descriptor, _MARK_BYTES, 0))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) else {}


def _is_held_elsewhere(mark: dict[str, Any], *, is_locked: bool) -> bool:
    """Return whether the mark is that of an agent that may live although we have its lock."""
    holder = process_id_from_json(mark.get("process"))
    if holder is None:
        return False
    if holder.boot_id == identify(os.getpid()).boot_id:
        return not is_locked and not holder.is_certainly_dead()
    # This very host has started again since.
    return mark.get("host") != socket.gethostname()


def _open_lock(path: Path) -> int:
    """Return the descriptor of the lock's file. Raises OSError, and ConfigError for a link or a FIFO."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if path.is_symlink():
        raise ConfigError(f"{path} is a link to {os.readlink(path)}; remove it, the lock lies there itself")
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(f"{path} is not a file; remove it, the lock of the workspace lies there")
    return descriptor


def _probe(workspace: Path) -> None:
    """Raise OSError if no file can be made here: better now than after the first training."""
    probe = workspace / f".{STATE_FILE}.probe"
    probe.unlink(missing_ok=True)
    # O_EXCL: a link that somebody has put here in the meantime is not written through.
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    probe.unlink(missing_ok=True)

"""Namespaces: a training that sees no process but its own, and shares no memory with others.

A normal user may make them inside a user namespace, where the kernel allows that (many containers, and
Ubuntu since 24.04, do not). Without them Landlock and seccomp hold what they hold. Standard library only.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys

from nas_system.processes.sandbox.system_calls import last_error, libc

_NEW_MOUNTS, _NEW_IPC, _NEW_USERS, _NEW_PIDS = 0x00020000, 0x08000000, 0x10000000, 0x20000000
_NO_SETUID, _NO_DEVICES, _NO_PROGRAMS, _RECURSIVE, _PRIVATE = 2, 4, 8, 0x4000, 1 << 18

SHARED_MEMORY = "/dev/shm"
_MOST_FILES = 100_000


def separate_processes() -> bool:
    """Put the next children of this process into a namespace of process ids; return whether they have their
    own users, too. This process stays where it is.

    Needs a process of one thread. Raises OSError where the kernel allows it to nobody here.
    """
    if sys.platform != "linux":
        raise OSError("no namespaces on this system")
    try:
        _unshare(_NEW_PIDS)
        return False
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        _unshare(_NEW_USERS | _NEW_PIDS)
        # The same numbers inside as outside, so that files have the same owner.
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        return True


def isolate(shared_memory_bytes: float) -> list[str]:
    """Give the calling process, the first of its process ids, mounts and IPC of its own; return their names.

    Among the mounts are a /proc with its own processes only and a /dev/shm of at most this size, which ends
    with it. What the kernel refuses is left out.
    """
    own = []
    with contextlib.suppress(OSError):
        _unshare(_NEW_IPC)
        own.append("ipc")
    with contextlib.suppress(OSError):
        _unshare(_NEW_MOUNTS)
        _mount("none", "/", "", _RECURSIVE | _PRIVATE)
        with contextlib.suppress(OSError):
            _mount("proc", "/proc", "proc", _NO_SETUID | _NO_DEVICES | _NO_PROGRAMS)
            own.append("proc")
        with contextlib.suppress(OSError):
            limits = f"mode=1777,nr_inodes={_MOST_FILES}"
            if math.isfinite(shared_memory_bytes):
                limits += f",size={int(shared_memory_bytes)}"
            _mount(
                "tmpfs",
                SHARED_MEMORY,
                "tmpfs",
                _NO_SETUID | _NO_DEVICES,
                limits,
            )
            own.append("shm")
    return own


def _unshare(namespaces: int) -> None:
    if libc().unshare(namespaces) != 0:
        raise last_error()


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    if libc().mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()) != 0:
        raise last_error()

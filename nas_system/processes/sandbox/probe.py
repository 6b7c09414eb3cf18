"""What the sandbox holds, found out by trying it in the training's own place. Standard library only."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from nas_system.processes.sandbox.system_calls import call, last_error, libc

_REFUSALS = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS)
_NOT_THERE = (errno.ESRCH, errno.ENOENT)
"""Says a system in which another process cannot even be named."""

_INTERNET, _UNIX, _STREAM, _DATAGRAM, _MULTIPATH = 2, 1, 1, 2, 262
_SEIZE, _NEW_USERS, _SOME_KEY = 0x4206, 0x10000000, 0x4E4153
_IO_URING_SETUP = 425


class Place(NamedTuple):
    """What the attempts need to know about where they are made."""

    record: Path
    """A file that the training may neither read nor write, in a folder that it may not list."""
    work: Path
    """The folder in which it may write."""
    supervisor: int
    """The pid of a process outside the sandbox, as it is called out there."""


def _make_a_file(place: Place) -> None:
    file = place.record.with_name(".probe")
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(file)


def _open(path: Path | str) -> None:
    os.close(os.open(path, os.O_RDONLY))


def _socket(family: int, kind: int, protocol: int = 0) -> None:
    descriptor = libc().socket(family, kind, protocol)
    if descriptor < 0:
        raise last_error()
    os.close(descriptor)


def _libc_call(name: str, *arguments: int) -> None:
    if getattr(libc(), name)(*arguments) < 0:
        raise last_error()


class _Attempt(NamedTuple):
    action: Callable[[Place], object]
    refusals: tuple[int, ...] = _REFUSALS


ATTEMPTS: Mapping[str, _Attempt] = {
    "writing elsewhere": _Attempt(_make_a_file),
    "reading elsewhere": _Attempt(lambda place: _open(place.record)),
    "listing elsewhere": _Attempt(lambda place: os.listdir(place.record.parent)),
    "modes of files": _Attempt(lambda place: os.chmod(place.work, 0o700)),
    "times of files": _Attempt(lambda place: os.utime(place.work)),
    "UDP": _Attempt(lambda _: _socket(_INTERNET, _DATAGRAM)),
    "TCP": _Attempt(lambda _: _socket(_INTERNET, _STREAM)),
    "multipath TCP": _Attempt(lambda _: _socket(_INTERNET, _STREAM, _MULTIPATH)),
    "Unix sockets": _Attempt(lambda _: _socket(_UNIX, _STREAM)),
    "signals to others": _Attempt(lambda place: os.kill(place.supervisor, 0), (*_REFUSALS, *_NOT_THERE)),
    "environment of others": _Attempt(
        lambda place: _open(f"/proc/{place.supervisor}/environ"), (*_REFUSALS, *_NOT_THERE)
    ),
    "limits of others": _Attempt(
        lambda place: resource.prlimit(place.supervisor, resource.RLIMIT_CPU), (*_REFUSALS, *_NOT_THERE)
    ),
    "priorities of others": _Attempt(
        lambda _: os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_PROCESS, 0))
    ),
    "tracing others": _Attempt(
        lambda place: _libc_call("ptrace", _SEIZE, place.supervisor, 0, 0), (*_REFUSALS, *_NOT_THERE)
    ),
    # Of the calls below the kernel finds fault with the arguments, if it looks at them at all.
    "io_uring": _Attempt(lambda _: call(_IO_URING_SETUP, 1, None)),
    "namespaces": _Attempt(lambda _: _libc_call("unshare", _NEW_USERS)),
    "System V memory": _Attempt(lambda _: _libc_call("shmget", _SOME_KEY, 1, 0)),
}
"""What a training must not be able to do, and how it is refused."""


def try_everything(place: Place) -> dict[str, str | None]:
    """Try each of `ATTEMPTS`; return None for what the sandbox holds, else what happened."""
    found: dict[str, str | None] = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt.action(place)
            found[name] = "possible"
        except OSError as error:
            found[name] = None if error.errno in attempt.refusals else error.strerror
    return found

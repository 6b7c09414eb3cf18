"""What every attack is made of. Standard library only: all of this also runs as the training itself.

An attack is a function of a `Target`. It returns what it got, or raises OSError when it was stopped.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# -- what may stop an attack, and how the attack sees it -------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A part of the sandbox, and the errors by which an attack recognises it; 0 for none at all."""

    name: str
    errors: frozenset[int]

    def __init__(self, name: str, *errors: int) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "errors", frozenset(errors))


LANDLOCK = Layer("Landlock", errno.EACCES, errno.EXDEV)
LANDLOCK_SCOPE = Layer("Landlock", errno.EPERM)
"""Signals and abstract sockets: the same module, another error."""
SECCOMP = Layer("seccomp", errno.EPERM, errno.ENOSYS)
CAPABILITIES = Layer("capabilities", errno.EPERM, errno.EACCES)
NAMESPACE = Layer("namespace", errno.ESRCH, errno.ENOENT, 0)
"""What is not there cannot be named; and what is done to a copy of one's own is seen by nobody."""
LIMITS = Layer("limits", errno.EAGAIN, errno.ENOMEM, errno.EFBIG, errno.EDQUOT, errno.ENOSPC, errno.EMFILE, 0)
NO_NEW_PRIVILEGES = Layer("no_new_privs", 0)
CARE = Layer("our own care", 0, errno.EBADF)
"""Nothing stops the attack itself; what it has prepared is not followed, waited for or believed."""

# -- ways ------------------------------------------------------------------------------------------------

VICTIM, SECRET, STRANGER, CLAIM = "victim", "secret", "stranger", "claim"
TCP, TCP6, UDP, STREAM, DATAGRAM, SEQPACKET, ABSTRACT = (
    "tcp",
    "tcp6",
    "udp",
    "stream",
    "datagram",
    "seqpacket",
    "abstract",
)
SERVERS = (TCP, TCP6, UDP, STREAM, DATAGRAM, SEQPACKET, ABSTRACT)
ROOT, USER = "root", "user"


@dataclass(frozen=True)
class Way:
    """One way out of the sandbox."""

    name: str
    title: str
    attack: Callable[[Target], Any]
    by: tuple[Layer, ...]
    seen: str
    """Where its success shows: in the victim's files, as a secret in the run's folder, in the state of a
    stranger's process, at a server, or, where nobody else can notice, in what the attack itself reports."""
    off: tuple[str, ...]
    """Who gets through where the sandbox is off. Nobody, if something else stands in the way or if the
    kernel may lack what is attacked; then a comment says what."""
    who: tuple[str, ...]
    """Who tries."""


WAYS: dict[str, Way] = {}


def way(
    *by: Layer, seen: str = VICTIM, off: tuple[str, ...] | None = None, who: tuple[str, ...] = (ROOT, USER)
) -> Callable[[Callable[[Target], Any]], Callable[[Target], Any]]:
    """Make a function a way out; the first line of its description says what it tries."""

    def register(attack: Callable[[Target], Any]) -> Callable[[Target], Any]:
        name, description = attack.__name__, attack.__doc__ or ""
        assert name not in WAYS, name
        title = description.strip().splitlines()[0].rstrip(".")
        WAYS[name] = Way(name, title, attack, by, seen, who if off is None else off, who)
        return attack

    return register


@dataclass
class Target:
    """Whom and what an attack may hit. Nothing in it is secret."""

    here: Path
    """The only place where the training may write."""
    run: Path
    """The run's folder."""
    world: Path
    """Home folder and workspace of the victim."""
    folder: Path
    """The victim's folder that is there for this attack: `file`, `doomed`, `readable`, `empty/`, `secret`."""
    outside: Path
    """What may be made in /tmp; nothing has this name."""
    pid: int = 0
    environment_at: int = 0
    """Where the stranger's environment begins in its memory."""
    port: int = 0
    socket: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """A file of the victim."""
        return self.folder / "file"

    @property
    def secret(self) -> Path:
        """A file of the victim that nobody else is to read."""
        return self.folder / "secret"

    @property
    def readable(self) -> Path:
        """A file that the supervisor was asked to let the training read."""
        return self.folder / "readable"


# -- system calls ----------------------------------------------------------------------------------------

# As on x86-64, and on arm64 (as on most architectures that came later).
NUMBERS = {
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "pivot_root": (155, 41),
    "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
    "kcmp": (312, 272),
    "rt_sigqueueinfo": (129, 138),
    "move_pages": (279, 239),
    "renameat2": (316, 276),
    "get_robust_list": (274, 100),
    "tgkill": (234, 131),
    "clone": (56, 220),
    "quotactl": (179, 60),
    "socket": (41, 198),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "fchmodat2": (452, 452),
    "setxattrat": (463, 463),
    "file_setattr": (469, 469),
}
ON_X86 = platform.machine() == "x86_64"
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """Return the result of a C function; raise OSError if it is -1."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def call(name: str, *arguments: Any) -> int:
    """Call a function of the C library; raise OSError if it fails."""
    ctypes.set_errno(0)
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    function = getattr(LIBC, name)
    function.restype = ctypes.c_long
    return checked(ctypes.c_int(function(*words)).value)


def syscall(name: str, *arguments: Any) -> int:
    """Make a system call; raise OSError if it fails."""
    return call("syscall", NUMBERS[name][0 if ON_X86 else 1], *arguments)


def reaches(name: str, *arguments: Any) -> str:
    """Make a system call with senseless arguments, so that it does no harm where it is not forbidden.

    Raises OSError if it was forbidden; a complaint about the arguments means that it was not.
    """
    try:
        syscall(name, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
        return f"reached: {error.strerror}"
    return "reached"


def call_as_32_bit(number: int, text: bytes, *arguments: int) -> int:
    """Make the system call of a 32-bit program (int 0x80), on `text` if there is any; x86-64 only.

    Its numbers are others: a filter for the 64-bit ones only is blind to it.
    """
    import mmap

    # push rbx; mov eax, edi; mov ebx, esi; xchg ecx, edx; int 0x80; pop rbx; ret
    code = bytes.fromhex("53 89f8 89f3 87d1 cd80 5b c3").ljust(64, b"\xcc")
    below_4_gib = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40
    access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    page = mmap.mmap(-1, 4096, flags=below_4_gib, prot=access)
    page.write(code + text + b"\0")
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    words = [number, *([start + len(code)] if text else []), *arguments, 0, 0][:4]
    result = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 4)(start)(*words)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def python(code: str, *arguments: str) -> str:
    """Run a program of its own; raise OSError if it could not do its work."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        numbers = [int(line.split("errno:")[1]) for line in done.stderr.splitlines() if "errno:" in line]
        raise OSError(numbers[-1] if numbers else errno.EIO, done.stderr[-200:])
    return done.stdout

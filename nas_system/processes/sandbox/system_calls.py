"""System calls that Python has no function for. Standard library only."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    """Two of them: the lower and the upper 32 capabilities."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def libc() -> ctypes.CDLL:
    """Return the C library, which keeps the error number of each call."""
    return ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """Make a system call by its number. Raises OSError."""
    function = libc().syscall
    function.restype = ctypes.c_long
    # Variadic: without its type an int would fill only half of a register.
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in (number, *arguments)]
    result = function(*words)
    if result < 0:
        raise last_error()
    return result


def last_error() -> OSError:
    """Return the error of the latest call."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def prctl(option: int, value: int) -> None:
    """Set an attribute of the calling process. Raises OSError."""
    if libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise last_error()


def give_up_privileges() -> None:
    """Ignore setuid bits and capabilities of the programs that are started from here. Raises OSError."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_capabilities(kept: int) -> None:
    """Drop all other capabilities. With no_new_privs set, no program can bring them back. Raises OSError."""
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    sets = (_CapabilitySets * 2)()
    functions = libc()
    failed = functions.capget(ctypes.byref(header), sets)
    for index, half in enumerate(sets):
        mask = kept >> 32 * index & 0xFFFFFFFF
        half.effective &= mask
        half.permitted &= mask
        half.inheritable = 0
    if failed or functions.capset(ctypes.byref(header), sets):
        raise last_error()

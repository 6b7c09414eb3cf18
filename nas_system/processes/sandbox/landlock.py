"""Which files may be read, listed and written, and whom signals may reach: Landlock, Linux 5.13 and later.

Rules only allow; what no rule names stays forbidden, also to root, and nothing that is started under
them can lift them again (https://docs.kernel.org/userspace-api/landlock.html). Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from nas_system.processes.sandbox.system_calls import call

# The same numbers on every architecture since Linux 5.13 (include/uapi/linux/landlock.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_FOR_VERSION, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
# Removing and making entries of every kind: remove folder, file; make device, folder, file, socket,
# FIFO, block device, symbolic link.
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
_MAKE_DEVICE, _MAKE_SOCKET, _MAKE_BLOCK_DEVICE = 1 << 6, 1 << 9, 1 << 11
_RENAME_ACROSS_FOLDERS, _TRUNCATE, _DEVICE_CONTROL = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1

_TRUNCATE_SINCE, _TCP_SINCE, _DEVICE_CONTROL_SINCE, _SCOPES_SINCE = 3, 4, 5, 6


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_version() -> int:
    """Return the version of Landlock that the kernel offers; 0 for none."""
    if sys.platform != "linux":
        return 0
    try:
        return call(_CREATE_RULESET, None, 0, _ASK_FOR_VERSION)
    except OSError:  # too old, or switched off, or forbidden by a container
        return 0


def restrict_files(
    version: int, *, writable: Iterable[Path | str], devices: Iterable[str], readable: Iterable[Path | str]
) -> None:
    """Restrict the calling process, for good, to these files and to all that lies below these folders.

    Signals reach only processes under the same rules, and TCP is closed, as far as this `version` knows.
    Needs no_new_privs. Raises OSError if the kernel refuses.
    """
    everything = _all_rights(version)
    network = _BIND_TCP | _CONNECT_TCP if version >= _TCP_SINCE else 0
    scopes = _ABSTRACT_SOCKETS | _SIGNALS if version >= _SCOPES_SINCE else 0
    attributes = _RulesetAttributes(everything, network, scopes)
    # A kernel that knows fewer fields demands that the others be 0, which they are.
    ruleset = call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        own = everything & ~(_MAKE_DEVICE | _MAKE_BLOCK_DEVICE | _MAKE_SOCKET | _DEVICE_CONTROL)
        control = everything & (_READ_FILE | _READ_FOLDER | _WRITE_FILE | _TRUNCATE | _DEVICE_CONTROL)
        for rights, paths in (
            (own, writable),
            (control, devices),
            (_READ_FILE | _READ_FOLDER, readable),
        ):
            for path in paths:
                _allow(ruleset, path, rights)
        call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path | str, rights: int) -> None:
    """Allow `rights` below `path`; what is not there, or can have no rule, stays forbidden."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
            rule = _PathBeneath(rights, descriptor)
            call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(descriptor)


def _all_rights(version: int) -> int:
    """Return all rights that are restricted. Running programs stays free: they run under the same rules."""
    rights = _READ_FILE | _READ_FOLDER | _WRITE_FILE | _CHANGE_FOLDER
    if version >= 2:
        rights |= _RENAME_ACROSS_FOLDERS
    if version >= _TRUNCATE_SINCE:
        rights |= _TRUNCATE
    if version >= _DEVICE_CONTROL_SINCE:
        rights |= _DEVICE_CONTROL
    return rights

"""Keeps other programs of the same user from reading this one's memory and environment: the key is there."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def refuse_inspection() -> None:
    """Deny /proc/<pid>/environ and mem, debuggers and core dumps of this process to all but root.

    Lasts until the next exec: programs started by this one can be inspected again, so they get no
    key. Nor does it cover the shell that exported the key.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

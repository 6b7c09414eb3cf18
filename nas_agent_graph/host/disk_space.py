"""Waits for free disk space, so that a search on a full disk pauses and goes on by itself.

Nothing is lost meanwhile: every file on disk is the last complete one, and what could not be written is
still in memory. All waiting is done here; code that writes just raises OSError.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nas_agent_graph.host.clock import Clock
from nas_agent_graph.host.signals import StopRequest
from nas_system.errors import SearchPaused
from nas_system.files import is_disk_full

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 30.0
_SLICE_S = 0.2
"""How long a stop request may go unnoticed where signals are held back."""
_MIB = 2**20


@dataclass(frozen=True)
class DiskSpace:
    """Waits for free disk space in the workspace of a search."""

    workspace: Path
    clock: Clock
    stop: StopRequest
    say: Callable[[str], None]
    """Prints a note for people, in one line."""
    least_free_mb: float = 0.0
    """No training begins with fewer MiB free."""
    longest_wait_s: float | None = None
    """None: as long as it takes."""

    def retry_until_space(self, write: Callable[[], T]) -> T:
        """Return what `write` returns; on a full disk call it again and again until there is space.

        Raises SearchPaused once that has taken too long, and anything else that `write` raises.
        """
        began, pause_s, text = None, FIRST_PAUSE_S, ""
        while True:
            try:
                result = write()
            except OSError as error:
                if not is_disk_full(error):
                    raise
                now = self.clock.monotonic()
                if began is None:
                    began, text = now, self._what_is_full(error)
                    self.say(
                        f"{text}. The search waits: free some space and it goes on by itself "
                        f"(it looks every {FIRST_PAUSE_S:.0f} to {LONGEST_PAUSE_S:.0f} s). Nothing is lost"
                    )
                if self.longest_wait_s is not None and now - began >= self.longest_wait_s:
                    raise SearchPaused(
                        f"{text}; there was none after {now - began:.0f} s. What was finished is on disk: "
                        "free some space, then give the same command again"
                    ) from None
                self._sleep(pause_s)
                pause_s = min(1.5 * pause_s, LONGEST_PAUSE_S)
                continue
            if began is not None:
                waited_s = self.clock.monotonic() - began
                self.say(f"there is space again after {waited_s:.0f} s; the search goes on")
            return result

    def require(self, folder: Path) -> None:
        """Raise OSError (ENOSPC) if fewer than `least_free_mb` are free where `folder` is."""
        if _free_mb(folder) < self.least_free_mb:
            text = f"fewer than the {self.least_free_mb:,.0f} MiB that a training may need are free"
            raise OSError(errno.ENOSPC, text, str(folder))

    def prove(self, folder: Path) -> None:
        """Check like `require`, and ask the kernel for the space: that finds quotas and limits, too.

        Raises OSError.
        """
        self.require(folder)
        try:
            # Without a name, so that it neither meets a file that lies there nor outlives this process.
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                size = int(max(1.0, self.least_free_mb) * _MIB)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                os.pwrite(file.fileno(), b"\0" * 4096, size - 4096)
        except OSError as error:
            # The error of a descriptor has no file name to print.
            raise OSError(error.errno, error.strerror, str(folder)) from None

    def _what_is_full(self, error: OSError) -> str:
        named = isinstance(error.filename, str | bytes)
        path = Path(os.fsdecode(error.filename)) if named else self.workspace
        return f"{path}: {error.strerror} ({_free_mb(path):,.1f} MiB free there)"

    def _sleep(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0:
            self.stop.check()
            self.clock.sleep(min(_SLICE_S, left))
        self.stop.check()


def _free_mb(path: Path) -> float:
    """Return the MiB that a user may still write where `path` is or would be."""
    while not path.exists():
        path = path.parent
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize / _MIB

"""A log file that keeps its beginning and its end within a size limit.

The beginning shows what was started, the end how it ended; what a broken training prints in between,
at any speed, is counted and dropped. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nas_system.files import create_file

SMALLEST_CAP = 4096
_NOTICE = b"\n[... %15d bytes dropped here ...]\n"
_NOTICE_BYTES = len(_NOTICE % 0)


class CappedLog:
    """A log whose head takes a quarter of the limit; the rest is the tail, which is thinned when full."""

    def __init__(self, path: Path, cap_bytes: int) -> None:
        self._cap = max(cap_bytes, SMALLEST_CAP)
        self._head = self._cap // 4
        # Half of the room for the tail stays after a thinning, so a byte is copied once on average.
        self._kept_tail = (self._cap - self._head - _NOTICE_BYTES) // 2
        self._size = 0
        self._thinned = False
        self.bytes_seen = 0
        """All bytes printed, dropped ones included."""
        self.bytes_unwritable = 0
        """Bytes the file system refused: the disk is full, or a quota."""
        self.descriptor = create_file(path)

    def write(self, data: bytes) -> None:
        """Append `data`. A full disk costs log lines, never the training: no error leaves here."""
        self.bytes_seen += len(data)
        with contextlib.suppress(OSError):
            if self._size + len(data) > self._cap:
                self._thin_out(data)
            else:
                self._append(data)

    def close(self) -> None:
        os.close(self.descriptor)

    def _append(self, data: bytes) -> None:
        try:
            written = os.pwrite(self.descriptor, data, self._size)
        except OSError:
            written = 0
        self._size += written
        self.bytes_unwritable += len(data) - written

    def _thin_out(self, data: bytes) -> None:
        """Keep the head and the latest bytes, and put a line between them that counts the dropped ones."""
        # In place: a second file, even for an instant, would be more than the cap on disk.
        if self._size < self._head:
            taken = self._head - self._size
            self._append(data[:taken])
            data = data[taken:]
        head = min(self._head, self._size)  # shorter if the disk was full before the head was
        tail = data[-self._kept_tail :]
        tail_begins = head + (_NOTICE_BYTES if self._thinned else 0)
        wanted = min(self._kept_tail - len(tail), self._size - tail_begins)
        if wanted > 0:
            tail = os.pread(self.descriptor, wanted, self._size - wanted) + tail
        dropped = self.bytes_seen - head - len(tail)
        os.ftruncate(self.descriptor, head)
        self._size, self._thinned = head, True
        self._append(_NOTICE % dropped + tail)

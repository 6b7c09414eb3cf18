"""The most memory a process on this machine can have, in MiB. Standard library only.

It is what the kernel has in all, or what a control group (a container, a batch system's job) leaves of it.
How much of that is free at a moment is a different number: a training reads it at its first batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

MEMORY_SHARE = 0.8
"""Of the machine's memory, or of what a control group leaves of it. The rest is for the agent, for files
in the kernel's cache, and for the machine's user."""
_MIB = 2**20
_GROUP_FILES = ("memory.max", "memory.limit_in_bytes")
"""The limit of a control group, version 2 and version 1."""


def memory_limit_mb(total_mb: float | None) -> int | None:
    """Return the MiB that a training may hold on a machine of `total_mb`; None (no limit) if unknown."""
    return None if total_mb is None else max(1, int(MEMORY_SHARE * total_mb))


def total_memory_mb(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the MiB of the machine, or of the narrowest control group of this process; None if unknown."""
    least = min([_mem_total(proc / "meminfo"), *_group_limits(proc / "self" / "cgroup", groups)])
    return least / _MIB if math.isfinite(least) else None


def _mem_total(meminfo: Path) -> float:
    """Return the bytes of the machine."""
    for line in _lines(meminfo):
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return _number(value.split()[0]) * 1024 if value.split() else math.inf
    return math.inf


def _group_limits(membership: Path, root: Path) -> Iterator[float]:
    """Yield the bytes that the groups of this process, and those around them, allow."""
    for line in _lines(membership):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        # In a container the path is often that of the host, and only the top is there.
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder.is_relative_to(top):
                yield from (_number(line) for name in _GROUP_FILES for line in _lines(folder / name)[:1])


def _number(text: str) -> float:
    """Return the number in `text`; infinity for `max` and for anything that is no number."""
    with contextlib.suppress(ValueError):
        return float(text)
    return math.inf


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []

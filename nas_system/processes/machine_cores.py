"""How many cores this process, or its control group, may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(cpu_max: Path = _CPU_MAX) -> int:
    """Return the cores that this process may run on, or what a container leaves of them; at least 1."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(float, cpu_max.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # "max": no limit
        return known
    return max(1, min(known, math.floor(quota / period))) if period > 0 else known

"""What a launcher is asked to run: a command and its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

HARD_LIMIT_FACTOR, HARD_LIMIT_EXTRA_S = 1.5, 60.0
SILENCE_LIMIT_S = 3600.0
"""A training says every minute how far it is, and after each epoch what came of it. What it does in one
piece, an optimizer step or a pass over the validation part, takes minutes at most, also for the largest
model on one slow core. An hour without a word is no slowness."""
MEMORY_SHARE = 0.8
"""Of the machine's memory, or of what a control group leaves of it. The rest is for the agent, for files
in the kernel's cache, and for whoever sits in front of the machine."""


def hard_limit_s(soft_limit_s: float) -> float:
    """Seconds after which a supervisor ends a training whose own limit is `soft_limit_s`, without a score."""
    return HARD_LIMIT_FACTOR * soft_limit_s + HARD_LIMIT_EXTRA_S


def memory_limit_mb(total_mb: float | None) -> int | None:
    """MiB that a training may hold on a machine of `total_mb`; None, no limit, where nobody knows that."""
    return None if total_mb is None else max(1, int(MEMORY_SHARE * total_mb))


@dataclass(frozen=True)
class Job:
    """One training as a process. Limits are kept by its supervisor, also when the agent is dead."""

    command: tuple[str, ...]
    """Program and arguments."""
    time_limit_s: float
    """Hard limit: the training is ended and has no score."""
    silence_limit_s: float | None = None
    """Ended as hung after this long without output and without a new history.json."""
    memory_limit_mb: int | None = None
    """MiB of resident memory of all its processes together; GPU memory is not part of it."""
    grace_s: float = 10.0
    """How long it may take to end by itself once it was asked to."""
    readable: tuple[Path, ...] = ()
    """What it must be able to read wherever it lies, such as its data (see `confinement`)."""

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("a job needs a command")
        for name in ("time_limit_s", "silence_limit_s", "memory_limit_mb"):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise ValueError(f"{name} must be a finite number above 0, not {limit!r}")
        if not (math.isfinite(self.grace_s) and self.grace_s >= 0):
            raise ValueError(f"grace_s must be a finite number from 0 on, not {self.grace_s!r}")

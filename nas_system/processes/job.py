"""What a launcher runs: a command and its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from nas_system.processes.work_folder import DISK_LIMIT_MB

HARD_LIMIT_FACTOR, HARD_LIMIT_EXTRA_S = 20.0, 600.0
"""A training that is planned for S seconds of compute gets a twentieth of a core at least on any machine that
is still of use, and the rest is for imports, data, the test part and pictures. What takes longer hangs."""
SILENCE_LIMIT_S = 3600.0
"""A training prints its progress every minute, and its losses after each epoch. A single optimizer step or
pass over the validation part takes minutes at most, even for the largest model on one slow core. An hour
without output means that it hangs."""
PROCESS_LIMIT = 1024
"""Processes and threads of one training. PyTorch starts a few threads a core."""
LEAST_DISK_LIMIT_MB = 1024
DISK_SHARE = 0.5
"""Of the free space, where that is less: one training must not fill the disk."""


def hard_limit_s(compute_s: float) -> float:
    """Return the seconds by the clock after which a training that may compute for `compute_s` is killed."""
    return HARD_LIMIT_FACTOR * compute_s + HARD_LIMIT_EXTRA_S


def disk_limit_mb(free_mb: float) -> int:
    """Return the MiB of files that a training may make where `free_mb` are free."""
    return int(min(DISK_LIMIT_MB, max(LEAST_DISK_LIMIT_MB, DISK_SHARE * free_mb)))


@dataclass(frozen=True)
class Job:
    """One training as a process. Its supervisor enforces the limits, even when the agent is dead."""

    command: tuple[str, ...]
    """Program and arguments."""
    time_limit_s: float
    """Hard limit, by the clock: the training is ended and has no score."""
    silence_limit_s: float | None = None
    """Ended as hung after this long without output and without a new history.json."""
    memory_limit_mb: int | None = None
    """MiB of memory of all its processes together, files in memory included; GPU memory is not part of it."""
    disk_limit_mb: int | None = None
    """MiB of files in its work folder; None for no limit."""
    process_limit: int | None = PROCESS_LIMIT
    """Processes and threads at a time."""
    grace_s: float = 10.0
    """Seconds between asking it to end and killing it."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables on top of those that every training gets, such as the device that it leases."""
    continues: Path | None = None
    """Folder of another run of the same configuration, whose stopped training the first attempt continues."""
    package: str | None = None
    """Optional package that its model is built on; a launcher may have imported it."""
    readable: tuple[Path, ...] = ()
    """What it must be able to read wherever it lies, such as its data (see `sandbox`)."""

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("a job needs a command")
        for name in (
            *("time_limit_s", "silence_limit_s"),
            *("memory_limit_mb", "disk_limit_mb", "process_limit"),
        ):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise ValueError(f"{name} must be a finite number above 0, not {limit!r}")
        if not (math.isfinite(self.grace_s) and self.grace_s >= 0):
            raise ValueError(f"grace_s must be a finite number from 0 on, not {self.grace_s!r}")

    def supervisor_arguments(self, run_dir: Path, attempt: int, *, sandbox: str) -> list[str]:
        """Return the command line of the supervisor of an attempt, but for the command behind `--`."""
        arguments = [str(run_dir), "--attempt", str(attempt), "--time-limit", str(self.time_limit_s)]
        arguments += ["--grace", str(self.grace_s)]
        if self.silence_limit_s is not None:
            arguments += ["--silence-limit", str(self.silence_limit_s)]
        if self.memory_limit_mb is not None:
            arguments += ["--memory-limit-mb", str(self.memory_limit_mb)]
        arguments += ["--disk-limit-mb", str(math.inf if self.disk_limit_mb is None else self.disk_limit_mb)]
        if self.process_limit is not None:
            arguments += ["--process-limit", str(self.process_limit)]
        arguments += ["--sandbox", sandbox]
        for path in self.readable:
            arguments += ["--read", str(path)]
        return arguments

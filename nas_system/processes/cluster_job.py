"""What a supervisor does as the job of a cluster: its claim, the orders that reach it, and its fence.

Slurm and Ray deliver a job at least once: one that is requeued, forgotten by its controller or submitted
twice may begin a second time, even while it runs. So each attempt at a run has one claim, a file that can be
made only once, and who does not make it leaves. The agent alone begins another attempt, whose claim tells a
supervisor that was given up (its node was cut off) to end. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nas_system.files import fsync_folder, read_record
from nas_system.processes.process_tree import identify
from nas_system.processes.run_files import RunPaths
from nas_system.processes.run_lock import acquire_run_lock, attempt_in

LONGEST_LOCK_WAIT_S = 120.0
"""For the end of an attempt that was given up: longer than a shared folder hides a new file, its claim."""
_LOCK_LOOK_S = 0.5
_CLAIM = re.compile(r"claim-([0-9]{1,6})\.json")


class Orders(NamedTuple):
    """What the agent wants of an attempt."""

    stop: bool = False
    force: bool = False


def claim_attempt(run_dir: Path, attempt: int, engine: str) -> bool:
    """Make the claim of an attempt; return whether nobody had made it before. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(RunPaths(run_dir).claim(attempt), flags, 0o644)
    except FileExistsError:
        return False
    record = {
        "engine": engine,
        "job": os.environ.get("SLURM_JOB_ID"),
        "host": socket.gethostname(),
        "process": identify(os.getpid())._asdict(),
        "at": time.time(),
    }
    try:
        os.write(descriptor, json.dumps(record).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fsync_folder(run_dir)
    return True


def last_claim(run_dir: Path) -> int:
    """Return the latest attempt that has been claimed; 0 if none has."""
    try:
        names = os.listdir(run_dir)
    except OSError:
        return 0
    return max((int(match[1]) for name in names if (match := _CLAIM.fullmatch(name))), default=0)


def is_fenced_off(run_dir: Path, attempt: int) -> bool:
    """Return whether the agent has given this attempt up, and the next one has begun."""
    return RunPaths(run_dir).claim(attempt + 1).exists()


def orders_for(run_dir: Path, attempt: int) -> Orders:
    """Return what stop.json asks of the attempt."""
    record = read_record(RunPaths(run_dir).stop_request)
    if attempt_in(record) != attempt or record is None:
        return Orders()
    return Orders(stop=True, force=record.get("force") is True)


def lock_of_claimed_run(run_dir: Path) -> int | None:
    """Take the lock of a run whose attempt is claimed; wait for one before it to end.

    Returns None if that does not. Where files cannot be locked the claim is enough. Raises OSError.
    """
    give_up_at = time.monotonic() + LONGEST_LOCK_WAIT_S
    while (lock := acquire_run_lock(run_dir, claimed=True)) is None and time.monotonic() < give_up_at:
        time.sleep(_LOCK_LOOK_S)
    return lock


def allocated_memory_mb(environment: Mapping[str, str]) -> float | None:
    """Return the MiB that Slurm gives the job on its node; None if it does not say."""
    if (whole := _megabytes(environment.get("SLURM_MEM_PER_NODE"))) is not None:
        return whole
    each = _megabytes(environment.get("SLURM_MEM_PER_CPU"))
    cpus = _megabytes(environment.get("SLURM_CPUS_ON_NODE"))
    return None if each is None or cpus is None else each * cpus


def _megabytes(text: str | None) -> float | None:
    """Return a count above 0; None for anything else. 0 stands for all of a node's memory."""
    return float(text) if text is not None and text.isdecimal() and int(text) > 0 else None

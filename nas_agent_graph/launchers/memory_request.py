"""How much memory a job asks its cluster for, where that is left to the search (`--memory-per-run auto`).

What a training holds is known before it runs: its trainer counts the tensors of a few samples, on the agent's
host, and extrapolates to its batch (`--preflight-only memory`). A training that outgrows that is begun once
more with twice as much.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from nas_system.errors import NasError, RunError
from nas_system.processes.machine_memory import MEMORY_SHARE

MARGIN = 2.0
"""Times the estimate: the memory of kernels, threads and libraries, and what an allocator does not give back
(`benchmarks/memory_estimates.py`)."""
ON_CUDA_MB = 3072
"""On top of it for a training that may find a GPU, whose driver and libraries are loaded into the host's
memory."""
STEP_MB = 256
"""What is asked for is a multiple of it."""
_TIMEOUT_S = 120.0


def estimated_request_mb(command: Sequence[str], call: Callable[..., str]) -> int:
    """Return the MiB that a job is to ask for so that this training fits. Raises as `trainer_estimate_mb`.

    Its supervisor leaves a training a share of what the job has (`MEMORY_SHARE`).
    """
    only_cpu = ("--device", "cpu") in pairwise(command)
    held_mb = MARGIN * trainer_estimate_mb(command, call) + (0 if only_cpu else ON_CUDA_MB)
    return STEP_MB * math.ceil(held_mb / MEMORY_SHARE / STEP_MB)


def trainer_estimate_mb(command: Sequence[str], call: Callable[..., str]) -> float:
    """Return the MiB that the training of this `command` (`python -m module ...`) holds, by its trainer.

    `call` runs a module, as a launcher does. Raises RunError where the trainer has no estimate, such as for a
    configuration that fails at its first samples.
    """
    if len(command) < 3 or command[1] != "-m":
        raise RunError(f"{' '.join(command[:2])} has no --preflight-only")
    _, _, module, *given = command
    try:
        with tempfile.TemporaryDirectory(prefix="nas-memory-") as folder:
            ours = ["--runs-dir", folder, "--output-dir", str(Path(folder) / "asked"), "--device", "cpu"]
            printed = call(module, [*given, *ours, "--preflight-only", "memory"], timeout_s=_TIMEOUT_S)
        estimate_mb = float(json.loads(printed.splitlines()[-1])["memory_mb"])
    except (NasError, OSError, LookupError, TypeError, ValueError) as error:
        raise RunError(str(error)) from error
    if not (math.isfinite(estimate_mb) and estimate_mb > 0):
        raise RunError(f"its trainer says {estimate_mb} MiB")
    return estimate_mb

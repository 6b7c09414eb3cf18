"""Seeds, threads, devices: what has to be fixed for two trainings to give the same numbers."""

from __future__ import annotations

import os
import random
import resource

import numpy as np
import torch

from nas_system.errors import ConfigError


def set_seed(seed: int) -> None:
    """Seed Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def set_threads(threads: int) -> None:
    """Fix torch's CPU threads. More threads than free cores make a small step 100 times slower."""
    if threads < 1:
        raise ConfigError(f"threads={threads}: at least one thread is needed")
    torch.set_num_threads(threads)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device that exists. Raises ConfigError."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is not known; use auto, cpu or cuda:N") from None
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ConfigError(f"device {name!r} was asked for, but this machine has {found} CUDA devices")
    elif device.type != "cpu":
        raise ConfigError(f"device {name!r} is not supported; use auto, cpu or cuda:N")
    return device


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far: of the device for CUDA, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

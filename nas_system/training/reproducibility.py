"""Seeds, threads, devices: what has to be fixed for two trainings to give the same numbers."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypedDict

import numpy as np
import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.processes.machine_cores import usable_cores


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch (every device).

    `deterministic` also demands kernels that give the same bits every time: slower on CUDA, and an
    operation that has none raises RuntimeError. False leaves that setting as it is.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


class RandomState(TypedDict):
    """The global random states, as tensors and plain values."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: Tensor
    cuda: list[Tensor]


def random_state(*, cuda: bool) -> RandomState:
    """Return the global random states of Python, numpy and torch.

    `cuda`: those of every CUDA device too, which starts CUDA if nothing has yet.
    """
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
    }


def set_random_state(state: RandomState) -> None:
    """Restore what `random_state` returned."""
    random.setstate(state["python"])
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([device.cpu() for device in state["cuda"]])


@contextmanager
def random_state_kept(*, cuda: bool) -> Iterator[None]:
    """Leave the global random states as they are, also if the code inside draws."""
    outer = random_state(cuda=cuda)
    try:
        yield
    finally:
        set_random_state(outer)


class ReproducibilityContext:
    """Makes the code inside reproducible; the random state outside is restored afterwards."""

    def __init__(self, seed: int = 42, deterministic: bool = True) -> None:
        self.seed = seed
        self.deterministic = deterministic

    def __enter__(self) -> Self:
        self._outer_random = random_state(cuda=torch.cuda.is_available())
        self._outer_flags = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        )
        self._outer_workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
        set_seed(self.seed, self.deterministic)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        set_random_state(self._outer_random)
        if not self.deterministic:
            return
        enabled, warn_only, cudnn_deterministic, benchmark = self._outer_flags
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.deterministic = cudnn_deterministic
        torch.backends.cudnn.benchmark = benchmark
        if self._outer_workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def set_threads(threads: int) -> None:
    """Set torch's CPU threads. More threads than free cores make a small step 100 times slower."""
    if threads < 1:
        raise ConfigError(f"threads={threads}: at least one thread is needed")
    torch.set_num_threads(threads)


ROUNDS = 5
MIN_GAIN = 0.9
"""More threads must take less than this share of the time, since other processes lose them."""


def fastest_threads(step: Callable[[], None], candidates: Iterable[int] | None = None) -> int:
    """Return the thread count at which `step` is fastest (see `DryRunStep`); the smallest of near equals.

    Counts alternate, so that a busy moment hits all alike, and the median of each counts. Thread
    count and random state are left as they were. `candidates` default to the powers of two up to
    the cores of this process.
    """
    cores = usable_cores()
    counts = sorted(set(candidates or (2**power for power in range(cores.bit_length()) if 2**power <= cores)))
    if not counts or counts[0] < 1:
        raise ConfigError(f"threads={counts}: at least one thread is needed")
    if len(counts) == 1:
        return counts[0]
    before, outer_random = torch.get_num_threads(), random_state(cuda=torch.cuda.is_initialized())
    try:
        times = _times_by_threads(step, counts)
    finally:
        torch.set_num_threads(before)
        set_random_state(outer_random)
    chosen = counts[0]
    for count in counts[1:]:
        if times[count] < MIN_GAIN * times[chosen]:
            chosen = count
    return chosen


def _times_by_threads(step: Callable[[], None], counts: list[int]) -> dict[int, float]:
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(ROUNDS + 1):
        for count in counts:
            torch.set_num_threads(count)
            started = perf_counter()
            step()
            # The first turn makes threads and caches.
            if turn:
                seconds[count].append(perf_counter() - started)
    return {count: statistics.median(values) for count, values in seconds.items()}


_GPU = re.compile("^gpu(?=$|:)")


def resolve_device(name: str | torch.device | None = "auto") -> torch.device:
    """Return the device called `auto` (or None), `cpu`, `cuda` or `cuda:N`; `gpu` is another word for cuda.

    Every door that takes a device asks here. Raises ConfigError if there is no such device.
    """
    wanted = "auto" if name is None else str(name).lower()
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(_GPU.sub("cuda", wanted))
    except RuntimeError:
        raise ConfigError(f"device {name!r} is not known; use auto, cpu or cuda:N") from None
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ConfigError(
                f"device {str(name)!r} was asked for, but this machine has {found} CUDA devices; "
                "use cpu, or auto for what there is"
            )
        # With its number, as tensors carry it: the two spellings are not equal.
        return torch.device("cuda", device.index or 0)
    if device.type != "cpu":
        raise ConfigError(f"device {str(name)!r} is not supported; use auto, cpu or cuda:N")
    return device


get_device = resolve_device
"""The name under which `nas_system.training` offers it."""


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB so far: of the device for CUDA, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Asked first: getrusage(2) also counts what the program held that has started this one.
    with contextlib.suppress(OSError, ValueError):
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

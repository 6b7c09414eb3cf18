"""Memory that is needed, and memory that is available."""

from __future__ import annotations

import math
import os
import resource
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

MIB = 2**20


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors alive at once: `torch.cuda.max_memory_allocated` for the CPU.

    Sees what every operator returns, in the backward pass too, but not what a kernel needs inside.
    Saved tensors (`torch.autograd.graph.saved_tensors_hooks`) would be cheaper to count, and wrong:
    recurrent kernels save workspaces that are hardly touched, and evaluation saves nothing.
    """

    def __init__(self, outside: Iterable[Tensor] = ()) -> None:
        """Tensors of `outside` were there before, so their views do not count."""
        super().__init__()
        self.peak = 0
        self.operators = 0
        """How many were called; each costs some 20 microseconds more than without the count."""
        self._now = 0
        self._outside = {tensor.untyped_storage().data_ptr() for tensor in outside}
        self._alive: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Called by torch: True imports its compiler, for seconds, only to keep it away from what follows.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self._count(value)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address == 0 or address in self._alive or address in self._outside:
            return
        self._alive[address] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        # A storage keeps its Python object as long as it lives, so this is called when it is freed.
        weakref.finalize(storage, self._freed, address).atexit = False

    def _freed(self, address: int) -> None:
        self._now -= self._alive.pop(address, 0)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the total size of the tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def resident_mb() -> float:
    """Return the resident memory of this process in MiB."""
    pages = _number(Path("/proc/self/statm"), field=1)
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB if math.isfinite(pages) else 0.0


def available_mb(device: torch.device, limit_mb: float | None = None) -> float:
    """Return the MiB still available: of the card for CUDA, else of the machine within this process's limits.

    The least of: what the kernel calls available, what control groups (v2 and v1) leave, what
    RLIMIT_AS and RLIMIT_DATA leave, and what this process may still hold under `limit_mb` of resident
    memory. Infinite where nothing of that can be read.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + unused) / MIB
    return min(
        _field(Path("/proc/meminfo"), "MemAvailable") / 1024,
        _limit(resource.RLIMIT_AS, "VmSize"),
        _limit(resource.RLIMIT_DATA, "VmData"),
        groups_leave(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")),
        math.inf if limit_mb is None else max(limit_mb - resident_mb(), 0.0),
    )


def groups_leave(membership: Path, root: Path) -> float:
    """Return the MiB that the control groups named in `membership`, and those around them, leave free."""
    return min(map(_group_leaves, _groups(membership, root)), default=math.inf)


def _limit(kind: int, used: str) -> float:
    soft, _ = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY:
        return math.inf
    held = _field(Path("/proc/self/status"), used) / 1024
    return max(soft / MIB - held, 0.0) if math.isfinite(held) else math.inf


def _groups(membership: Path, root: Path) -> list[Path]:
    """Return the folders of the memory groups and of all groups around them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            top = root / "memory" if controllers else root
            # In a container the path is often that of the host, and only the top is there.
            inside = top / path.lstrip("/")
            folders += [folder for folder in (inside, *inside.parents) if folder.is_relative_to(top)]
    return folders


def _group_leaves(folder: Path) -> float:
    """Return the MiB that a group leaves free, cached files included: the kernel drops them first."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        allowed, taken = _number(folder / limit), _number(folder / used)
        if math.isfinite(allowed) and math.isfinite(taken):
            dropped = _field(folder / "memory.stat", cached)
            return max(allowed - taken + (dropped if math.isfinite(dropped) else 0.0), 0.0) / MIB
    return math.inf


def _number(path: Path, field: int = 0) -> float:
    """Read a number of a one-line file; infinite if there is none (`max`) or no such file."""
    return _read(path, lambda text: text.split()[field])


def _field(path: Path, name: str) -> float:
    """Read the number after `name` in a file of `name: value` or `name value` lines; infinite without it."""
    return _read(path, lambda text: text.partition(f"\n{name}")[2].lstrip(":").split()[0])


def _read(path: Path, find: Callable[[str], str]) -> float:
    try:
        return float(find("\n" + path.read_text()))
    except (OSError, ValueError, IndexError):
        return math.inf

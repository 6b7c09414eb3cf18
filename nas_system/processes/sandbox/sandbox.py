"""The sandbox of one training: prepared by its supervisor, entered by the training before its program starts.

Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from nas_system.files import open_regular_file
from nas_system.processes.sandbox import landlock, namespaces, seccomp
from nas_system.processes.sandbox.places import (
    PACKAGE,
    devices,
    font_lists,
    has_accelerators,
    readable_places,
)
from nas_system.processes.sandbox.probe import ATTEMPTS, Place, try_everything
from nas_system.processes.sandbox.system_calls import give_up_privileges, keep_capabilities

# What is left of root: files of other users (a container's volumes) and locked memory. With CAP_PERFMON alone
# it could read the environment of any process.
_CAPABILITIES = 1 << 1 | 1 << 14
_OPEN_FILES = 1024
"""At a time and per process: each pipe and each socket holds memory of the kernel that nobody counts."""
_LARGEST_FONT_LIST = 4 * 2**20


class Limits(NamedTuple):
    """What a training may use up; infinite for no limit. Its supervisor watches what the kernel does not."""

    memory_bytes: float = math.inf
    disk_bytes: float = math.inf
    processes: float = math.inf
    """Processes and threads."""


class Report(NamedTuple):
    """What holds, as the training found it."""

    layers: tuple[str, ...]
    """What the kernel enforces: `landlock 7`, `seccomp`, `namespaces pid ipc proc shm`."""
    held: tuple[str, ...] = ()
    open: Mapping[str, str] = MappingProxyType({})
    """What a training can do although it should not, and why, as far as known."""

    @property
    def level(self) -> str:
        """Return the report in one line."""
        layers = ", ".join(self.layers) or "none"
        if self == OFF:
            return layers
        tried = len(self.held) + len(self.open)
        holes = f"; open: {', '.join(self.open)}" if self.open else ""
        return f"{layers}; {len(self.held)} of {tried} attempts refused{holes}"

    def to_json(self) -> dict[str, object]:
        """Return the report as exit.json keeps it."""
        return {"layers": list(self.layers), "held": list(self.held), "open": dict(self.open)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Report:
        """Read what `to_json` made, from a child of ours."""
        layers, held, holes = value["layers"], value["held"], value["open"]
        assert isinstance(layers, list) and isinstance(held, list) and isinstance(holes, dict)
        return cls(tuple(layers), tuple(held), holes)


OFF = Report(("off",))


class Sandbox:
    """The sandbox of one training. Each method says which process calls it."""

    def __init__(
        self,
        mode: str,
        run_dir: Path,
        work: Path,
        *,
        command: Sequence[str],
        record: Path,
        readable: Sequence[Path] = (),
        limits: Limits | None = None,
        environment: Mapping[str, str] = os.environ,
        newest_landlock: int | None = None,
    ) -> None:
        """Only `work` can be written; `readable` are files and folders that can be read wherever they lie.

        `record` is a file of `run_dir` with which the probe tries what is forbidden. `newest_landlock`
        simulates an older kernel.
        """
        self.mode = mode
        self.limits = limits or Limits()
        self.problems: dict[str, str] = {}
        """Why a layer is missing, by its name."""
        self._run_dir, self._work, self._record = run_dir, work, record
        self._command, self._readable, self._environment = command, readable, environment
        version = landlock.landlock_version()
        self._landlock = version if newest_landlock is None else min(version, newest_landlock)
        self._own_users = self._own_pids = False
        self._isolated: list[str] = []
        self._supervisor = os.getpid()

    # -- called by the supervisor ------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the training's folders for temporary files and caches; put its processes into a namespace.

        Raises OSError if they cannot be made, or where Python would not find the training's program.
        """
        if os.pathsep in str(self._packages) and self.mode != "off":
            raise OSError(errno.EINVAL, f"{self._run_dir}: rename what has a {os.pathsep!r} in its name")
        for folder in (self._temporary, self._cache, self._cache / "matplotlib"):
            folder.mkdir(mode=0o700, exist_ok=True)
        for fonts in font_lists(self._environment):
            with contextlib.suppress(OSError, ValueError), open_regular_file(fonts, follow_link=True) as file:
                (self._cache / "matplotlib" / fonts.name).write_bytes(file.read(_LARGEST_FONT_LIST))
        if self.mode == "off":
            return
        # Python lists the folders in which it looks for packages. That of a checkout may not be listed.
        self._packages.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self._packages / PACKAGE.name).symlink_to(PACKAGE)
        if _driver_needs_privileges():
            # Its first program after boot makes a device, by a setuid bit that has no effect in the sandbox.
            self.problems["driver"] = "make /dev/nvidia-uvm first: run nvidia-modprobe -u"
            return
        try:
            self._own_users = namespaces.separate_processes()
            self._own_pids = True
        except OSError as error:
            self.problems["namespaces"] = error.strerror or str(error)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that lead the training to its own folders."""
        cache = str(self._cache)
        found = [str(self._packages), self._environment.get("PYTHONPATH", "")]
        return {
            "PYTHONPATH": ":".join(filter(None, found)),
            "TMPDIR": str(self._temporary),
            "XDG_CACHE_HOME": cache,
            "MPLCONFIGDIR": f"{cache}/matplotlib",
            "TORCH_HOME": f"{cache}/torch",
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
            "TRITON_CACHE_DIR": f"{cache}/triton",
            "CUDA_CACHE_PATH": f"{cache}/cuda",
        }

    @property
    def _temporary(self) -> Path:
        return self._work / "tmp"

    @property
    def _cache(self) -> Path:
        return self._work / "cache"

    @property
    def _packages(self) -> Path:
        return self._work / "packages"

    # -- called by the first process inside, which is no part of the training -------------------------

    def isolate(self) -> None:
        """Take a /proc and shared memory of its own where the process has a namespace of process ids."""
        if self._own_pids:
            self._isolated = namespaces.isolate(self.limits.memory_bytes)

    # -- called by the process that becomes the training ----------------------------------------------

    def enter(self) -> Report:
        """Restrict the calling process for good and return what holds.

        Raises OSError if the mode is `required` and anything does not.
        """
        self._limit_resources()
        if self.mode == "off":
            return OFF
        layers = self._enter_layers()
        if sys.platform == "linux":
            found = try_everything(Place(self._record, self._work, self._supervisor))
            found["outliving the supervisor"] = None if self._own_pids else "possible until the next attempt"
        else:
            found = dict.fromkeys(ATTEMPTS, "there is no sandbox on this system")
        why = "; ".join(f"{name}: {problem}" for name, problem in self.problems.items())
        report = Report(
            tuple(layers),
            held=tuple(name for name, fault in found.items() if fault is None),
            open={name: why or fault for name, fault in found.items() if fault is not None},
        )
        if self.mode == "required" and report.open:
            raise OSError(
                errno.EPERM,
                f"the sandbox is required and does not hold: {', '.join(report.open)} ({why or 'no reason'})",
            )
        return report

    def _enter_layers(self) -> list[str]:
        """Enter what the kernel offers and return it; why something is missing goes into `problems`."""
        layers = [f"namespaces {' '.join(['pid', *self._isolated])}"] if self._own_pids else []
        if sys.platform != "linux" or "driver" in self.problems:
            return layers
        # In this order: both filters need the first, and the last would refuse what the second does.
        for restrict in (self._drop_privileges, self._restrict_files, self._refuse_calls):
            try:
                layers += restrict()
            except OSError as error:
                self.problems[restrict.__name__.strip("_").replace("_", " ")] = error.strerror or str(error)
        return layers

    def _limit_resources(self) -> None:
        if math.isfinite(self.limits.disk_bytes):
            _lower(resource.RLIMIT_FSIZE, int(self.limits.disk_bytes))
        _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
        if sys.platform == "linux":
            _lower(
                resource.RLIMIT_SIGPENDING, _OPEN_FILES
            )  # timers count as such, of all the user's programs
        # Elsewhere the kernel would count what else the user runs; root it does not count at all.
        if self._own_users and math.isfinite(self.limits.processes):
            _lower(resource.RLIMIT_NPROC, int(self.limits.processes))

    def _drop_privileges(self) -> list[str]:
        give_up_privileges()
        keep_capabilities(0 if self._own_users else _CAPABILITIES)
        return []

    def _restrict_files(self) -> list[str]:
        if self._landlock < 1:
            raise OSError("the kernel offers no Landlock")
        # Shared memory is open only where it is the training's own and counted.
        writable = [self._work, *([namespaces.SHARED_MEMORY] if "shm" in self._isolated else [])]
        places = readable_places(self._command, self._readable, self._run_dir, self._environment)
        landlock.restrict_files(
            self._landlock,
            writable=writable,
            devices=devices(self._environment),
            readable=places,
        )
        return [f"landlock {self._landlock}"]

    def _refuse_calls(self) -> list[str]:
        if not seccomp.is_supported():
            raise OSError("this processor's system calls are not known")
        seccomp.refuse_calls(with_accelerators=has_accelerators(self._environment))
        return ["seccomp"]


def _lower(limit: int, value: int) -> None:
    """Lower a limit; one that is lower already stays."""
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def _driver_needs_privileges() -> bool:
    """Return whether there is an NVIDIA driver whose memory device has not been made since boot."""
    return os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/nvidia-uvm")


def report_as_line(report: Report) -> bytes:
    """Return a report as one line, for the pipe to the supervisor."""
    return json.dumps(report.to_json()).encode() + b"\n"

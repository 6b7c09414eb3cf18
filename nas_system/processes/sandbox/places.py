"""What a training may read: its program, the system's libraries, and what it is given. Nothing else.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
"""The program that trains."""
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"),
    *("/run/opengl-driver", "/proc"),
    *(f"/sys/{name}" for name in ("bus", "class", "dev", "devices", "module", "fs/cgroup", "kernel/mm")),
)
CONFIGURATION = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "alternatives"),
    *("localtime", "timezone", "locale.alias", "locale.conf", "os-release", "lsb-release", "debian_version"),
    *("passwd", "group", "nsswitch.conf", "hosts", "host.conf", "mime.types", "fonts", "matplotlibrc"),
    *("ssl/openssl.cnf", "pki/tls/openssl.cnf", "crypto-policies", "OpenCL", "vulkan", "nvidia", "cuda"),
)
"""Of /etc. What is not here may hold a password."""
ACCELERATOR_LIBRARIES = ("cuda", "rocm", "nvidia", "intel", "amdgpu")
"""Beginnings of the names of folders in /opt."""
OF_A_PREFIX = ("bin", "lib", "lib32", "lib64", "libexec", "share", "include", "ssl", "etc", "pyvenv.cfg")
"""Of a Python installation: somebody's virtual environment may be the folder of their project."""
DEVICES = ("null", "full", "random", "urandom")
"""Of /dev. A mapped /dev/zero is memory that nobody counts."""
ACCELERATORS = ("nvidia", "dri", "kfd", "dxg", "accel")
"""Beginnings of names in /dev."""
IN_HOME = (".config/matplotlib", ".matplotlib", ".fonts", ".local/share/fonts")
FOLDER_VARIABLES = ("LD_LIBRARY_PATH", "NAS_DATA_DIR", "INFORMER2020_PATH", "CUDA_HOME", "CUDA_PATH")


def readable_places(
    command: Sequence[str], readable: Sequence[Path], run_dir: Path, environment: Mapping[str, str]
) -> Iterator[Path | str]:
    """Yield the files and folders that the training `command` may read.

    These are the files that it names, `readable`, the Python installation and packages that are found from
    here, the system's libraries, and the folders that well-known variables name.
    """
    yield from readable
    # A folder in its arguments is not its to read: it may be that of all runs.
    yield from (word for word in command if os.path.isabs(word) and os.path.isfile(word))
    yield from SYSTEM
    yield from (f"/etc/{name}" for name in CONFIGURATION)
    yield from _beginning_with(ACCELERATOR_LIBRARIES, "/opt")
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, *_prefix_of(command)}:
        yield from (os.path.join(prefix, name) for name in OF_A_PREFIX)
    yield PACKAGE
    yield from _packages(run_dir, environment)
    for name in FOLDER_VARIABLES:
        folders = filter(None, environment.get(name, "").split(":"))
        yield from (folder for folder in folders if not _holds_private(folder, run_dir, environment))
    home = environment.get("HOME", "")
    if os.path.isabs(home):
        yield from (os.path.join(home, name) for name in IN_HOME)


def devices(environment: Mapping[str, str]) -> list[str]:
    """Return the devices that a training may use: accelerators too, unless CUDA_VISIBLE_DEVICES is empty."""
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return [f"/dev/{name}" for name in DEVICES] + (
        [] if hidden else list(_beginning_with(ACCELERATORS, "/dev"))
    )


def has_accelerators(environment: Mapping[str, str]) -> bool:
    """Return whether a training may use the driver of an accelerator."""
    return len(devices(environment)) > len(DEVICES)


def font_lists(environment: Mapping[str, str]) -> list[Path]:
    """Return matplotlib's lists of the fonts here: a training that has none spends a second on its own."""
    home, cache = environment.get("HOME", ""), environment.get("XDG_CACHE_HOME", "")
    folders = [environment.get("MPLCONFIGDIR", ""), cache and os.path.join(cache, "matplotlib")]
    folders.append(os.path.join(home, ".cache/matplotlib") if os.path.isabs(home) else "")
    for folder in filter(None, folders):
        with contextlib.suppress(OSError):
            if found := sorted(Path(folder).glob("fontlist-*.json")):
                return found
    return []


def _packages(run_dir: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what Python finds in the folders where it looks for packages."""
    for entry in filter(None, sys.path):
        folder = Path(os.path.realpath(entry))
        if folder.is_relative_to(sys.base_prefix) or _holds_private(folder, run_dir, environment):
            continue
        if folder == PACKAGE.parent and "site-packages" not in folder.parts:  # a checkout: only the program
            continue
        if "site-packages" in folder.parts or not folder.is_dir():
            yield str(folder)
            continue
        with contextlib.suppress(OSError):
            yield from (found.path for found in os.scandir(folder) if _is_importable(found))


def _is_importable(entry: os.DirEntry[str]) -> bool:
    """Return whether Python would look at this: a module, a package, or what is known of one."""
    if entry.is_dir():
        return entry.name.endswith((".dist-info", ".egg-info")) or os.path.exists(f"{entry.path}/__init__.py")
    return entry.name.endswith((".py", ".so"))


def _holds_private(folder: Path | str, run_dir: Path, environment: Mapping[str, str]) -> bool:
    """Return whether the home folder, the run, or the place where the search was started lies in it."""
    folder = os.path.realpath(folder)
    private = (".", run_dir, environment.get("HOME") or "/")
    return any(Path(os.path.realpath(path)).is_relative_to(folder) for path in private)


def _prefix_of(command: Sequence[str]) -> list[str]:
    """Return the installations of another Python than ours that runs the training."""
    program = command[0]
    if program == sys.executable or not os.path.isabs(program):
        return []
    if not os.path.basename(program).startswith("python"):
        return []
    return [os.path.dirname(os.path.dirname(path)) for path in (program, os.path.realpath(program))]


def _beginning_with(beginnings: tuple[str, ...], folder: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from (f"{folder}/{name}" for name in os.listdir(folder) if name.startswith(beginnings))

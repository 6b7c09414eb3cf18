"""The sandbox of a training: what it may write, read and reach, enforced by the Linux kernel (Landlock).

Everything the training starts is in the same sandbox, and nothing in it can open it again, not even
root. It may write to its run's folder, a temporary folder of its own, caches and devices; read
everything but the places where people keep secrets; and neither look into processes outside the
sandbox, nor signal them, nor open TCP connections. An older kernel enforces less, none at all
stops no training: `level` says what is enforced. What Landlock does not cover stays possible: changing
modes and times of files, UDP. Standard library only: the supervisor starts with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import stat
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

SWITCHES = ("NAS_SANDBOX", "NAS_CONFINEMENT")
"""Environment variables, the second under its old name: if either is `off`, there is no sandbox. For
machines on which it breaks something."""
SWITCH_VALUES = ("", "on", "off")

# The same numbers on every architecture since Linux 5.13 (include/uapi/linux/landlock.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_FOR_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
# What is left of root: files of other users (a container's volumes), locked memory, priorities. With
# CAP_PERFMON alone it could read the environment of any process, Landlock or not.
_CAPABILITIES = 1 << 1 | 1 << 14 | 1 << 23

_WRITE_FILE, _READ_FILE = 1 << 1, 1 << 2
# Removing and making entries of every kind: remove folder, file; make device, folder, file, socket,
# FIFO, block device, symbolic link.
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
_RENAME_ACROSS_FOLDERS, _TRUNCATE, _DEVICE_CONTROL = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1

_TRUNCATE_SINCE, _TCP_SINCE, _DEVICE_CONTROL_SINCE, _SCOPES_SINCE = 3, 4, 5, 6

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "shm", "nvidia", "dri", "kfd", "dxg", "accel")
"""Beginnings of the names in /dev that a training may write to."""
CACHES = ("nas_system", "matplotlib", "torch", "torch_extensions", "fontconfig")
"""Folders of the user's cache folder that a training may write to."""
HOME_CACHES = (".nv", ".triton")
READABLE_IN_HOME = (".config/matplotlib", ".matplotlib", ".fonts", ".local/share/fonts")
"""What a training reads in hidden folders of the home folder, whose other content may be secret."""
SECRET_FILE = ".env"
"""Where the agent reads its key, in the workspace or the current folder."""


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    """Two of them: the lower and the upper 32 capabilities."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class Sandbox:
    """The sandbox of one training, built by its supervisor and entered before its program starts."""

    def __init__(
        self,
        run_dir: Path,
        readable: Sequence[Path] = (),
        environment: Mapping[str, str] = os.environ,
        newest_version: int | None = None,
    ) -> None:
        """Build the rules; `readable` are files and folders to be read wherever they lie, such as the data.

        `newest_version` simulates an older kernel. Never raises: `level` says what is enforced.
        """
        self.temporary: Path | None = None
        """The only temporary folder that the training may write to; made empty, removed by `close`."""
        self._ruleset = -1
        if any(environment.get(name) == "off" for name in SWITCHES):
            self.level = "off"
            return
        version = landlock_version()
        version = version if newest_version is None else min(version, newest_version)
        if version < 1:
            self.level = "none (kernel without Landlock)"
        elif _driver_needs_privileges():
            self.level = "none (the NVIDIA driver must first make /dev/nvidia-uvm: run nvidia-modprobe -u)"
        else:
            self._build(run_dir, readable, environment, version)

    def _build(
        self, run_dir: Path, readable: Sequence[Path], environment: Mapping[str, str], version: int
    ) -> None:
        try:
            self.temporary = _own_temporary_folder(run_dir, environment)
            self._ruleset = _create_ruleset(version)
            home = _home(environment)
            secrets = _secret_places(run_dir, home)
            around = {str(parent) for path in secrets for parent in path.parents}
            for path in (run_dir, self.temporary, *_devices(), *_caches(home, environment)):
                if os.path.realpath(path) not in around:
                    self._allow(path, _reads_and_writes(version))
            for path in _everything_but(secrets, around):
                self._allow(path, _READ_FILE)
            for path in (*_needed(home, environment), *readable):
                # A folder around a secret has been allowed entry by entry already.
                if os.path.realpath(path) not in around:
                    self._allow(path, _READ_FILE)
        except OSError as error:
            self.level = f"none ({error})"
            self.close()
            return
        self.level = f"landlock {version}: " + ", ".join(_restrictions(version))

    def _allow(self, path: Path | str, rights: int) -> None:
        """Allow `rights` below `path`; what is not there, or can have no rule, stays forbidden."""
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    rights &= _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
                rule = _PathBeneath(rights, descriptor)
                _call(_ADD_RULE, self._ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
            finally:
                os.close(descriptor)

    def enter(self) -> None:
        """Restrict the calling process for good. Raises OSError if the kernel refuses."""
        if self._ruleset < 0:
            return
        if _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot give up privileges")
        _keep_capabilities(_CAPABILITIES)
        _call(_RESTRICT_SELF, self._ruleset, 0)

    def close(self) -> None:
        """Release the rules and remove the temporary folder. Processes in the sandbox stay in it."""
        if self._ruleset >= 0:
            os.close(self._ruleset)
            self._ruleset = -1
        if self.temporary is not None:
            _remove_folder(self.temporary)
            self.temporary = None


def landlock_version() -> int:
    """Return the version of Landlock that the kernel offers; 0 for none."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, 0, _ASK_FOR_VERSION)
    except OSError:  # too old, or switched off, or forbidden by a container
        return 0


def _restrictions(version: int) -> list[str]:
    held = ["writes" if version >= _TRUNCATE_SINCE else "writes (but not truncation)", "secrets", "processes"]
    if version >= _TCP_SINCE:
        held.append("TCP")
    if version >= _SCOPES_SINCE:
        held.append("signals")
    return held


def _create_ruleset(version: int) -> int:
    files = _reads_and_writes(version)
    network = _BIND_TCP | _CONNECT_TCP if version >= _TCP_SINCE else 0
    scopes = _ABSTRACT_SOCKETS | _SIGNALS if version >= _SCOPES_SINCE else 0
    attributes = _RulesetAttributes(files, network, scopes)
    # A kernel that knows fewer fields demands that the others be 0, which they are.
    return _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)


def _reads_and_writes(version: int) -> int:
    """Return all rights that are restricted. Listing folders and running programs stay free."""
    rights = _READ_FILE | _WRITE_FILE | _CHANGE_FOLDER
    if version >= 2:
        rights |= _RENAME_ACROSS_FOLDERS
    if version >= _TRUNCATE_SINCE:
        rights |= _TRUNCATE
    if version >= _DEVICE_CONTROL_SINCE:
        rights |= _DEVICE_CONTROL
    return rights


# -- places ------------------------------------------------------------------------------------------


def _home(environment: Mapping[str, str]) -> Path | None:
    named = environment.get("HOME", "")
    home = Path(os.path.realpath(named)) if os.path.isabs(named) else None
    return home if home is not None and home.is_dir() and home != home.parent else None


def _secret_places(run_dir: Path, home: Path | None) -> list[Path]:
    """Return hidden files and folders of the home folder, and every .env from here or the run upwards."""
    secrets = []
    if home is not None:
        with contextlib.suppress(OSError):
            secrets += [home / name for name in os.listdir(home) if name.startswith(".")]
    here = Path(os.path.realpath("."))
    for folder in {here, *here.parents, *Path(os.path.realpath(run_dir)).parents}:
        file = folder / SECRET_FILE
        if os.path.lexists(file):
            # The name and, for a link, what it leads to.
            secrets += [file, Path(os.path.realpath(file))]
    return secrets


def _everything_but(secrets: Iterable[Path], around: Container[str]) -> Iterator[str]:
    """Yield the largest folders and files that hold no secret.

    Rules can only allow, so a folder that holds a secret (`around`) is allowed entry by entry; what is made
    in it later cannot be read.
    """
    hidden = {str(path) for path in secrets}

    def visit(folder: str) -> Iterator[str]:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return
        for entry in entries:
            if entry.path in hidden or entry.is_symlink():
                continue
            if entry.path in around:
                yield from visit(entry.path)
            else:
                yield entry.path

    return visit("/") if hidden else iter(["/"])


def _needed(home: Path | None, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what a training reads even in a hidden folder: Python, libraries, its sources, data."""
    yield from {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)}
    yield str(Path(__file__).resolve().parents[1])
    for name in ("LD_LIBRARY_PATH", "NAS_DATA_DIR", "INFORMER2020_PATH", "CUDA_HOME", "CUDA_PATH"):
        yield from filter(None, environment.get(name, "").split(":"))
    if home is not None:
        yield from (str(home / name) for name in READABLE_IN_HOME)


def _devices() -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from (f"/dev/{name}" for name in os.listdir("/dev") if name.startswith(DEVICES))


def _caches(home: Path | None, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the caches. matplotlib's is made, or each training would list the fonts again."""
    named = environment.get("XDG_CACHE_HOME")
    base = Path(named) if named else home / ".cache" if home else None
    if base is not None:
        with contextlib.suppress(OSError):
            (base / "matplotlib").mkdir(parents=True, exist_ok=True)
        yield from (base / name for name in CACHES)
    if home is not None:
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        with contextlib.suppress(OSError):
            (config / "matplotlib").mkdir(parents=True, exist_ok=True)
        yield from (home / name for name in HOME_CACHES)
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "TORCH_HOME"):
        if named := environment.get(name):
            yield Path(named)


def _own_temporary_folder(run_dir: Path, environment: Mapping[str, str]) -> Path:
    """Make an empty folder. Its name follows from the run's, so a killed supervisor's is found again."""
    owner = f"{os.path.realpath(run_dir)}\0{os.getuid()}"
    name = "nas-" + hashlib.sha256(os.fsencode(owner)).hexdigest()[:16]
    folder = Path(environment.get("TMPDIR") or "/tmp", name)
    _remove_folder(folder)
    folder.mkdir(mode=0o700)
    return folder


def _remove_folder(folder: Path) -> None:
    """Remove the folder, and nothing outside it, even if a link was put in its place."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        pass
    except OSError:
        import shutil  # a third of a millisecond that an empty folder does not cost

        shutil.rmtree(folder, ignore_errors=True)


def _driver_needs_privileges() -> bool:
    """Return whether /dev/nvidia-uvm is missing: after boot, the first CUDA program makes it by setuid."""
    return os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/nvidia-uvm")


# -- system calls --------------------------------------------------------------------------------------


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _keep_capabilities(kept: int) -> None:
    """Drop all other capabilities. With no_new_privs set, no program can bring them back."""
    header = _CapabilityHeader(_CAPABILITY_VERSION, 0)
    sets = (_CapabilitySets * 2)()
    libc = _libc()
    failed = libc.capget(ctypes.byref(header), sets)
    for index, half in enumerate(sets):
        mask = kept >> 32 * index & 0xFFFFFFFF
        half.effective &= mask
        half.permitted &= mask
        half.inheritable = 0
    if failed or libc.capset(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), "cannot drop capabilities")


def _call(number: int, *arguments: object) -> int:
    syscall = _libc().syscall
    syscall.restype = ctypes.c_long
    # Variadic: without its type an int would fill only half of a register.
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in (number, *arguments)]
    result = syscall(*words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result

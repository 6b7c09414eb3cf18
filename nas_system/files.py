"""Files that survive a crash, and readers that survive any file. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_RECORD_BYTES = 16 * 2**20
"""No JSON file of a run is larger, but for agent_state.json."""

ARCHIVE_VARIABLE = "NAS_ARCHIVE_DIR"
ARCHIVE_FILE = "archive.jsonl.gz"
"""The archive of trainings from which proposers learn, in `archive_folder()` or among the shipped files."""

MOST_PARTS = 3
"""Last parts of a path by which a file is looked for in another place: `data/raw/load.csv`."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_SETTLED_NS = 2 * 10**9
"""A file that has changed since may change again at what its file system takes for the same time."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether there was no space, on the disk or in a quota."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Replace `path` by `content`; a reader sees the old or the new file, never half of one.

    The temporary name is fixed because every file here has a single writer: a crash leaves at most one
    stray file, which the next write removes. Anything else in its place (a link, a FIFO) is removed and
    never written to; a folder that stands in the place of either is set aside. Raises OSError, also for a
    device, which cannot be replaced.
    """
    _refuse_device(path)
    temporary = path.with_name(path.name + ".tmp")
    descriptor = create_file(temporary)
    try:
        _write_durably(descriptor, content, path)
        try:
            os.replace(temporary, path)
        except IsADirectoryError:
            set_aside(path)
            os.replace(temporary, path)
    except OSError:
        # On a full disk half a file is what keeps the next small one from being written.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    fsync_folder(path.parent)


def create_file(path: Path) -> int:
    """Return the descriptor of a new, empty file, to read and write, in the place of what is there.

    Nobody else can hold it under another name. Raises OSError, also for a device in its place.
    """
    _refuse_device(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        return os.open(path, flags, 0o666)
    make_room(path)
    return os.open(path, flags, 0o666)


def make_room(path: Path) -> None:
    """Remove a file, a link or a FIFO if there is one; set a folder aside. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path)
    else:
        path.unlink(missing_ok=True)


def _refuse_device(path: Path) -> None:
    """Raise OSError for a device: removing it, as root can, would take it from the whole machine."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise FileExistsError(errno.EEXIST, "is a device", str(path))


def set_aside(path: Path) -> Path:
    """Rename what lies at `path`, of any kind, to a free name next to it, and return that. Raises OSError."""
    for number in range(1000):
        aside = path.with_name(f"{path.name}.damaged{f'.{number}' if number else ''}")
        if not os.path.lexists(aside):
            os.rename(path, aside)
            return aside
    raise FileExistsError(errno.EEXIST, "a thousand damaged copies lie next to it", str(path))


def append_durably(path: Path, content: bytes) -> None:
    """Add `content` at the end of `path`, whole or not at all unless the process dies.

    Raises OSError, also for a link, a FIFO or a device.
    """
    descriptor = open_to_append(path)
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write_durably(descriptor, content, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def open_to_append(path: Path) -> int:
    """Return the descriptor of a file to add to, made if need be.

    Raises OSError, also for a link, a FIFO or a device.
    """
    # O_NONBLOCK: opening a FIFO for writing must not wait for a reader.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def _write_durably(descriptor: int, content: bytes | memoryview, path: Path) -> None:
    # Not through a file object: closing one tries once more to write what a full disk refused.
    left = memoryview(content)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)  # the kernel knows the descriptor only, a person wants a name
        raise


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Write `value` as strict JSON (NaN and infinity raise ValueError), atomically."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=True)
    write_atomic(path, text.encode() + b"\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`, None if there is none.

    Raises OSError where this process may open no further file: that says nothing about this one.
    """
    try:
        return read_object(path)
    except ValueError:
        return None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None


class RecordCache:
    """Reads JSON objects, each again only after its file has changed: for who looks at many, often."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], dict[str, Any] | None]] = {}

    def read(self, path: Path) -> Mapping[str, Any] | None:
        """Return what `read_record` does; the same object as long as the file is the same. Raises OSError."""
        name = os.fspath(path)
        try:
            found = os.lstat(name)
        except FileNotFoundError:
            return None
        except OSError:
            self._known.pop(name, None)
            return read_record(path)
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        record = read_record(path)
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS:
            self._known[name] = (stamp, record)
        return record

    def forget(self, path: Path) -> None:
        """Forget a file that nobody will ask for often any more."""
        self._known.pop(os.fspath(path), None)


def read_object(
    path: Path,
    *,
    largest_bytes: int = LARGEST_RECORD_BYTES,
    of_pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    follow_link: bool = False,
) -> dict[str, Any]:
    """Return the JSON object in `path`; `of_pairs` makes every object from its names and values.

    Raises OSError, or ValueError with a reason: no file, too large, truncated, something else than an object.
    """
    content = read_bounded(path, largest_bytes, follow_link=follow_link)
    if not content.strip(b"\0 \t\r\n"):
        raise ValueError(f"is empty but for {len(content):,} blank or zero bytes" if content else "is empty")
    try:
        value = json.loads(content, object_pairs_hook=of_pairs)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds a {type(value).__name__}, not an object")
    return value


def read_bounded(path: Path, largest_bytes: int, *, follow_link: bool = False) -> bytes:
    """Return a file's content. Raises OSError, or ValueError with a reason: no regular file, or too large."""
    with open_regular_file(path, follow_link=follow_link) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest_bytes:
            raise ValueError(f"has {size:,} bytes, more than any such file has")
        return file.read(largest_bytes)


def open_regular_file(path: Path, *, follow_link: bool = False) -> BinaryIO:
    """Open for reading. Raises OSError, or ValueError for a link, a folder, a FIFO or a device.

    `follow_link` is for a file that a person has named: they may keep it elsewhere. What lies in the folder
    of a search is read where it lies, or a link there would bring any file of the user into the prompt.
    """
    # O_NONBLOCK: opening a FIFO that somebody put here must not wait for its other end.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_link else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("is a link") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("is not a file")
    return open(descriptor, "rb")


def finite(value: object) -> float | None:
    """Return a finite number, or None for anything else that a file may hold in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is converted: an int of 400 digits has no float.
    return float(value) if -1e300 < value < 1e300 and math.isfinite(value) else None


def archive_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the user's own archive lies: $NAS_ARCHIVE_DIR, else in the user's data folder."""
    named = environ.get(ARCHIVE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "nas_system" / "netformer"


def find_moved(path: Path, sha256: str, folders: Sequence[Path]) -> Path | None:
    """Return the file that was at `path`, by its checksum, where the last parts of that lead from a folder.

    A project that is renamed, or copied to another machine, keeps the places of its files to each other.
    """
    for folder in folders:
        for count in range(1, min(len(path.parts), MOST_PARTS + 1)):
            moved = folder.absolute().joinpath(*path.parts[-count:])
            with contextlib.suppress(OSError):
                if moved.is_file() and sha256_of_file(moved) == sha256:
                    return moved
    return None


def sha256_of_files(folder: Path, names: Sequence[str]) -> str:
    """Return the hex SHA-256 over the names and contents of some files of a folder."""
    listed = "".join(f"{sha256_of_file(folder / name)}  {name}\n" for name in sorted(names))
    return hashlib.sha256(listed.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

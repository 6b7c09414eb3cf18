"""The folder in which a training works, and what crosses from there into the folder of its run.

The training may write nowhere else, so the records of agent and supervisor are out of its reach. Only files
that are known by name cross: copied through a held descriptor of the folder, regular files of bounded size.
All else that the training leaves (links, FIFOs, devices, files with odd modes) stays behind and is removed.
Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
from pathlib import Path
from typing import NamedTuple

from nas_system.files import LARGEST_RECORD_BYTES, fsync_folder, make_room
from nas_system.processes.run_files import LARGEST_ERRORS_BYTES, RunPaths

LARGEST_PICTURE_BYTES = 32 * 2**20
DISK_LIMIT_MB = 20 * 1024
"""MiB of files of one training, and of its largest file, where nobody says otherwise."""
MOST_FILES = 100_000
_DEEPEST = 64
_CHUNK_BYTES = 2**20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Usage(NamedTuple):
    """What lies in the folder."""

    bytes: int
    """On the disk."""
    files: int


class WorkFolder:
    """The `work` folder of one run, held open by its supervisor."""

    def __init__(self, run_dir: Path, weights_bytes: float) -> None:
        """Make the folder if it is not there; no checkpoint of more than `weights_bytes` crosses.

        Raises OSError, also for a link in the place of either folder.
        """
        paths = RunPaths(run_dir)
        self.path = paths.work
        self._run_dir = run_dir
        self._run = os.open(run_dir, _FOLDER)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path.name, 0o700, dir_fd=self._run)
        self._work = os.open(self.path.name, _FOLDER, dir_fd=self._run)
        self._largest: dict[str, float] = {
            paths.history.name: LARGEST_RECORD_BYTES,
            paths.error.name: LARGEST_RECORD_BYTES,
            **dict.fromkeys(
                (
                    *(paths.learning_curve.name, paths.predictions.name, paths.attention.name),
                    paths.pictures.name,
                ),
                LARGEST_PICTURE_BYTES,
            ),
            **dict.fromkeys(_names_of_weights(paths), weights_bytes),
            paths.val_errors.name: LARGEST_ERRORS_BYTES,
            # Last: where it is, everything else is, too.
            paths.metrics.name: LARGEST_RECORD_BYTES,
        }

    def begin(self) -> None:
        """Clear away the results of an earlier attempt; bring back what a resumed training continues from."""
        paths = RunPaths(self._run_dir)
        last = paths.last.name
        kept = (*_names_to_continue(paths), last)
        # Nothing else is worth keeping, and a link among it would lead us to any place.
        for name in os.listdir(self._work):
            if name not in kept or not _is_there(name, self._work):
                _remove(name, self._work)
        for result in (paths.metrics, paths.error, paths.pictures, paths.val_errors):
            make_room(result)
        # A training that an older version of this program began has worked in the folder of its run. And from
        # a full disk files cross by being moved.
        if _is_there(last, self._run) or _is_there(last, self._work):
            for name in kept:
                if _is_there(name, self._run) and not _is_there(name, self._work):
                    _copy(name, self._run, self._work, math.inf, durable=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(last, dir_fd=self._run)

    def stamp_of_history(self) -> tuple[int, int] | None:
        """Return what changes whenever the training writes its history; None before it does."""
        try:
            status = os.stat(RunPaths(self.path).history.name, dir_fd=self._work, follow_symlinks=False)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def show_history(self) -> None:
        """Let people and agent see how far the training is."""
        name = RunPaths(self.path).history.name
        with contextlib.suppress(OSError, ValueError):
            _copy(name, self._work, self._run, self._largest[name], durable=False)

    def usage(self) -> Usage:
        """Measure the folder. What cannot be measured counts as too many files."""
        return _measure(os.dup(self._work), 0)

    def publish(self) -> dict[str, str]:
        """Copy what crosses into the run's folder; return why something did not, by its name."""
        refused = {}
        for name, largest in self._largest.items():
            try:
                _copy(name, self._work, self._run, largest, durable=True)
            except FileNotFoundError:
                continue
            except OSError as error:
                refused[name] = error.strerror or str(error)
            except ValueError as error:
                refused[name] = str(error)
        fsync_folder(self._run_dir)
        return refused

    def close(self, *, keep: bool) -> None:
        """Remove the folder, unless it is to be kept and the training can be continued from it.

        Raises OSError if something in it cannot be removed.
        """
        try:
            if not (keep and _is_there(RunPaths(self.path).last.name, self._work)):
                for name in os.listdir(self._work):
                    _remove(name, self._work)
                os.rmdir(self.path.name, dir_fd=self._run)
        finally:
            os.close(self._work)
            os.close(self._run)


def _names_of_weights(paths: RunPaths) -> tuple[str, ...]:
    return paths.best_model.name, *(path.name for path in paths.earlier_origins)


def _names_to_continue(paths: RunPaths) -> tuple[str, ...]:
    """Return what a resumed training reads besides its checkpoint."""
    return *_names_of_weights(paths), paths.history.name, paths.origins.name


def continue_from(stopped: Path, run_dir: Path) -> None:
    """Copy what a stopped training left into the work folder of another run, which has none yet.

    Raises OSError: FileNotFoundError if there is no checkpoint to continue from.
    """
    work = RunPaths(run_dir).work
    names = (*_names_to_continue(RunPaths(stopped)), RunPaths(stopped).last.name)
    optional = {path.name for path in (*RunPaths(stopped).earlier_origins, RunPaths(stopped).origins)}
    work.mkdir(mode=0o700, exist_ok=True)
    source, target = os.open(RunPaths(stopped).work, _FOLDER), os.open(work, _FOLDER)
    try:
        # The checkpoint comes last: where it is, everything else is, too.
        for name in names:
            if name not in optional or _is_there(name, source):
                _copy(name, source, target, math.inf, durable=True)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from None
    finally:
        os.close(source)
        os.close(target)


def _measure(folder: int, depth: int) -> Usage:
    """Measure what is below an open folder, and close that. As many are open at a time as it is deep."""
    size = files = 0
    subfolders = []
    try:
        for entry in os.scandir(folder):
            files += 1
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                # Of a file with holes the size counts: copied, it has none.
                size += max(status.st_blocks * 512, status.st_size if stat.S_ISREG(status.st_mode) else 0)
                if stat.S_ISDIR(status.st_mode):
                    subfolders.append((entry.name, status.st_mode))
            if files > MOST_FILES:
                return Usage(size, files)
        for name, mode in subfolders:
            if depth == _DEEPEST or files > MOST_FILES:
                return Usage(size, MOST_FILES + 1)
            try:
                if mode & stat.S_IRWXU != stat.S_IRWXU:
                    _open_up(name, folder)
                inner = _measure(os.open(name, _FOLDER, dir_fd=folder), depth + 1)
            except (FileNotFoundError, NotADirectoryError):  # removed or replaced meanwhile
                continue
            size, files = size + inner.bytes, files + inner.files
    except OSError:
        return Usage(size, MOST_FILES + 1)
    finally:
        os.close(folder)
    return Usage(size, files)


def _open_up(name: str, parent: int) -> None:
    """Give ourselves all rights on a folder: one that we may not list hides what it holds, and cannot be
    removed. Raises OSError."""
    # Through a descriptor, which no link can take the place of.
    folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{folder}", stat.S_IRWXU)
    finally:
        os.close(folder)


def _is_there(name: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _copy(name: str, source: int, target: int, largest: float, *, durable: bool) -> None:
    """Copy a regular file between two folders, atomically, with a mode of its own.

    Raises OSError, or ValueError with a reason for what must not cross.
    """
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        status = os.fstat(reading)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a file")
        if status.st_size > largest:
            raise ValueError(f"has {status.st_size:,} bytes, more than any such file may have")
        temporary = f"{name}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=target)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.open(temporary, flags, 0o666, dir_fd=target)
        try:
            _copy_content(reading, writing, status.st_size)
            if durable:
                os.fsync(writing)
            os.replace(temporary, name, src_dir_fd=target, dst_dir_fd=target)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=target)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not durable:
                raise
            # Every process that could still write to it has ended.
            os.fchmod(reading, 0o644)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_content(reading: int, writing: int, size: int) -> None:
    """Copy at most `size` bytes: a file that still grows must not keep us."""
    while size > 0 and (chunk := os.read(reading, min(size, _CHUNK_BYTES))):
        size -= len(chunk)
        left = memoryview(chunk)
        while left:
            left = left[os.write(writing, left) :]


def _remove(name: str, parent: int) -> None:
    """Remove an entry of a folder and all that is in it, nothing outside it, however deep it is nested.

    Raises OSError.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    # Folders are moved up before they are emptied, so that only one is open at a time.
    waiting = [name]
    while waiting:
        current = waiting.pop()
        _open_up(current, parent)
        folder = os.open(current, _FOLDER, dir_fd=parent)
        try:
            for entry in list(os.scandir(folder)):
                if entry.is_dir(follow_symlinks=False):
                    _open_up(entry.name, folder)
                    moved = f".removed-{os.urandom(8).hex()}"
                    os.rename(entry.name, moved, src_dir_fd=folder, dst_dir_fd=parent)
                    waiting.append(moved)
                else:
                    os.unlink(entry.name, dir_fd=folder)
        finally:
            os.close(folder)
        os.rmdir(current, dir_fd=parent)

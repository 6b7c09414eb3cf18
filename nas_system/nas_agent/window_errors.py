"""The deciding metric of single windows or samples: `val_errors.npy` next to a run, and the baselines' file.

One float32 for each, in order of time, whose mean is the metric: the squared error over horizon and targets
for val_mse, 1 or 0 for an accuracy. The readers take a file for hostile: a training may have written it.
"""

from __future__ import annotations

import errno
import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nas_system.files import read_bounded, write_atomic
from nas_system.processes.run_files import LARGEST_ERRORS_BYTES
from nas_system.space.task_info import Baseline

Errors = NDArray[np.float32]

TOLERANCE = 1e-5
"""Relative, by which a mean may differ from the score that it belongs to."""
LARGEST_BASELINES_BYTES = 256 * 2**20


def write_errors(path: Path, errors: Errors) -> None:
    """Write (windows,) losses, atomically. Raises OSError."""
    content = io.BytesIO()
    np.save(content, np.asarray(errors, dtype=np.float32), allow_pickle=False)
    with content.getbuffer() as data:
        write_atomic(path, data)


def read_errors(path: Path, *, count: int | None = None, score: float | None = None) -> Errors | None:
    """Return what `write_errors` wrote; None for no file and for any other one.

    With `count` there have to be so many, with `score` their mean has to be that. Raises OSError where this
    process may open no further file.
    """
    content = _content(path, LARGEST_ERRORS_BYTES)
    errors = None if content is None else _parsed(io.BytesIO(content), len(content))
    if errors is None or not np.isfinite(errors).all() or (count is not None and len(errors) != count):
        return None
    return errors if score is None or _is_mean(errors, score) else None


def write_baseline_errors(path: Path, baselines: Iterable[Baseline]) -> None:
    """Write the errors of the baselines that have any on the validation part, by name. Raises OSError."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for row in baselines:
            if row.errors is not None:
                with archive.open(zipfile.ZipInfo(f"{row.name}.npy"), "w") as member:
                    npy.write_array(member, np.asarray(row.errors, dtype=np.float32), allow_pickle=False)
    with content.getbuffer() as data:
        write_atomic(path, data)


def read_baseline_errors(path: Path, scores: Mapping[str, float]) -> dict[str, Errors]:
    """Return the errors of baselines on the validation windows, by name; NaN where one was not scored.

    Only of those whose mean is the score under their name: other errors are of other data. Nothing for no
    file and for any other one. Raises OSError where this process may open no further file.
    """
    content = _content(path, LARGEST_BASELINES_BYTES)
    found: dict[str, Errors] = {}
    if content is None:
        return found
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name, score in scores.items():
                errors = _member(archive, f"{name}.npy")
                if errors is not None and _is_mean(errors[~np.isnan(errors)], score):
                    found[name] = errors
    except (zipfile.BadZipFile, ValueError, EOFError, RuntimeError):  # the last for what is encrypted
        return {}
    return found


def _member(archive: zipfile.ZipFile, name: str) -> Errors | None:
    try:
        member = archive.getinfo(name)
    except KeyError:
        return None
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > LARGEST_ERRORS_BYTES:
        return None
    with archive.open(member) as file:
        content = file.read(LARGEST_ERRORS_BYTES)
    return _parsed(io.BytesIO(content), len(content))


def _content(path: Path, largest_bytes: int) -> bytes | None:
    try:
        return read_bounded(path, largest_bytes)
    except ValueError:
        return None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None


def _parsed(file: BinaryIO, size: int) -> Errors | None:
    """Return a one-dimensional float32 array of exactly the file's size; None for anything else.

    Not by numpy.load, which makes room for as many numbers as the header claims.
    """
    try:
        if npy.read_magic(file) != (1, 0):
            return None
        shape, _, dtype = npy.read_array_header_1_0(file)
        if dtype != np.dtype("<f4") or len(shape) != 1 or 4 * shape[0] != size - file.tell() or not shape[0]:
            return None
        return np.frombuffer(file.read(), dtype="<f4")
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, SyntaxError):
        return None


def _is_mean(errors: Errors, score: float) -> bool:
    if not len(errors) or not np.isfinite(errors).all():
        return False
    return math.isclose(float(errors.mean(dtype=np.float64)), score, rel_tol=TOLERANCE, abs_tol=1e-12)

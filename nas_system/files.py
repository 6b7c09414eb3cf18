"""Files that survive a crash: atomic writes and checksums. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; a reader sees the old or the new file, never half of one.

    The temporary name is fixed because every file here has a single writer: a crash
    leaves at most one stray file, which the next write overwrites.
    """
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write `value` as strict JSON (NaN and infinity raise ValueError), atomically."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=True)
    write_atomic(path, text.encode() + b"\n")


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises FileNotFoundError, or ValueError for anything torn."""
    return json.loads(path.read_bytes())


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

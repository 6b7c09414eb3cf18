"""Checkpoints: tensors and plain values only, written atomically, with a checksum."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from nas_system.errors import StateError, first_line
from nas_system.files import sha256_of_file, write_atomic

SCHEMA_VERSION = 1

StateDict = dict[str, Any]
"""State as torch saves it: tensors and plain values by name, nested."""


def save_checkpoint(path: Path, content: StateDict) -> str:
    """Write `content` next to `path`, then move it there; return its SHA-256.

    A full disk or a kill in the middle leaves the previous checkpoint as it was. Raises OSError.
    """
    # Through memory: torch.save reports a full disk as a RuntimeError about positions in its archive.
    buffer = io.BytesIO()
    torch.save({"schema_version": SCHEMA_VERSION} | content, buffer)
    with buffer.getbuffer() as data:
        write_atomic(path, data)
        return hashlib.sha256(data).hexdigest()


def _check_archive(path: Path) -> None:
    """Raise StateError for damage, which torch would load as other weights, and for compressed content."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise StateError(f"{path}: refused, it is packed, as no checkpoint of this program is")
        damaged = archive.testzip()
    if damaged is not None:
        raise StateError(f"{path}: {damaged} in it was changed or damaged: its CRC-32 differs")


def load_checkpoint(
    path: Path, device: torch.device | str = "cpu", *, sha256: str | None = None
) -> StateDict:
    """Read a checkpoint without running code from it.

    Raises StateError for a missing, damaged, foreign or newer file, saying which.
    """
    if not path.is_file():
        raise StateError(f"{path}: there is no checkpoint here")
    if sha256 is not None and sha256_of_file(path) != sha256:
        raise StateError(f"{path}: the file's SHA-256 is not {sha256}; it was changed or damaged")
    try:
        _check_archive(path)
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        # Without torch's own message, which explains how to run the code after all.
        raise StateError(f"{path}: refused, it holds more than tensors and plain values") from None
    except (RuntimeError, EOFError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise StateError(f"{path}: not a readable checkpoint ({first_line(error)})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise StateError(f"{path}: not a checkpoint of this program (no schema_version)")
    if version > SCHEMA_VERSION:
        raise StateError(f"{path}: schema {version} is newer than this program's {SCHEMA_VERSION}; update it")
    return content

"""Checkpoints: tensors and plain values only, written atomically, with a checksum."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from nas_system.errors import StateError
from nas_system.files import fsync_folder, sha256_of_file

SCHEMA_VERSION = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> str:
    """Write `content` beside `path`, then move it there; returns its SHA-256.

    A full disk or a kill in the middle leaves the previous checkpoint as it was.
    """
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        torch.save({"schema_version": SCHEMA_VERSION} | content, file)
        file.flush()
        os.fsync(file.fileno())
    checksum = sha256_of_file(temporary)
    os.replace(temporary, path)
    fsync_folder(path.parent)
    return checksum


def load_checkpoint(
    path: Path, device: torch.device | str = "cpu", *, sha256: str | None = None
) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises StateError for a missing, damaged, foreign or newer file, saying which.
    """
    if not path.is_file():
        raise StateError(f"{path}: there is no checkpoint here")
    if sha256 is not None and sha256_of_file(path) != sha256:
        raise StateError(f"{path}: the file's SHA-256 is not {sha256}; it was changed or damaged")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise StateError(f"{path}: refused, it holds more than tensors and plain values ({error})") from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise StateError(f"{path}: not a readable checkpoint ({error})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise StateError(f"{path}: not a checkpoint of this program (no schema_version)")
    if version > SCHEMA_VERSION:
        raise StateError(f"{path}: schema {version} is newer than this program's {SCHEMA_VERSION}; update it")
    return content

"""The small JSON records of a run directory: proposal.json, verdict.json and their like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_system.files import read_json, write_json


def save_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one JSON object, atomically and durably."""
    write_json(path, dict(record))


def load_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None if there is none that can be read."""
    try:
        record = read_json(path)
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None

"""The small JSON records of a run directory: proposal.json, verdict.json and their like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_system.files import write_json
from nas_system.nas_agent.run_lock import read_record


def save_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one JSON object, atomically and durably."""
    write_json(path, dict(record))


def load_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None if there is none that can be read."""
    return read_record(path)

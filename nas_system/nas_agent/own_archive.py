"""Where a user's own archive of trainings lies, from which proposers learn: both programs have to know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

FOLDER_VARIABLE = "NAS_ARCHIVE_DIR"
ARCHIVE_FILE = "archive.jsonl.gz"


def own_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """$NAS_ARCHIVE_DIR, else the folder for it among the user's data."""
    named = environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "nas_system" / "netformer"


def own_archive(environ: Mapping[str, str] = os.environ) -> Path:
    """The archive itself, which need not exist."""
    return own_folder(environ) / ARCHIVE_FILE

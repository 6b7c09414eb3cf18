"""Folders of runs that are folders and no links."""

from __future__ import annotations

import os
from pathlib import Path

from nas_system.errors import StateError


def make_run_folder(folder: Path) -> None:
    """Make the folder of a run. Raises StateError if it, or one of its repeats, is a link."""
    refuse_links_in(folder)
    folder.mkdir(parents=True, exist_ok=True)


def refuse_linked_runs(runs_dir: Path) -> None:
    """Raise StateError if the folder of a numbered run, or one of its repeats, is a link.

    `runs_dir` itself may be one: to a larger disk.
    """
    if runs_dir.is_dir():
        for folder in runs_dir.iterdir():
            if folder.name.startswith("run_"):
                refuse_links_in(folder)


def refuse_links_in(run_dir: Path) -> None:
    """Raise StateError if the run's folder, `repeats` in it or a repeat's folder is a link."""
    repeats = run_dir / "repeats"
    _refuse_link(run_dir)
    _refuse_link(repeats)
    for folder in repeats.glob("seed_*"):
        _refuse_link(folder)


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise StateError(
            f"{folder} is a link to {os.readlink(folder)}, and a run has its files in its own folder only: "
            "put the folder itself in its place, or remove the link"
        )

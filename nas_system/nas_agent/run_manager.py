"""Run directories and their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nas_system.errors import ConfigError
from nas_system.files import read_record, write_atomic
from nas_system.processes.run_files import BASE_CONFIG_FILE as BASE_CONFIG_FILE
from nas_system.processes.run_files import FACTS_FILE as FACTS_FILE
from nas_system.processes.run_files import RunPaths as RunPaths
from nas_system.processes.run_files import next_run_id as next_run_id
from nas_system.processes.run_files import run_ids as run_ids

if TYPE_CHECKING:
    from nas_system.space.task_info import TaskInfo

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Allowed names of a run, which become folders, arguments and parts of messages."""


def get_run_dir(run_id: str, runs_dir: str | Path = "runs", create: bool = True) -> Path:
    """Return the folder of a run, made if `create`. Raises ConfigError if it is not in `runs_dir`."""
    if not isinstance(run_id, str) or not TAG.fullmatch(run_id) or ".." in run_id:
        raise ConfigError(
            f"{run_id!a:.80} cannot name a run: use 1 to 64 letters, digits, '.', '_', '-', "
            "starting with a letter or digit, without '..'; for example run_0007"
        )
    folder = Path(runs_dir) / run_id
    if folder.is_symlink() and Path(runs_dir).resolve() not in folder.resolve().parents:
        raise ConfigError(f"{folder} is a link that leaves {runs_dir}; remove it or choose another tag")
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made: {error.strerror}; choose another folder") from None
    return folder


def snapshot_config(config_path: str | Path, run_dir: str | Path) -> Path:
    """Copy the configuration of a run to its `config_used.py`, and return that file.

    A config.py is copied byte for byte, with its comments; YAML and JSON are rendered in its
    format. Raises ConfigError for a configuration that cannot be read back.
    """
    # Imported here: most users of this module need no pydantic.
    from nas_system.config_io.config_file import parse_config, read_content, render_config

    source, folder = Path(config_path), Path(run_dir)
    content = read_content(source)
    config = parse_config(content, source)
    if source.suffix.lower() != ".py":
        content = render_config(config).encode()
    folder.mkdir(parents=True, exist_ok=True)
    snapshot = RunPaths(folder).config
    write_atomic(snapshot, content)
    return snapshot


def load_task_info(runs_dir: str | Path) -> TaskInfo | None:
    """Return what is known of the search's task; None if the file is missing or cannot be used."""
    # Imported here: most users of this module need no pydantic.
    from nas_system.space.task_info import TaskInfo

    record = read_record(Path(runs_dir) / FACTS_FILE)
    try:
        return None if record is None else TaskInfo.from_json(record)
    except ConfigError:
        return None

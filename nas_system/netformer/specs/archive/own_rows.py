"""A finished search as rows of the user's own archive, from which the next `fit` learns."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_system.config_io.config_file import read_config
from nas_system.data.loading import open_data
from nas_system.data.source import DataSource
from nas_system.errors import ConfigError, NasError, StateError
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import STATE_FILE, RunInfo, load_agent_state
from nas_system.netformer.specs.archive.archive_file import TRAIN, Archive, ArchivedTask, Row, write_archive
from nas_system.netformer.specs.archive.library import Library, read_own
from nas_system.netformer.specs.task_features import task_features
from nas_system.processes.run_files import FACTS_FILE, RunPaths
from nas_system.space import ForecastingTask, active_values
from nas_system.space.task_info import baselines_from

FAILURES = {"DIVERGED": "DIVERGED", "TIMEOUT": "TIMEOUT", "FAILED": "FAILED"}
"""Run status -> row status, for failures of the configuration. Others (killed, out of memory) may be the
machine's."""


def add_search(workspace: Path, library: Library) -> tuple[int, int]:
    """Add a search to the user's archive; return how many rows it has, and how many of them are new.

    Raises ConfigError or StateError for a folder without a search.
    """
    searched = _archive_of_search(workspace)
    library.make_own()
    with _locked(library.own):
        before = read_own(library)
        after = before.with_rows_of(searched)
        if after.rows != before.rows or after.tasks != before.tasks:
            write_archive(library.own_archive, after)
    return len(searched.rows), len(after.rows) - len(before.rows)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let two searches that end together add their rows one after the other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _archive_of_search(workspace: Path) -> Archive:
    if not (workspace / STATE_FILE).is_file():
        raise ConfigError(f"{workspace} holds no {STATE_FILE}; name the folder of a search")
    state = load_agent_state(workspace / STATE_FILE)
    facts = read_record(workspace / "runs" / FACTS_FILE)
    if facts is None:
        raise StateError(f"{workspace / 'runs' / FACTS_FILE} is missing, so nothing is known of the data")
    task = _archived(facts, workspace)
    rows = [row for run in state.runs if (row := _row(run, task.name, workspace)) is not None]
    return Archive({task.name: task}, tuple(rows))


def _archived(facts: Mapping[str, Any], workspace: Path) -> ArchivedTask:
    try:
        task = ForecastingTask.model_validate(facts["task"])
        source = DataSource.from_json(facts["source"])
        scores = {row.name: row.on("val", "val_mse") for row in baselines_from(facts)}
        baselines = {name: score for name, score in scores.items() if score is not None}
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{workspace}: only searches on forecasting tasks can be added to the archive ({error!r:.200})"
        ) from None
    data = open_data(task, source)
    identity = json.dumps([facts["task"] | {"dataset": ""}, source.sha256], sort_keys=True)
    return ArchivedTask(
        name="own_" + hashlib.sha256(identity.encode()).hexdigest()[:12],
        part=TRAIN,
        # Without the folder, which is private; the checksum in the name identifies the data.
        task=task.model_copy(update={"dataset": Path(task.dataset).name}),
        max_seq_len=min(member.split.train_end for member in data.members) - task.pred_len,
        # Of several series the first one's: they are alike, or one model for all would make no sense.
        features=tuple(task_features(data.members[0]).values()),
        baselines=baselines,
    )


def _row(run: RunInfo, task: str, workspace: Path) -> Row | None:
    if run.status != "OK" and run.status not in FAILURES:
        return None
    try:
        config = read_config(RunPaths(workspace / "runs" / run.run_id).config, follow_link=False)
    except NasError:
        return None  # without its configuration a score is of no use
    score = run.val_mse if run.status == "OK" else None
    status = FAILURES.get(run.status, "OK")
    return Row(task, active_values(config), score, status, run.seconds or 0.0)

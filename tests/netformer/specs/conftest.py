"""A tiny archive whose scores follow a rule, and a model that has learned from it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nas_system.netformer.specs.archive.archive_file import (
    HELD_OUT,
    TRAIN,
    Archive,
    ArchivedTask,
    Row,
    write_archive,
)
from nas_system.netformer.specs.archive.config_drawing import draw_config
from nas_system.netformer.specs.archive.synthetic_tasks import csv_of, draw_recipe
from nas_system.space import ForecastingTask, active_values, canonical_key

FEATURES = 30
"""As many as `task_features` gives; a test compares."""


def score_of(values: dict, likes: str) -> float:
    """A family is liked, and a learning rate of 0.01: what there is to be learned."""
    return 1.0 + (values["model.family"] != likes) + abs(values.get("training.lr", 0.1) - 0.01)


@pytest.fixture(scope="session")
def tiny_archive() -> Archive:
    tasks, rows, generator = {}, [], random.Random(3)
    for number in range(4):
        name, likes = f"t{number}", ("linear", "gru")[number % 2]
        task = ForecastingTask(dataset=f"{name}.csv", targets=("y",), pred_len=6)
        features = tuple(round(number % 2 + 0.1 * k, 1) for k in range(FEATURES))
        part = HELD_OUT if number == 3 else TRAIN
        tasks[name] = ArchivedTask(name, part, task, 400, features, {"last-value": 1.0})
        drawn = {canonical_key(c): c for c in (draw_config(task, 400, generator, seed=1) for _ in range(40))}
        *scored, diverged = [active_values(config) for config in list(drawn.values())[:17]]
        rows += [Row(name, values, score_of(values, likes), "OK", 0.5) for values in scored]
        rows.append(Row(name, diverged, None, "DIVERGED"))
    return Archive(tasks, tuple(rows), made_by="a rule")


@pytest.fixture(scope="session")
def tiny_archive_file(tiny_archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "archive.jsonl.gz"
    write_archive(path, tiny_archive)
    return path


@pytest.fixture(scope="session")
def facts(run_cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facts")
    (folder / "series.csv").write_bytes(csv_of(draw_recipe("series", 11)))
    flags = ("--dataset", folder / "series.csv", "--target", "y", "--pred-len", "6", "--out", "facts.json")
    done = run_cli("nas_system.describe", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "facts.json"

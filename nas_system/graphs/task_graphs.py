"""The graphs of a search's task: where they come from, fixed by a checksum, and which of them are used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_system.data.source import DATA_DIR_VARIABLE
from nas_system.errors import ConfigError
from nas_system.files import sha256_of_files
from nas_system.graphs.datasets import DATASETS, GraphDataset
from nas_system.graphs.datasets.zinc import find_zinc, read_zinc
from nas_system.space.task_info import DataSource
from nas_system.space.tasks.task import GraphTask

HOLD_OUT_GRAPHS = 400
"""Of the generated data set, beyond its parts: scored once, for the best run."""
ZINC_ROOT = "data"
"""Where the files of ZINC are looked for if no folder is named."""


def locate_graphs(
    task: GraphTask, data_dir: Path | None = None, *, environ: Mapping[str, str] = os.environ
) -> DataSource:
    """The source of the task's graphs. Raises ConfigError if their files are not there."""
    if task.name == "zinc":
        root = data_dir or Path(environ.get(DATA_DIR_VARIABLE) or ZINC_ROOT)
        folder, files = find_zinc(root.expanduser().absolute())
        size = sum((folder / name).stat().st_size for name in files)
        return DataSource("zinc", "file", folder, sha256_of_files(folder, files), size, files=files)
    dataset = _generated(task)
    numbers = _bytes_of(dataset)
    return DataSource(task.name, "synthetic", None, hashlib.sha256(numbers).hexdigest(), len(numbers))


def load_graphs(source: DataSource, task: GraphTask, *, hold_out: bool = False) -> GraphDataset:
    """Return the task's graphs, cut to the numbers it names; with those of the hold-out set if `hold_out`.

    Raises ConfigError for graphs that are not, or no longer, those of `source`.
    """
    if task.name == "zinc":
        assert source.path is not None
        if not all((source.path / name).is_file() for name in source.files):
            raise ConfigError(f"{source.path}: the files of ZINC are not there any more; put them back")
        if sha256_of_files(source.path, source.files) != source.sha256:
            raise ConfigError(f"{source.path}: the files of ZINC have changed; put those of the search back")
        return _cut(read_zinc(source.path, source.files), task)
    dataset = _generated(task, HOLD_OUT_GRAPHS if hold_out else 0)
    if hashlib.sha256(_bytes_of(dataset)).hexdigest() != source.sha256:
        raise ConfigError(
            f"{task.name} is generated otherwise than when this search began; go on with the version of the "
            "program that began it, or begin another --workspace"
        )
    return dataset


def _generated(task: GraphTask, hold_out: int = 0) -> GraphDataset:
    return DATASETS[task.name](**task.sizes, hold_out=hold_out)


def _cut(dataset: GraphDataset, task: GraphTask) -> GraphDataset:
    """The first graphs of each part, as many as the task says."""
    parts: dict[str, Sequence[Any]] = {}
    for part, count in task.sizes.items():
        graphs = getattr(dataset, part)
        if count > len(graphs):
            raise ConfigError(
                f"task.{part}_graphs={count}, but {task.name} has {len(graphs)} there; "
                "lower it or leave it out"
            )
        parts[part] = graphs[:count]
    return replace(dataset, **parts)


def _bytes_of(dataset: GraphDataset) -> bytes:
    """Everything that a model could learn from the three open parts."""
    return b"".join(
        values.numpy().tobytes()
        for part in dataset.get_splits()
        for graph in part
        for values in (graph.x, graph.edge_index, graph.edge_attr, graph.y, graph.get("edge_label_index"))
        if values is not None
    )

"""Every kind of task has all of its rooms filled, and its info is read as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_agent_graph.llm.briefing import opening_messages
from nas_agent_graph.search_view import SearchView
from nas_system.errors import ConfigError
from nas_system.space import ForecastingTask, RunConfig, Task, family_default
from nas_system.space.families import families_of
from nas_system.space.task_info import Baseline, DataSource, TaskInfo
from nas_system.space.tasks import TASKS
from nas_system.tasks import kind_of
from nas_system.tasks.kind import TaskKind
from nas_system.training.objectives import direction_of

SMALL: dict[str, dict[str, Any]] = {
    "forecasting": {"dataset": "synthetic", "targets": ("HUFL", "OT"), "pred_len": 12},
    "graph_regression": {"train_graphs": 8, "val_graphs": 4, "test_graphs": 4},
    "graph_classification": {"train_graphs": 8, "val_graphs": 4, "test_graphs": 4},
    "link_prediction": {"networks": 4},
}
OF_A_SERIES = {"columns": ("HUFL", "OT"), "max_seq_len": 500}


def small(task: type[Task]) -> Task:
    return task(**SMALL[task.kind])


def config_of(task: Task) -> RunConfig:
    return family_default(families_of(task.kind)[0]).model_copy(update={"task": task})


def info_of(task: Task) -> TaskInfo:
    return TaskInfo(
        task=task,
        source=DataSource(task.dataset, "synthetic", None, "ab" * 32, 17),
        baselines=(Baseline("simple", {task.metric: 0.5, f"test_{task.metric_name}": 0.25}),),
        sizes={"train": 80, "val": 40, "test": 30, "hold_out": 20},
        measured={"nodes": 23.5, "names": ["a", "b"]},
        **(OF_A_SERIES if task.is_series else {}),
    )


every_kind = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)


def test_kinds_and_names_are_told_apart() -> None:
    assert len({task.kind for task in TASKS}) == len(TASKS) == len(SMALL)


@every_kind
def test_a_kind_has_labels_families_and_a_prompt_of_its_own(task: type[Task], project_root: Path) -> None:
    mine = small(task)
    labels = {name: text for name, text in vars(mine.labels).items() if name != "scale_note"}
    assert all(text.strip() for text in labels.values()), labels
    assert mine.metric in mine.winning
    assert families_of(task.kind)
    config = config_of(mine)
    partial = project_root / "prompts" / "partials" / "tasks" / f"{task.kind}.j2"
    assert partial.read_text().strip()
    view = SearchView(
        run_id="run_0000",
        task=mine,
        base=config,
        columns=("HUFL", "OT") if task.is_series else (),
        baselines=(("simple", 0.5),),
        runs=(),
        best_run=None,
        noise=None,
        seed=1,
        max_runs=5,
        sizes={"train": 8123, "val": 4},
    )
    asked = opening_messages(view)[0]["content"]
    assert ("8,123 graphs to train on" in asked) != task.is_series
    assert f"{mine.metric} 0.5" in asked


@every_kind
def test_the_objective_decides_by_the_metric_and_direction_of_the_task(task: type[Task]) -> None:
    if not task.is_series:
        pytest.importorskip("torch_geometric", reason="needs the extra graphs")
    mine = small(task)
    kind = kind_of(mine)
    assert isinstance(kind, TaskKind)
    problem = kind.open(config_of(mine), None, None, torch.device("cpu"))
    assert problem.objective.names[0] == task.metric_name
    assert direction_of(problem.objective) == task.direction
    assert all(problem.count(part) > 0 for part in ("train", "val", "test"))


@every_kind
def test_an_info_is_read_as_it_was_written(task: type[Task]) -> None:
    info = info_of(small(task))
    assert TaskInfo.from_json(json.loads(json.dumps(info.to_json()))) == info
    assert info.has_hold_out and info.number("nodes") == 23.5 and info.number("names") is None
    assert info.baselines[0].on("test", info.task.metric) == 0.25


OLD_SOURCE = {"name": "etth1", "kind": "csv", "path": "/data/own.csv", "sha256": "cd", "bytes": 9}
OLD = {"schema": 1, "task": {"dataset": "etth1"}, "source": OLD_SOURCE}


def test_the_info_of_a_series_by_an_older_version_is_read() -> None:
    windows = {"seq_len": 96, "max_seq_len": 8592, "train": 8497, "val": 2833, "test": 2832, "sealed": 0}
    rows = [{"name": "last-value", "val_mse": 0.5, "sealed_mse": 0.75, "test_mse": None}, {"val_mse": 1.0}]
    more = {"columns": ["HUFL", "OT"], "windows": windows, "references": rows, "rows": 17_420}
    info = TaskInfo.from_json(OLD | more)
    assert info.task == ForecastingTask()
    assert info.source.path == Path("/data/own.csv")
    assert info.baselines == (Baseline("last-value", {"val_mse": 0.5, "hold_out_mse": 0.75}),)
    assert info.sizes == {"train": 8497, "val": 2833, "test": 2832, "hold_out": 0}
    assert not info.has_hold_out
    assert (info.columns, info.max_seq_len) == (("HUFL", "OT"), 8592)
    assert info.measured == {"rows": 17_420}


def test_the_info_of_graphs_by_an_older_version_is_read() -> None:
    sizes = {"train": 96, "val": 40, "test": 30, "sealed": 400}
    row = {"name": "mean", "val_mae": 0.5}
    task = {"name": "zinc_synth", "train_graphs": 96}
    info = TaskInfo.from_json(
        OLD | {"task": task, "graphs": sizes, "nodes": 23.15, "references": [row], "columns": []}
    )
    assert info.task.kind == "graph_regression"
    assert info.sizes == {"train": 96, "val": 40, "test": 30, "hold_out": 400}
    assert info.number("nodes") == 23.15 and info.max_seq_len is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": {"name": "chess"}}, "names no task"),
        ({"source": None}, "names no data source"),
        ({"source": {"name": "etth1"}}, "names no data source"),
    ],
)
def test_an_info_without_a_usable_task_or_source_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TaskInfo.from_json(OLD | {"references": []} | wrong)

"""The kinds of task, one file each, and `TASKS`, the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import Discriminator, Tag, TypeAdapter

from nas_system.space.tasks.forecasting import ForecastingTask
from nas_system.space.tasks.graph_classification import GraphClassificationTask
from nas_system.space.tasks.graph_regression import GraphRegressionTask
from nas_system.space.tasks.link_prediction import LinkPredictionTask
from nas_system.space.tasks.task import Task

TASKS: tuple[type[Task], ...] = (
    ForecastingTask,
    GraphRegressionTask,
    GraphClassificationTask,
    LinkPredictionTask,
)
"""Every kind of task; without a name, a task is of the first."""

_CLASS_OF: dict[str, type[Task]] = {
    name: task for task in TASKS for name in get_args(task.model_fields["name"].annotation)
}
TASK_NAMES = tuple(_CLASS_OF)
"""Every task that a search can be about."""
TASK_CLASSES = frozenset(task.__name__ for task in TASKS)
TASK_FIELDS = tuple(dict.fromkeys(name for task in TASKS for name in task.model_fields))
"""The fields of all tasks."""
NO_SUCH_TASK = "no_such_task"
"""The type of the error about a name that no task has: our own, which pydantic does not know."""


def class_of(name: Any) -> type[Task] | None:
    """Return the class of the task called `name`, if there is one."""
    return _CLASS_OF.get(name) if isinstance(name, str) else None


def fields_of(task: Any) -> tuple[str, ...]:
    """Return the fields of the task that plain values describe; those of `TASKS[0]` without a known name."""
    found = class_of(task.get("name")) if isinstance(task, dict) else None
    return tuple((found or TASKS[0]).model_fields)


def _tag_of(value: Any) -> str | None:
    default = TASKS[0].model_fields["name"].default
    name = value.get("name", default) if isinstance(value, dict) else getattr(value, "name", None)
    found = class_of(name)
    return None if found is None else found.__name__


if TYPE_CHECKING:
    TaskConfig = Task
else:
    TaskConfig = Annotated[
        Union[tuple(Annotated[task, Tag(task.__name__)] for task in TASKS)],  # noqa: UP007
        Discriminator(
            _tag_of,
            custom_error_type=NO_SUCH_TASK,
            custom_error_message=f"there is no such task; choose from: {', '.join(TASK_NAMES)}",
        ),
    ]
    """What a search is about, told apart by `name`."""

task_adapter: TypeAdapter[Task] = TypeAdapter(TaskConfig, config={"defer_build": True})
"""Reads a task from plain values or JSON."""

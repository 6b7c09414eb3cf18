"""The one definition of the search space, torch-free: validator, samplers, prompt and documents read it.

A name is imported when it is first used, so that the flags of a task need no model families.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_system.space.changes import (
        Change,
        apply_changes,
        changes_between,
        family_default,
        starting_point,
    )
    from nas_system.space.families import FAMILIES, FamilyConfig, families_of
    from nas_system.space.fields import Parameter
    from nas_system.space.run_config import (
        DataConfig,
        ModelConfig,
        RunConfig,
        TrainingConfig,
        active_values,
        canonical_key,
        inactive_because,
        is_active,
        parameters,
        value_at,
    )
    from nas_system.space.score import Direction, gain_of, is_better, loss_of
    from nas_system.space.shape import GraphShape, SeriesShape
    from nas_system.space.tasks import (
        TASK_NAMES,
        TASKS,
        ForecastingTask,
        GraphClassificationTask,
        GraphRegressionTask,
        LinkPredictionTask,
        Task,
        TaskConfig,
        task_adapter,
    )
    from nas_system.space.tasks.task import TaskLabels, metric_name_of, metric_on

__all__ = [
    "FAMILIES",
    "TASKS",
    "TASK_NAMES",
    "Change",
    "DataConfig",
    "Direction",
    "FamilyConfig",
    "ForecastingTask",
    "GraphClassificationTask",
    "GraphRegressionTask",
    "GraphShape",
    "LinkPredictionTask",
    "ModelConfig",
    "Parameter",
    "RunConfig",
    "SeriesShape",
    "Task",
    "TaskConfig",
    "TaskLabels",
    "TrainingConfig",
    "active_values",
    "apply_changes",
    "canonical_key",
    "changes_between",
    "families_of",
    "family_default",
    "gain_of",
    "inactive_because",
    "is_active",
    "is_better",
    "loss_of",
    "metric_name_of",
    "metric_on",
    "parameters",
    "starting_point",
    "task_adapter",
    "value_at",
]

_NAMES_OF = {
    "changes": ("Change", "apply_changes", "changes_between", "family_default", "starting_point"),
    "families": ("FAMILIES", "FamilyConfig", "families_of"),
    "fields": ("Parameter",),
    "run_config": (
        "DataConfig",
        "ModelConfig",
        "RunConfig",
        "TrainingConfig",
        "active_values",
        "canonical_key",
        "inactive_because",
        "is_active",
        "parameters",
        "value_at",
    ),
    "score": ("Direction", "gain_of", "is_better", "loss_of"),
    "shape": ("GraphShape", "SeriesShape"),
    "tasks": (
        "TASK_NAMES",
        "TASKS",
        "ForecastingTask",
        "GraphClassificationTask",
        "GraphRegressionTask",
        "LinkPredictionTask",
        "Task",
        "TaskConfig",
        "task_adapter",
    ),
    "tasks.task": ("TaskLabels", "metric_name_of", "metric_on"),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use does not come here
    return value

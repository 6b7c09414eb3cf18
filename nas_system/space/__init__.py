"""The one definition of the search space, torch-free: validator, samplers, prompt and documents read it."""

from nas_system.space.changes import Change, apply_changes, changes_between, family_default, starting_point
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
from nas_system.space.shape import GraphShape, SeriesShape
from nas_system.space.task import (
    TASK_NAMES,
    ForecastingTask,
    GraphTask,
    TaskConfig,
    error_of,
    on_part,
    task_adapter,
)

__all__ = [
    "FAMILIES",
    "TASK_NAMES",
    "Change",
    "DataConfig",
    "FamilyConfig",
    "ForecastingTask",
    "GraphShape",
    "GraphTask",
    "ModelConfig",
    "Parameter",
    "RunConfig",
    "SeriesShape",
    "TaskConfig",
    "TrainingConfig",
    "active_values",
    "apply_changes",
    "canonical_key",
    "changes_between",
    "error_of",
    "families_of",
    "family_default",
    "inactive_because",
    "is_active",
    "on_part",
    "parameters",
    "starting_point",
    "task_adapter",
    "value_at",
]

"""The kinds of task: what each measures, its data, its models and its pictures.

The fields of a task stand in `nas_system.space.tasks`; the module here that is called like its `kind`
has the rest as a `TaskKind`. Nobody else asks what kind a task is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nas_system.space.tasks import Task

if TYPE_CHECKING:
    from nas_system.tasks.kind import TaskKind


def kind_of(task: Task) -> TaskKind:
    """Return what is done with tasks of this kind; imports no more than that kind needs."""
    return importlib.import_module(f"{__name__}.{task.kind}").KIND

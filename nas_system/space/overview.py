"""The space as a whole, for whoever prints it: which options families share, and what their defaults set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nas_system.space.changes import family_default
from nas_system.space.families import FAMILIES
from nas_system.space.fields import Parameter, parameters_of
from nas_system.space.run_config import DataConfig, RunConfig, TrainingConfig, active_values, parameters
from nas_system.space.tasks import TaskConfig

COMMON = 4
"""An option that so many families declare alike is printed once, with their names; below that it would
only tear the families' own tables apart."""


@dataclass(frozen=True)
class Table:
    """Parameters, and the families that have them."""

    families: tuple[str, ...]
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Overview:
    """Every parameter of some families, as few times as it can be said."""

    own: tuple[Table, ...]
    """What is particular to a family; families with the same fields (and tried values) share one."""
    common: tuple[Table, ...]
    """Options of the model that many families have, by who has them."""
    data: tuple[Parameter, ...]
    training: tuple[Parameter, ...]


def overview(
    families: Sequence[str], task: TaskConfig | None = None, *, defaults_apart: bool = False
) -> Overview:
    """The tables of `families`, in the order of declaration; without what can have no effect in `task`.

    `defaults_apart`: the reader learns elsewhere what the families' tried defaults set, so that
    families with other ones may share a table.
    """
    of_family = {
        family: tuple(p for p in parameters(family) if p.group == "model" and _concerns(p, task))
        for family in families
    }
    owners: dict[Parameter, tuple[str, ...]] = {}
    for family, declared in of_family.items():
        for parameter in declared:
            owners[parameter] = (*owners.get(parameter, ()), family)
    common: dict[tuple[str, ...], tuple[Parameter, ...]] = {}
    for parameter, names in owners.items():
        if len(names) >= COMMON:
            common[names] = (*common.get(names, ()), parameter)
    own: dict[tuple[Any, ...], Table] = {}
    for family, declared in of_family.items():
        left = tuple(parameter for parameter in declared if len(owners[parameter]) < COMMON)
        key = (left,) if defaults_apart else (left, *tried_values(family).items())
        own[key] = Table((*own[key].families, family) if key in own else (family,), left)
    return Overview(
        own=tuple(own.values()),
        common=tuple(Table(names, shared) for names, shared in common.items()),
        data=tuple(p for p in parameters_of(DataConfig, "data") if _concerns(p, task)),
        training=tuple(p for p in parameters_of(TrainingConfig, "training") if _concerns(p, task)),
    )


def sentence_of(family: str) -> str:
    """What the family is."""
    return " ".join((FAMILIES[family].__doc__ or "").split())


def tried_values(family: str, default: RunConfig | None = None) -> dict[str, Any]:
    """`path -> value` of what the family's tried default sets otherwise than the fields' own defaults.

    `default` is that of this very task, by default the one of every task.
    """
    found = active_values(default or family_default(family))
    return {
        p.path: found[p.path] for p in parameters(family) if p.path in found and found[p.path] != p.default
    }


def _concerns(parameter: Parameter, task: TaskConfig | None) -> bool:
    return task is None or parameter.where is None or task.has(parameter.where)

"""Random configurations of the whole search space, for trainings that teach which ones are good.

Everything is read from `nas_system.space`: a family or parameter that is added there is drawn here.
"""

from __future__ import annotations

import importlib.util
import math
import random
from typing import Any

from pydantic import ValidationError

from nas_system.errors import ProposalError
from nas_system.space import (
    FAMILIES,
    Change,
    ForecastingTask,
    Parameter,
    RunConfig,
    apply_changes,
    families_of,
    family_default,
    inactive_because,
    parameters,
    value_at,
)

DRAWS = 400
"""Draws in a row that may contradict themselves before something must be wrong with the space."""
MOVED = (1, 5)
"""Parameters that a draw near a family's default moves: at least, at most."""
NEAR = 0.5
"""Share of the draws that stay near a default."""


def usable_families(task: ForecastingTask) -> list[str]:
    """The families that serve a task and whose package is installed."""
    return [
        name
        for name in families_of(task.kind)
        if (package := FAMILIES[name].needs_package) is None or importlib.util.find_spec(package) is not None
    ]


def sampled_parameters(family: str, max_seq_len: int | None) -> list[Parameter]:
    """What is varied of a family; no look-back is longer than the series allows."""
    return [
        p.at_most(max_seq_len) if p.path == "data.seq_len" and max_seq_len is not None else p
        for p in parameters(family)
        if p.sampled
    ]


def default_for(task: ForecastingTask, family: str, max_seq_len: int | None, seed: int) -> RunConfig | None:
    """The family's tried default on this task; a look-back that is too long is cut. None if it cannot be."""
    plain = family_default(family).model_dump() | {"task": task.model_dump(), "seed": seed}
    if max_seq_len is not None and plain["data"]["seq_len"] > max_seq_len:
        look_back = next(p for p in sampled_parameters(family, max_seq_len) if p.path == "data.seq_len")
        plain["data"]["seq_len"] = (look_back.choices or (max_seq_len,))[-1]
    try:
        return RunConfig.model_validate(plain)
    except ValidationError:
        return None


def draw_config(
    task: ForecastingTask, max_seq_len: int | None, generator: random.Random, *, seed: int
) -> RunConfig:
    """A configuration near some family's default, or from anywhere in the space."""
    families = usable_families(task)
    for _ in range(DRAWS):
        family = generator.choice(families)
        default = default_for(task, family, max_seq_len, seed)
        if default is None:
            continue
        sampled = sampled_parameters(family, max_seq_len)
        moved = None
        if generator.random() < NEAR:
            moved = {p.path for p in generator.sample(sampled, generator.randint(*MOVED))}
        try:
            return _drawn(default, sampled, moved, generator, max_seq_len)
        except ProposalError:
            continue
    raise AssertionError(f"{DRAWS} draws in a row were invalid")


def _drawn(
    default: RunConfig,
    sampled: list[Parameter],
    moved: set[str] | None,
    generator: random.Random,
    max_seq_len: int | None,
) -> RunConfig:
    """`default` with the parameters in `moved` drawn anew; None moves all. Raises ProposalError."""
    values = {p.path: value_at(default, p.path) for p in parameters(default.model.family)}
    values["model.family"] = default.model.family
    changes = []
    # In the order of their declaration: what decides about a parameter is drawn before it.
    for parameter in sampled:
        if inactive_because(parameter, default.task, values.__getitem__) is not None:
            continue
        if moved is None or parameter.path in moved:
            values[parameter.path] = draw_value(parameter, generator)
            changes.append(Change(parameter=parameter.path, value=values[parameter.path]))
    return apply_changes(default, changes, max_seq_len=max_seq_len)


def draw_value(parameter: Parameter, generator: random.Random) -> Any:
    """One value: from the grid or the choices, else uniform on the parameter's scale."""
    if parameter.choices is not None:
        return generator.choice(parameter.choices)
    assert parameter.low is not None and parameter.high is not None
    if parameter.log:
        value = math.exp(generator.uniform(math.log(parameter.low), math.log(parameter.high)))
    else:
        value = generator.uniform(parameter.low, parameter.high)
    return round(value) if parameter.kind == "int" else float(f"{value:.4g}")

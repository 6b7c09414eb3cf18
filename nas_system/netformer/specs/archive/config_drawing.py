"""Random configurations of the whole search space, for trainings that teach which ones are good.

Everything is read from `nas_system.space`: a family or parameter that is added there is drawn here.
"""

from __future__ import annotations

import random

from nas_system.errors import ProposalError
from nas_system.space import (
    Change,
    ForecastingTask,
    Parameter,
    RunConfig,
    apply_changes,
    inactive_because,
    parameters,
    value_at,
)
from nas_system.space.sampling import draw_value, fitting_default, sampled_parameters, usable_families

DRAWS = 400
"""Draws in a row that may contradict themselves before something must be wrong with the space."""
MOVED = (1, 5)
"""Parameters that a draw near a family's default moves: at least, at most."""
NEAR = 0.5
"""Share of the draws that stay near a default."""


def draw_config(
    task: ForecastingTask, max_seq_len: int | None, generator: random.Random, *, seed: int
) -> RunConfig:
    """A configuration near some family's default, or from anywhere in the space."""
    families = usable_families(task)
    for _ in range(DRAWS):
        family = generator.choice(families)
        default = fitting_default(family, task, seed, max_seq_len)
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
    """`default` with the parameters in `moved` drawn again; None moves all. Raises ProposalError."""
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

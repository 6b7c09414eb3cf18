"""What every sampler of the space does alike: which families, which parameters, which values."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import random
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from nas_system.space.changes import family_default
from nas_system.space.families import FAMILIES, families_of
from nas_system.space.fields import Parameter
from nas_system.space.run_config import RunConfig, parameters, serves
from nas_system.space.series_defaults import SeriesFit, fitted_to_series
from nas_system.space.tasks import TaskConfig

LOOK_BACK = "data.seq_len"
SHORTEST_LOOK_BACK = 4


def is_installed(package: str) -> bool:
    """Whether `package` could be imported; it is not, and neither is what it would pull in."""
    return importlib.util.find_spec(package) is not None


def usable_families(task: TaskConfig, installed: Callable[[str], bool] = is_installed) -> list[str]:
    """The families that serve a task, without those whose optional package is missing."""
    return [
        name
        for name in families_of(task.kind)
        if (package := FAMILIES[name].needs_package) is None or installed(package)
    ]


def sampled_parameters(family: str, max_seq_len: int | None = None) -> list[Parameter]:
    """What samplers vary of a family; no look-back is longer than the series allows."""
    return [
        p.at_most(max_seq_len) if p.path == LOOK_BACK and max_seq_len is not None else p
        for p in parameters(family)
        if p.sampled and serves(p, family)
    ]


def fitting_default(
    family: str, task: TaskConfig, seed: int, max_seq_len: int | None = None, fit: SeriesFit | None = None
) -> RunConfig | None:
    """The family's default for this task, with what `fit` says of the series; None if it cannot be.

    A look-back that is too long is cut.
    """
    plain = family_default(family).model_dump() | {"task": task.model_dump(), "seed": seed}
    if fit is not None and task.is_series:
        with contextlib.suppress(ValidationError):
            fitted = RunConfig.model_validate(fitted_to_series(plain, fit))
            if max_seq_len is None or fitted.data.seq_len <= max_seq_len:
                return fitted
    if max_seq_len is not None and plain["data"]["seq_len"] > max_seq_len:
        # A look-back of all there is would leave a single window to train on.
        half = max(max_seq_len // 2, SHORTEST_LOOK_BACK)
        look_back = next(p for p in sampled_parameters(family, half) if p.path == LOOK_BACK)
        assert look_back.choices is not None
        plain["data"]["seq_len"] = look_back.choices[-1]
    try:
        return RunConfig.model_validate(plain)
    except ValidationError:
        return None


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

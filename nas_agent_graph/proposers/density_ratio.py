"""How much likelier values are among a family's good runs than among its others.

The criterion of the tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for Hyper-Parameter
Optimization", NeurIPS, section 4.2), with one density per parameter: here it does not draw, it judges what
somebody else proposes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from nas_system.space import Parameter
from nas_system.space.sampling import draw_value

GOOD_SHARE = 0.25
NARROWEST = 0.08
"""Narrowest kernel, as a share of a parameter's range."""
DRAWS = 60
"""Random draws that a value is compared with."""


def place_of(parameter: Parameter, value: Any) -> float:
    """Return where a number lies in its parameter's range, from 0 to 1: by its place on the grid, or on the
    parameter's scale."""
    if parameter.choices is not None:
        grid = list(parameter.choices)
        nearest = min(range(len(grid)), key=lambda index: abs(grid[index] - value))
        return nearest / max(len(grid) - 1, 1)
    assert parameter.low is not None and parameter.high is not None
    low, high = parameter.low, parameter.high
    if parameter.log:
        low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
    return min(max((value - low) / (high - low or 1.0), 0.0), 1.0)


def split_by_loss(
    tried: Sequence[tuple[Mapping[str, Any], float]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the values of the best quarter, at least two, and those of the rest; a failure's loss is
    infinite."""
    ordered = sorted(tried, key=lambda entry: entry[1])
    n_good = max(math.ceil(GOOD_SHARE * len(ordered)), 2)
    values = [entry[0] for entry in ordered]
    return values[:n_good], values[n_good:]


def log_ratio(
    values: Mapping[str, Any],
    good: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    known: Mapping[str, Parameter],
) -> float:
    """Return the logarithm of the likelihood of `values` among the good ones over that among the others."""
    return sum(
        math.log(_density(known[path], value, good) / _density(known[path], value, others))
        for path, value in values.items()
        if path in known
    )


def place_among_draws(
    values: Mapping[str, Any],
    tried: Sequence[tuple[Mapping[str, Any], float]],
    known: Mapping[str, Parameter],
    generator: random.Random,
) -> float:
    """Return the share of random draws of the same parameters whose ratio is below that of `values`.

    `tried` holds values and losses of a family's runs; `known` its sampled parameters by path.
    """
    asked = {path: value for path, value in values.items() if path in known and value is not None}
    good, others = split_by_loss(tried)
    if not asked or not others:
        return 1.0
    ratio = log_ratio(asked, good, others, known)
    draws = [
        log_ratio({path: draw_value(known[path], generator) for path in asked}, good, others, known)
        for _ in range(DRAWS)
    ]
    return sum(drawn <= ratio for drawn in draws) / DRAWS


def _density(parameter: Parameter, value: Any, sample: Sequence[Mapping[str, Any]]) -> float:
    """Return the density of one parameter's value, smoothed by one observation of the uniform prior."""
    seen = [other for values in sample if (other := values.get(parameter.path)) is not None]
    if parameter.kind == "choice":
        share = 1 / max(len(parameter.choices or ()), 1)
        return (seen.count(value) + share) / (len(seen) + 1)
    place, places = place_of(parameter, value), [place_of(parameter, other) for other in seen]
    width = max(NARROWEST, 0.5 / max(len(places), 1) ** 0.5)
    kernels = sum(math.exp(-0.5 * ((place - other) / width) ** 2) for other in places)
    return (kernels / (width * math.sqrt(2 * math.pi)) + 1) / (len(places) + 1)

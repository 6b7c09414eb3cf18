"""Tokens of the search space: one for the family, one for every value of every sampled parameter.

Read from `nas_system.space` alone, so a family or parameter that is added there has tokens without a
word here. A number with a grid has a token per place on it (and for what a tried default uses beside
it), one without has evenly spread bins on its own scale; values in between go to the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from nas_system.space import ForecastingTask, Parameter, families_of, family_default, parameters, value_at

FAMILY = "model.family"
BINS_PER_DECADE = 8
LINEAR_BINS = 17
WIDE = 8.0
"""Numbers above 0 that spread by more than this factor are compared by their logarithms."""


@dataclass(frozen=True)
class Token:
    """`path` has `value`."""

    path: str
    value: Any
    place: float
    """Where a number stands among those of its path, from -1 to 1; 0 for what has no order."""


@dataclass(frozen=True)
class Vocabulary:
    """Every token, and which of them a family may use."""

    tokens: tuple[Token, ...]
    paths: tuple[str, ...]
    """Everything that is written, the family first; a path's number is its slot."""
    of_family: Mapping[tuple[str, str], tuple[int, ...]]
    """(family, path) -> its tokens, in the order of their values."""

    @cached_property
    def index(self) -> dict[tuple[str, Any], int]:
        # True and 1 are equal keys, but no path has both.
        return {(token.path, token.value): number for number, token in enumerate(self.tokens)}

    @cached_property
    def slot(self) -> dict[str, int]:
        return {path: number for number, path in enumerate(self.paths)}

    @cached_property
    def slot_of_token(self) -> list[int]:
        return [self.slot[token.path] for token in self.tokens]

    def token_of(self, family: str, path: str, value: Any) -> int:
        """The token of a value, or of the nearest one that the family has a token for."""
        if path == FAMILY:
            return self.index[path, value]
        known = self.of_family[family, path]
        exact = self.index.get((path, value))
        if exact in known:
            return exact
        values = [self.tokens[number].value for number in known]
        if isinstance(value, str | bool):
            raise KeyError(f"{path}={value!r} has no token")
        scale = _scale(values)
        return known[min(range(len(known)), key=lambda i: abs(scale(values[i]) - scale(value)))]

    def encode(self, values: Mapping[str, Any]) -> list[int]:
        """A configuration's active values as tokens, in the order in which they are written."""
        family = values[FAMILY]
        written = [p for p in slots_of(family) if p in values]
        return [self.index[FAMILY, family], *(self.token_of(family, p, values[p]) for p in written)]


@cache
def slots_of(family: str) -> tuple[str, ...]:
    """What is written of a family, as declared: what decides about a field comes before it."""
    return tuple(parameter.path for parameter in sampled(family))


@cache
def sampled(family: str) -> tuple[Parameter, ...]:
    return tuple(parameter for parameter in parameters(family) if parameter.sampled)


@cache
def build_vocabulary() -> Vocabulary:
    """The vocabulary of the space as it is."""
    families = families_of(ForecastingTask.kind)
    paths = list(dict.fromkeys([FAMILY, *(path for family in families for path in slots_of(family))]))
    values_of = {(family, p.path): _bins(family, p) for family in families for p in sampled(family)}
    tokens = [Token(FAMILY, family, 0.0) for family in families]
    for path in paths[1:]:
        tokens += _tokens(path, [values for (_, p), values in values_of.items() if p == path])
    number_of = {(token.path, token.value): number for number, token in enumerate(tokens)}
    of_family = {
        (family, path): tuple(number_of[path, value] for value in values)
        for (family, path), values in values_of.items()
    }
    return Vocabulary(tuple(tokens), tuple(paths), of_family)


def _bins(family: str, parameter: Parameter) -> list[Any]:
    """The values of a parameter that have a token."""
    default = value_at(family_default(family), parameter.path)
    if parameter.kind == "choice":
        return list(parameter.choices or ())
    if parameter.choices is not None:
        return sorted({*parameter.choices, default})
    assert parameter.low is not None and parameter.high is not None
    low, high = parameter.low, parameter.high
    if parameter.log:
        count = round(BINS_PER_DECADE * math.log10(high / low)) + 1
        spread = [low * (high / low) ** (i / (count - 1)) for i in range(count)]
    else:
        spread = [low + (high - low) * i / (LINEAR_BINS - 1) for i in range(LINEAR_BINS)]
    if parameter.kind == "int":
        return sorted({round(value) for value in spread} | {default})
    return sorted({float(f"{value:.4g}") for value in spread} | {default})


def _tokens(path: str, of_families: Iterable[list[Any]]) -> list[Token]:
    """The union of the families' values; families that share a path share its tokens."""
    values = list(dict.fromkeys(value for values in of_families for value in values))
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [Token(path, value, 0.0) for value in values]
    values.sort()
    scale = _scale(values)
    low, high = scale(values[0]), scale(values[-1])
    width = (high - low) or 1.0
    return [Token(path, value, 2 * (scale(value) - low) / width - 1) for value in values]


def _scale(values: list[Any]) -> Any:
    """How far numbers are apart: by their logarithm where they spread widely, 0 just below the smallest."""
    above = [value for value in values if value > 0]
    if not above or max(above) < WIDE * min(above):
        return float
    floor = min(above) / 3
    return lambda value: math.log(max(value, floor))

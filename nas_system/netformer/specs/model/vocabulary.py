"""Tokens of the search space: one for the family, one for every value of every sampled parameter.

`build_vocabulary` reads `nas_system.space` alone, so a new family or parameter needs no line here. A number
with a grid has a token per place on it (and one for the family's default), one without a grid has evenly
spread bins on its own scale; values in between go to the nearest token.

Networks keep the vocabulary they were trained with. The grammar decides which part of it the search space
still has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache, cached_property
from typing import Any, Self

from nas_system.space import ForecastingTask, Parameter, families_of, family_default, value_at
from nas_system.space.sampling import sampled_parameters

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
    """Every parameter, the family first; a path's position is its slot."""
    families: Mapping[str, Mapping[str, tuple[int, ...]]]
    """family -> path -> its tokens, in the order of their values; paths in the order of writing."""

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

    def nearest(self, value: Any, among: Sequence[int]) -> int:
        """Return the token of a value, or of the nearest number. Raises KeyError if there is neither."""
        values = [self.tokens[number].value for number in among]
        if value in values:
            return among[values.index(value)]
        if not values or not all(map(_is_number, (value, *values))):
            raise KeyError(f"{value!r} has no token")
        scale = _scale(values)
        return among[min(range(len(among)), key=lambda i: abs(scale(values[i]) - scale(value)))]

    def encode(self, values: Mapping[str, Any]) -> list[int]:
        """Return a configuration's active values as tokens, in the order of writing. Raises KeyError."""
        family = values[FAMILY]
        written = [(path, among) for path, among in self.families[family].items() if path in values]
        return [self.index[FAMILY, family], *(self.nearest(values[path], among) for path, among in written)]

    def to_json(self) -> dict[str, object]:
        return {
            "paths": list(self.paths),
            "tokens": [list(astuple(token)) for token in self.tokens],
            "families": {
                family: {path: list(numbers) for path, numbers in paths.items()}
                for family, paths in self.families.items()
            },
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what `to_json` did not return."""
        return cls(
            tuple(Token(path, value, place) for path, value, place in record["tokens"]),
            tuple(record["paths"]),
            {
                family: {path: tuple(numbers) for path, numbers in paths.items()}
                for family, paths in record["families"].items()
            },
        )


@cache
def build_vocabulary() -> Vocabulary:
    """Return the vocabulary of the search space as it is now."""
    declared = {family: sampled_parameters(family) for family in families_of(ForecastingTask.kind)}
    values_of = {family: {p.path: _bins(family, p) for p in found} for family, found in declared.items()}
    paths = list(dict.fromkeys(path for values in values_of.values() for path in values))
    tokens = [Token(FAMILY, family, 0.0) for family in declared]
    for path in paths:
        tokens += _tokens(path, [values[path] for values in values_of.values() if path in values])
    number_of = {(token.path, token.value): number for number, token in enumerate(tokens)}
    families = {
        family: {path: tuple(number_of[path, value] for value in bins) for path, bins in values.items()}
        for family, values in values_of.items()
    }
    return Vocabulary(tuple(tokens), (FAMILY, *paths), families)


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
    if not all(map(_is_number, values)):
        return [Token(path, value, 0.0) for value in values]
    values.sort()
    scale = _scale(values)
    low, high = scale(values[0]), scale(values[-1])
    width = (high - low) or 1.0
    return [Token(path, value, 2 * (scale(value) - low) / width - 1) for value in values]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scale(values: Sequence[float]) -> Callable[[float], float]:
    """Compare numbers by their logarithm where they spread widely; 0 counts as a third of the smallest."""
    above = [value for value in values if value > 0]
    if not above or max(above) < WIDE * min(above):
        return float
    floor = min(above) / 3
    return lambda value: math.log(max(value, floor))

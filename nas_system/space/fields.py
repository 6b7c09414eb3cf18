"""How one field of the search space is declared, and how its readers see it.

A field is declared once, in its config class:

    d_model: Annotated[int, Range(8, 1024, multiple_of=8, grid=(16, 32, 64))] = 32
    \"\"\"Width of the embedding.\"\"\"

pydantic enforces the bounds; samplers, prompt and documentation read the same
declaration through `parameters_of`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import annotated_types
from pydantic import BaseModel, ConfigDict


class ConfigModel(BaseModel):
    """Base of every config class: strict, frozen, and refusing unknown fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        defer_build=True,
    )


Where = Literal["series", "several targets", "covariates", "numbers", "whole graphs"]
"""What a task has to have for a field to have an effect: a series to forecast; more than one target in it;
other columns as inputs; numbers to predict; one answer for a whole graph."""


@dataclass(frozen=True)
class When:
    """A field exists only while another field of the same group has one of these values."""

    field: str
    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether `value` of the other field lets this one exist."""
        return value in self.values

    @property
    def words(self) -> str:
        """`optimizer = "sgd"`."""
        return f"{self.field} = {format_choices(self.values)}"


@dataclass(frozen=True)
class Unless(When):
    """A field exists while another field of the same group has none of these values."""

    def holds(self, value: Any) -> bool:
        return value not in self.values

    @property
    def words(self) -> str:
        """`augmentation != "none"`."""
        return f"{self.field} != {format_choices(self.values)}"


def format_choices(values: Iterable[Any]) -> str:
    """Values as JSON, which is how proposals spell them: `"adam" or "sgd"`."""
    return " or ".join(json.dumps(value) for value in values)


@dataclass(frozen=True)
class Range(annotated_types.GroupedMetadata):
    """Bounds of a number: what the validator accepts, and what samplers propose.

    `grid` narrows what *samplers* try inside the bounds; people and language models may
    use any value the bounds allow. `log` is the scale on which values are spread.
    """

    low: float
    high: float
    log: bool = False
    multiple_of: int | None = None
    grid: tuple[float, ...] | None = None
    when: When | None = None
    where: Where | None = None
    sampled: bool = True

    def __iter__(self) -> Iterator[annotated_types.BaseMetadata]:
        yield annotated_types.Ge(self.low)
        yield annotated_types.Le(self.high)
        if self.multiple_of is not None:
            yield annotated_types.MultipleOf(self.multiple_of)


@dataclass(frozen=True)
class Choice:
    """Marks a `Literal` or `bool` field as part of the search space."""

    when: When | None = None
    where: Where | None = None
    sampled: bool = True


@dataclass(frozen=True)
class Parameter:
    """One field of the search space, as its readers see it."""

    path: str
    kind: Literal["int", "float", "choice"]
    default: Any
    description: str
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    multiple_of: int | None = None
    when: When | None = None
    where: Where | None = None
    sampled: bool = True

    @property
    def group(self) -> str:
        """The part of the configuration it stands in: `model`, `data` or `training`."""
        return self.path.split(".", 1)[0]

    @property
    def domain(self) -> str:
        """Return the allowed values as text for people, prompts and error messages."""
        if self.kind == "choice":
            return format_choices(self.choices or ())
        text = f"{self.low:g} .. {self.high:g}"
        if self.multiple_of:
            text += f", multiple of {self.multiple_of}"
        if self.choices:
            text += ", usual: " + ", ".join(f"{choice:g}" for choice in self.choices)
        return text + (", log scale" if self.log else "")

    @property
    def condition(self) -> str:
        """Return when the field has an effect, as text; empty if it always has one."""
        parts = [] if self.when is None else [f"while {self.when.words}"]
        if self.where == "several targets":
            parts.append("if several columns are forecast")
        if self.where == "covariates":
            parts.append("if the model reads other columns than the targets")
        return " and ".join(parts)

    def at_most(self, high: int) -> Parameter:
        """This number with a lower upper bound; its grid keeps what fits, at least the bound itself."""
        assert self.low is not None and self.high is not None and self.choices is not None
        bound = min(high, int(self.high))
        return replace(self, high=bound, choices=tuple(c for c in self.choices if c <= bound) or (bound,))


@cache
def parameters_of(group: type[BaseModel], prefix: str) -> tuple[Parameter, ...]:
    """The searchable fields of one config class, in the order of their declaration."""
    hints = get_type_hints(group, include_extras=True)
    found = []
    for name, field in group.model_fields.items():
        hint = hints[name]
        if get_origin(hint) is not Annotated:
            continue
        kind, *marks = get_args(hint)
        mark = next((m for m in marks if isinstance(m, Range | Choice)), None)
        if mark is None:
            continue
        shared: dict[str, Any] = {
            "path": f"{prefix}.{name}",
            "default": field.default,
            "description": " ".join((field.description or "").split()),
            "when": mark.when,
            "where": mark.where,
            "sampled": mark.sampled,
        }
        if isinstance(mark, Choice):
            choices = (False, True) if kind is bool else get_args(kind)
            found.append(Parameter(kind="choice", choices=choices, **shared))
        else:
            number = "int" if kind is int or int in get_args(kind) else "float"
            found.append(
                Parameter(
                    kind=number,
                    choices=mark.grid,
                    low=mark.low,
                    high=mark.high,
                    log=mark.log,
                    multiple_of=mark.multiple_of,
                    **shared,
                )
            )
    return tuple(found)

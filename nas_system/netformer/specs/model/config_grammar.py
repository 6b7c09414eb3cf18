"""What may be written next: the rules that make every written configuration a valid one.

A parameter is written if and only if it has an effect next to what was written before, even where a
network prefers otherwise, and a value is allowed only while some way of writing the rest makes a valid
configuration. That way is kept (the witness): its next value is always allowed, so no writer gets stuck.

The vocabulary may be older than the search space. Only what both know is written: families, parameters
and values that are new keep their defaults, those that are gone are passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from nas_system.netformer.specs.archive.archive_file import grouped
from nas_system.netformer.specs.model.vocabulary import FAMILY, Vocabulary
from nas_system.space import (
    ForecastingTask,
    Parameter,
    RunConfig,
    family_default,
    inactive_because,
    parameters,
    value_at,
)
from nas_system.space.sampling import LOOK_BACK, sampled_parameters, usable_families

Values = dict[str, Any]
"""path -> value"""


@dataclass
class Draft:
    """A partly written configuration."""

    family: str
    values: Values
    """All parameters: what is written, then what the witness has."""
    tokens: list[int] = field(default_factory=list)
    written: int = 0
    """How many of the family's parameters are decided: written, or without effect."""


@dataclass(frozen=True)
class Writable:
    """What can be written of a family on a task."""

    parameters: tuple[Parameter, ...]
    """In the order of their declaration: what decides about a parameter comes before it."""
    options: Mapping[str, tuple[int, ...]]
    """path -> tokens that may stand for it, as far as it alone decides; never empty."""


class ConfigGrammar:
    """The rules for one task."""

    def __init__(
        self, vocabulary: Vocabulary, task: ForecastingTask, max_seq_len: int | None, *, seed: int = 42
    ) -> None:
        self.vocabulary, self.task, self.max_seq_len, self.seed = vocabulary, task, max_seq_len, seed
        self._writable: dict[str, Writable] = {}

    @cached_property
    def families(self) -> list[str]:
        """Families that the vocabulary knows, that serve the task, are installed, and can be made to fit."""
        return [name for name, start in self._starts.items() if start is not None]

    @cached_property
    def unknown_families(self) -> list[str]:
        """Families that serve the task, but are newer than the vocabulary."""
        return [name for name in usable_families(self.task) if name not in self.vocabulary.families]

    def begin(self, family: str) -> Draft:
        """Return a draft of a family in `families`, with nothing but its name."""
        start = self._starts[family]
        assert start is not None, f"{family} has no configuration for this task"
        return Draft(family, dict(start), [self.vocabulary.index[FAMILY, family]])

    def next_slot(self, draft: Draft) -> str | None:
        """Return the parameter to write now; None when the configuration is complete."""
        declared = self._writable_of(draft.family).parameters
        while draft.written < len(declared):
            parameter = declared[draft.written]
            if inactive_because(parameter, self.task, draft.values.__getitem__) is None:
                return parameter.path
            draft.written += 1
        return None

    def options(self, family: str, path: str) -> tuple[int, ...]:
        """Return the tokens that may stand for `path`, as far as it alone decides."""
        return self._writable_of(family).options[path]

    def value_of(self, token: int) -> Any:
        found = self.vocabulary.tokens[token]
        if found.path == LOOK_BACK and self.max_seq_len is not None:
            return min(found.value, self.max_seq_len)
        return found.value

    def write(self, draft: Draft, path: str, token: int) -> bool:
        """Write `token` if the rest can still become valid; returns whether it was written."""
        value = self.value_of(token)
        if draft.values[path] != value:
            values = self._completed(draft.family, draft.values | {path: value}, draft.written + 1)
            if values is None:
                return False
            draft.values = values
        draft.tokens.append(token)
        draft.written += 1
        return True

    def config_of(self, draft: Draft) -> RunConfig:
        """Return the finished draft as a configuration."""
        config = _config(draft.values, self.task, self.seed)
        assert config is not None, "the witness was valid"
        return config

    def _writable_of(self, family: str) -> Writable:
        if family not in self._writable:
            options = {p.path: self._allowed(family, p) for p in sampled_parameters(family)}
            known = {path: tokens for path, tokens in options.items() if tokens}
            declared = tuple(p for p in sampled_parameters(family) if p.path in known)
            self._writable[family] = Writable(declared, known)
        return self._writable[family]

    def _allowed(self, family: str, parameter: Parameter) -> tuple[int, ...]:
        """Tokens whose values the search space still accepts for a parameter, on series of this length."""
        tokens = tuple(
            number
            for number in self.vocabulary.families[family].get(parameter.path, ())
            if _accepts(parameter, self.vocabulary.tokens[number].value)
        )
        if parameter.path != LOOK_BACK or self.max_seq_len is None:
            return tokens
        fitting = tuple(t for t in tokens if self.vocabulary.tokens[t].value <= self.max_seq_len)
        # Where the series is shorter than all of them, the shortest stands for as long as there is.
        return fitting or tokens[:1]

    @cached_property
    def _starts(self) -> dict[str, Values | None]:
        """Every known family's first witness; None where no configuration fits the task."""
        known = [name for name in usable_families(self.task) if name in self.vocabulary.families]
        return {family: self._start(family) for family in known}

    def _start(self, family: str) -> Values | None:
        """The family's default as a valid configuration, changed where it does not fit."""
        default = family_default(family)
        values = {parameter.path: value_at(default, parameter.path) for parameter in parameters(family)}
        for path, tokens in self._writable_of(family).options.items():
            try:
                values[path] = self.value_of(self.vocabulary.nearest(values[path], tokens))
            except KeyError:  # the default is a choice newer than the vocabulary
                values[path] = self.value_of(tokens[0])
        values[FAMILY] = family
        return self._completed(family, values, 0)

    def _completed(self, family: str, values: Values, decided: int) -> Values | None:
        """The values, valid through at most two changes to what is not decided yet; None if that fails."""
        if _config(values, self.task, self.seed) is not None:
            return values
        free = [p.path for p in self._writable_of(family).parameters[decided:]]
        for count in (1, 2):
            for paths in itertools.combinations(free, count):
                choices = [[self.value_of(t) for t in self.options(family, path)] for path in paths]
                for chosen in itertools.product(*choices):
                    changed = values | dict(zip(paths, chosen, strict=True))
                    if _config(changed, self.task, self.seed) is not None:
                        return changed
        return None


def _accepts(parameter: Parameter, value: object) -> bool:
    """Whether the search space has `value` for a parameter, as far as it alone decides."""
    if parameter.kind == "choice":
        # By type as well: True equals 1.
        return any(value == choice and type(value) is type(choice) for choice in parameter.choices or ())
    if isinstance(value, bool) or not isinstance(value, int if parameter.kind == "int" else int | float):
        return False
    assert parameter.low is not None and parameter.high is not None
    fits = parameter.multiple_of is None or value % parameter.multiple_of == 0
    return fits and parameter.low <= value <= parameter.high


def _config(values: Values, task: ForecastingTask, seed: int) -> RunConfig | None:
    try:
        return RunConfig.model_validate({**grouped(values), "task": task, "seed": seed})
    except ValidationError:
        return None

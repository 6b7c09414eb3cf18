"""What may be written next: the rules that make every written configuration a valid one.

Whatever a network prefers, a parameter is written if and only if it has an effect beside what was
written before, and a value is allowed only while some way of writing the rest makes a valid
configuration. That way is kept (the witness): its next value is always allowed, so no writer gets stuck.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from nas_system.netformer.specs.vocabulary import FAMILY, Vocabulary, build_vocabulary, sampled
from nas_system.space import (
    ForecastingTask,
    RunConfig,
    family_default,
    inactive_because,
    parameters,
    value_at,
)
from nas_system.space.sampling import usable_families

LOOK_BACK = "data.seq_len"


@dataclass
class Draft:
    """A configuration half-written."""

    family: str
    values: dict[str, Any]
    """Everything: what is written, then what the witness says."""
    tokens: list[int] = field(default_factory=list)
    written: int = 0
    """How many of the family's slots are decided: written, or without effect."""


class Grammar:
    """The rules for one task."""

    def __init__(self, task: ForecastingTask, max_seq_len: int | None, *, seed: int = 42) -> None:
        self.task, self.max_seq_len, self.seed = task, max_seq_len, seed
        self.vocabulary: Vocabulary = build_vocabulary()
        self._starts: dict[str, Mapping[str, Any] | None] = {}

    @cached_property
    def families(self) -> list[str]:
        """Families that serve the task, are installed, and have a configuration that fits."""
        return [name for name in usable_families(self.task) if self._start(name) is not None]

    def begin(self, family: str) -> Draft:
        """A draft of a family in `families`, with nothing but its name."""
        start = self._start(family)
        assert start is not None, f"{family} has no configuration for this task"
        return Draft(family, dict(start), [self.vocabulary.index[FAMILY, family]])

    def next_slot(self, draft: Draft) -> str | None:
        """The parameter to write now; None when the configuration is complete."""
        declared = sampled(draft.family)
        while draft.written < len(declared):
            parameter = declared[draft.written]
            if inactive_because(parameter, self.task, draft.values.__getitem__) is None:
                return parameter.path
            draft.written += 1
        return None

    def options(self, family: str, path: str) -> tuple[int, ...]:
        """Tokens that may stand for `path`, as far as it alone decides."""
        tokens = self.vocabulary.of_family[family, path]
        if path != LOOK_BACK or self.max_seq_len is None:
            return tokens
        fitting = tuple(t for t in tokens if self.vocabulary.tokens[t].value <= self.max_seq_len)
        # Where the series is shorter than all of them, the shortest stands for as long as there is.
        return fitting or tokens[:1]

    def value_of(self, token: int) -> Any:
        found = self.vocabulary.tokens[token]
        if found.path == LOOK_BACK and self.max_seq_len is not None:
            return min(found.value, self.max_seq_len)
        return found.value

    def write(self, draft: Draft, path: str, token: int) -> bool:
        """Write `token` if the rest can still become valid; says whether it was written."""
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
        """The finished draft as a configuration."""
        config = _config(draft.family, draft.values, self.task, self.seed)
        assert config is not None, "the witness was valid"
        return config

    def config_from(self, tokens: list[int]) -> RunConfig | None:
        """What the tokens say; None if they are against the rules."""
        found = self.vocabulary.tokens[tokens[0]] if tokens else None
        if found is None or found.path != FAMILY or found.value not in self.families:
            return None
        draft = self.begin(found.value)
        for token in tokens[1:]:
            path = self.next_slot(draft)
            if path is None or token not in self.options(draft.family, path):
                return None
            if not self.write(draft, path, token):
                return None
        return self.config_of(draft) if self.next_slot(draft) is None else None

    def _start(self, family: str) -> Mapping[str, Any] | None:
        if family not in self._starts:
            self._starts[family] = self._mended_default(family)
        return self._starts[family]

    def _mended_default(self, family: str) -> Mapping[str, Any] | None:
        """Values of a valid configuration: the family's tried default, changed where it does not fit."""
        default = family_default(family)
        values = {parameter.path: value_at(default, parameter.path) for parameter in parameters(family)}
        for parameter in sampled(family):
            token = self.vocabulary.token_of(family, parameter.path, values[parameter.path])
            allowed = self.options(family, parameter.path)
            values[parameter.path] = self.value_of(token if token in allowed else allowed[-1])
        values[FAMILY] = family
        return self._completed(family, values, 0)

    def _completed(self, family: str, values: dict[str, Any], decided: int) -> dict[str, Any] | None:
        """The values, valid through at most two changes to what is not decided yet; None if that fails."""
        if _config(family, values, self.task, self.seed) is not None:
            return values
        free = [p.path for p in sampled(family)[decided:]]
        for count in (1, 2):
            for paths in itertools.combinations(free, count):
                choices = [[self.value_of(t) for t in self.options(family, path)] for path in paths]
                for chosen in itertools.product(*choices):
                    changed = values | dict(zip(paths, chosen, strict=True))
                    if _config(family, changed, self.task, self.seed) is not None:
                        return changed
        return None


def _config(family: str, values: Mapping[str, Any], task: ForecastingTask, seed: int) -> RunConfig | None:
    plain: dict[str, Any] = {"task": task, "seed": seed, "model": {"family": family}}
    plain |= {"data": {}, "training": {}}
    for path, value in values.items():
        group, name = path.split(".", 1)
        plain[group][name] = value
    try:
        return RunConfig.model_validate(plain)
    except ValidationError:
        return None

"""What the classical samplers share: the first configurations, and how a draw becomes a proposal."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from nas_agent_graph.context import Proposal, SearchView
from nas_system.errors import ProposalError
from nas_system.space import (
    FAMILIES,
    Change,
    Parameter,
    RunConfig,
    TaskConfig,
    apply_changes,
    canonical_key,
    changes_between,
    families_of,
    family_default,
    inactive_because,
    parameters,
    starting_point,
    value_at,
)

DRAWS = 100
"""Draws in a row that may turn out invalid or known before a sampler gives up."""


def seed_of(view: SearchView) -> int:
    """A seed for this very proposal: a pure function of the search's seed, the run and the refusals."""
    text = f"{view.seed}/{view.run_id}/{len(view.refused)}/{''.join(view.refused)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def is_installed(package: str) -> bool:
    """Whether `package` could be imported; it is not, and neither is what it would pull in."""
    return importlib.util.find_spec(package) is not None


def families_for(view: SearchView, installed: Callable[[str], bool] = is_installed) -> list[str]:
    """The families that serve the search's task, without those whose optional package is missing."""
    return list(view.families) if view.families is not None else usable_families(view.task, installed)


def usable_families(task: TaskConfig, installed: Callable[[str], bool] = is_installed) -> list[str]:
    """The families that serve a task, without those whose optional package is missing."""
    return [
        name
        for name in families_of(task.kind)
        if (package := FAMILIES[name].needs_package) is None or installed(package)
    ]


def sampled_parameters(view: SearchView, family: str) -> list[Parameter]:
    """What samplers vary of a family; no look-back is longer than the series allows."""
    longest = view.max_seq_len
    return [
        parameter.at_most(longest) if parameter.path == "data.seq_len" and longest is not None else parameter
        for parameter in parameters(family)
        if parameter.sampled
    ]


def known_keys(view: SearchView) -> set[str]:
    """Canonical keys of everything already trained."""
    return {run.key for run in view.runs if run.key is not None}


def untried_default(view: SearchView, proposer: str) -> Proposal | None:
    """The default of the first family without a run of its own: tried right after the baseline.

    Good defaults are worth more than any sampler's first guesses. The baseline is a run of its
    family only if it is that family's default: another one says little about the family.
    """
    searched = {run.family for run in view.runs[1:]}
    known = known_keys(view)
    for family in families_for(view):
        config = None if family in searched else fitting_default(view, family)
        if config is not None and canonical_key(config) not in known:
            return _proposal(view, config, proposer, f"the tried default of the family {family}")
    return None


def fitting_default(view: SearchView, family: str) -> RunConfig | None:
    """The family's default for this task; a look-back that is too long is cut. None if it cannot be."""
    plain = family_default(family).model_dump()
    plain |= {"task": view.base.task.model_dump(), "seed": view.base.seed}
    if view.max_seq_len is not None and plain["data"]["seq_len"] > view.max_seq_len:
        seq_len = next(p for p in sampled_parameters(view, family) if p.path == "data.seq_len")
        assert seq_len.choices is not None
        plain["data"]["seq_len"] = seq_len.choices[-1]
    try:
        return RunConfig.model_validate(plain)
    except ValidationError:
        return None


def draw_config(view: SearchView, family: str, value_of: Callable[[Parameter], Any]) -> RunConfig:
    """A configuration of `family` with `value_of(parameter)` for every sampled, active parameter.

    Raises ProposalError if the values contradict each other.
    """
    start = starting_point(view.base, family)
    values = {parameter.path: value_at(start, parameter.path) for parameter in parameters(family)}
    values["model.family"] = family
    changes = [Change(parameter="model.family", value=family)]
    # In the order of their declaration: what decides about a parameter is drawn before it.
    for parameter in sampled_parameters(view, family):
        if inactive_because(parameter, view.base.task, values.__getitem__) is None:
            values[parameter.path] = value_of(parameter)
            changes.append(Change(parameter=parameter.path, value=values[parameter.path]))
    return apply_changes(view.base, changes, max_seq_len=view.max_seq_len)


def draw_until_new(view: SearchView, proposer: str, draw: Callable[[], RunConfig], why: str) -> Proposal:
    """The first draw that is valid and has not been trained. Raises ProposalError after many failures."""
    known = known_keys(view)
    problem = "every draw was a configuration that has been trained already"
    for _ in range(DRAWS):
        try:
            config = draw()
        except ProposalError as error:
            problem = str(error)
            continue
        if canonical_key(config) not in known:
            return _proposal(view, config, proposer, why)
    raise ProposalError(f"{DRAWS} draws gave nothing new; the last problem: {problem}")


def _proposal(view: SearchView, config: RunConfig, proposer: str, why: str) -> Proposal:
    """Classical samplers propose relative to the baseline."""
    changes = changes_between(view.base, config)
    apply_changes(view.base, changes, max_seq_len=view.max_seq_len)
    return Proposal(proposer, parent="run_0000", changes=tuple(changes), hypothesis=why)

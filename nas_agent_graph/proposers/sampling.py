"""What the classical samplers share: the first configurations, and how a draw becomes a proposal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nas_agent_graph.search_view import BASE_RUN, Proposal, SearchView
from nas_system.errors import ProposalError
from nas_system.space import (
    Change,
    Parameter,
    RunConfig,
    apply_changes,
    canonical_key,
    changes_between,
    inactive_because,
    parameters,
    starting_point,
    value_at,
)
from nas_system.space.sampling import fitting_default, sampled_parameters

DRAWS = 100
"""Draws in a row that may turn out invalid or known before a sampler gives up."""


def seed_of(view: SearchView) -> int:
    """Return a seed for this very proposal: a function of the search's seed, the run and the refusals."""
    text = f"{view.seed}/{view.run_id}/{len(view.refused)}/{''.join(view.refused)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def known_keys(view: SearchView) -> set[str]:
    """Return the canonical keys of everything trained or in training."""
    return {run.key for run in (*view.runs, *view.running) if run.key is not None}


def untried_default(view: SearchView, proposer: str) -> Proposal | None:
    """Propose the default of the first family without a run of its own, finished or in progress.

    Good defaults are worth more than any sampler's first guesses. The base config is a run of its
    family only if it is that family's default: another one says little about the family.
    """
    searched = {run.family for run in (*view.runs, *view.running) if not run.is_base}
    known, fit = known_keys(view), view.fit
    for family in view.families:
        config = (
            None
            if family in searched
            else fitting_default(family, view.base.task, view.base.seed, view.max_seq_len, fit)
        )
        if config is not None and canonical_key(config) not in known:
            default = _proposal(view, config, proposer, f"the tried default of the family {family}")
            return replace(default, arm="default")
    return None


def draw_config(view: SearchView, family: str, value_of: Callable[[Parameter], Any]) -> RunConfig:
    """Build a configuration of `family` with `value_of(parameter)` for every sampled, active parameter.

    Raises ProposalError if the values contradict each other.
    """
    start = starting_point(view.base, family, view.fit)
    values = {parameter.path: value_at(start, parameter.path) for parameter in parameters(family)}
    values["model.family"] = family
    changes = [Change(parameter="model.family", value=family)]
    # In the order of their declaration: what decides about a parameter is drawn before it.
    for parameter in sampled_parameters(family, view.max_seq_len):
        if values[parameter.path] is None:
            continue  # a training that counts in passes goes on doing so
        if inactive_because(parameter, view.base.task, values.__getitem__) is None:
            values[parameter.path] = value_of(parameter)
            changes.append(Change(parameter=parameter.path, value=values[parameter.path]))
    return apply_changes(view.base, changes, max_seq_len=view.max_seq_len, fit=view.fit)


def draw_until_new(view: SearchView, proposer: str, draw: Callable[[], RunConfig], why: str) -> Proposal:
    """Return the first draw that is valid and new. Raises ProposalError after many failures."""
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
    raise ProposalError(f"{DRAWS} draws found nothing new; the last problem: {problem}")


def _proposal(view: SearchView, config: RunConfig, proposer: str, why: str) -> Proposal:
    """Propose `config`; classical samplers propose relative to the base config."""
    changes = changes_between(view.base, config, view.fit)
    apply_changes(view.base, changes, max_seq_len=view.max_seq_len, fit=view.fit)
    return Proposal(proposer, parent=BASE_RUN, changes=tuple(changes), hypothesis=why, arm="sampler")

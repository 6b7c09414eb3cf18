"""What the classical samplers share: the first configurations, and how a draw becomes a proposal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from nas_agent_graph.context import Proposal, SearchView
from nas_system.errors import ProposalError
from nas_system.space import (
    FAMILIES,
    RunConfig,
    apply_changes,
    canonical_key,
    changes_between,
    family_default,
)

DRAWS = 100
"""Draws in a row that may turn out invalid or known before a sampler gives up."""


def seed_of(view: SearchView) -> int:
    """A seed for this very proposal: a pure function of the search's seed, the run and the refusals."""
    text = f"{view.seed}/{view.run_id}/{len(view.refused)}/{''.join(view.refused)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def families_for(view: SearchView) -> list[str]:
    """The families that serve the search's task."""
    return [name for name, family in FAMILIES.items() if view.task.name in family.tasks]


def known_keys(view: SearchView) -> set[str]:
    """Canonical keys of everything already trained."""
    return {run.key for run in view.runs if run.key is not None}


def untried_default(view: SearchView, proposer: str) -> Proposal | None:
    """The default of the first family that no run has used: tried right after the baseline.

    Good defaults are worth more than any sampler's first guesses.
    """
    tried = {run.family for run in view.runs}
    for family in families_for(view):
        if family not in tried:
            config = family_default(family)
            return _proposal(view, config, proposer, f"the tried default of the family {family}")
    return None


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
    apply_changes(view.base, changes)
    return Proposal(proposer, parent="run_0000", changes=tuple(changes), hypothesis=why)

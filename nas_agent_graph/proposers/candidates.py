"""Which of a model's ranked candidates is trained: the first that is valid, new, and not known to be poor."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from nas_agent_graph.analysis.stagnation import is_stuck, require_new_structure, structural_changes
from nas_agent_graph.llm.parsing import ParsedAnswer
from nas_agent_graph.proposers.density_ratio import place_among_draws, place_of
from nas_agent_graph.proposers.sampling import seed_of
from nas_agent_graph.search_view import BASE_RUN, BLAMELESS, PRUNED, Proposal, RunView, SearchView
from nas_system.errors import ProposalError
from nas_system.space import RunConfig, active_values, apply_changes, canonical_key
from nas_system.space.sampling import sampled_parameters
from nas_system.space.score import loss_of

NEAR = 0.01
"""Numbers that differ by less than this share of their range are as good as equal."""
VETOED = 1 / 3
"""What the sampler puts below this share of random draws is not trained."""
FEWEST_TO_VETO = 8
"""Runs of a family below which the sampler has no opinion on it."""


@dataclass(frozen=True)
class Choice:
    """A candidate that is worth a training."""

    candidate: ParsedAnswer
    rank: int
    """Its place among the candidates of the answer, from 0."""


def choose_candidate(
    candidates: Sequence[ParsedAnswer], view: SearchView, places: Sequence[int] | None = None
) -> Choice:
    """Return the first candidate worth a training; those that change the structure come first.

    `places` are those in the answer, from 1; None stands for an answer of which nothing was left out.
    Raises ProposalError that says of every candidate why it is not.
    """
    problems: list[str] = []
    usable: list[tuple[int, ParsedAnswer, bool]] = []
    for place, candidate in zip(places or range(1, len(candidates) + 1), candidates, strict=True):
        try:
            parent, config = _config_of(candidate, view)
            _refuse_known(config, view)
            if is_stuck(view):
                require_new_structure(view, _proposal(candidate), parent, config)
            _refuse_poor(config, view)
        except ProposalError as error:
            problems.append(f"candidate {place}: {error}")
        else:
            usable.append((place - 1, candidate, not structural_changes(parent, config)))
    if not usable:
        raise ProposalError("; ".join(problems) or "the answer holds no candidate")
    rank, candidate, _ = min(usable, key=lambda entry: (entry[2], entry[0]))
    return Choice(candidate, rank)


def _config_of(candidate: ParsedAnswer, view: SearchView) -> tuple[RunConfig, RunConfig]:
    """Return the configurations of a candidate's parent and its own. Raises ProposalError."""
    if candidate.repeat:
        raise ProposalError("it asks for a repeat, which is the rule of selection's to decide")
    configs = {run.run_id: run.config for run in view.runs} | {BASE_RUN: view.base}
    parent = configs.get(candidate.parent)
    if parent is None:
        raise ProposalError(f"parent {candidate.parent!r:.80} is not a run that can be built upon")
    return parent, apply_changes(parent, candidate.changes, max_seq_len=view.max_seq_len, fit=view.fit)


def _refuse_known(config: RunConfig, view: SearchView) -> None:
    """Raise ProposalError for what has been trained or is training, or as good as that."""
    key = canonical_key(config)
    for run in (*view.runs, *view.running):
        if run.key == key:
            raise ProposalError(f"this is the configuration of {run.run_id}")
        if run.config is not None and _is_near(config, run.config, view.max_seq_len):
            raise ProposalError(f"this is nearly the configuration of {run.run_id}")


def _is_near(config: RunConfig, other: RunConfig, max_seq_len: int | None) -> bool:
    if config.model.family != other.model.family:
        return False
    known = {p.path: p for p in sampled_parameters(config.model.family, max_seq_len)}
    values, others = active_values(config), active_values(other)
    if values.keys() != others.keys():
        return False
    for path in (path for path, value in values.items() if value != others[path]):
        parameter = known.get(path)
        # Neighbours on a grid are two values that somebody has told apart.
        if parameter is None or parameter.choices is not None or None in (values[path], others[path]):
            return False
        if abs(place_of(parameter, values[path]) - place_of(parameter, others[path])) >= NEAR:
            return False
    return True


def _refuse_poor(config: RunConfig, view: SearchView) -> None:
    """Raise ProposalError where what sets the candidate apart from the family's best run has done badly."""
    family = config.model.family
    known = {p.path: p for p in sampled_parameters(family, view.max_seq_len)}
    tried = [
        (active_values(run.config), _loss(run, view))
        for run in view.runs
        if run.family == family and run.config is not None and run.status not in BLAMELESS
    ]
    if sum(math.isfinite(loss) for _, loss in tried) < FEWEST_TO_VETO:
        return
    best, _ = min(tried, key=lambda entry: entry[1])
    changed = {path: value for path, value in active_values(config).items() if best.get(path) != value}
    place = place_among_draws(changed, tried, known, random.Random(seed_of(view)))
    if place < VETOED:
        names = ", ".join(path for path in changed if path in known)
        raise ProposalError(f"the sampler expects little of its {names} ({place:.0%} of random draws below)")


def _loss(run: RunView, view: SearchView) -> float:
    score = run.best_so_far if run.status == PRUNED else run.val_score
    return math.inf if score is None else loss_of(score, view.task.direction)


def _proposal(candidate: ParsedAnswer) -> Proposal:
    return Proposal("llm", parent=candidate.parent, changes=candidate.changes)

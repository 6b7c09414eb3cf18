"""The runs of a search as candidates for its winner: scores over seeds, lower is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import cast

from nas_agent_graph.selection.candidates import Candidate, EndedRepeat, Purpose, with_repeats
from nas_agent_graph.selection.noise import SeedNoise, probability_of_luck
from nas_system.nas_agent.agent_state import AgentState, RunInfo
from nas_system.space.score import Direction, loss_of


class KnownCandidates:
    """Makes the candidates of one search's runs, each again only when the run has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[RunInfo, Candidate | None]] = {}

    def of(self, run: RunInfo, direction: Direction) -> Candidate | None:
        """Return the run with the score of its own training alone; None if it has none."""
        known = self._known.get(run.run_id)
        if known is None or known[0] is not run:
            known = self._known[run.run_id] = (run, _candidate(run, direction))
        return known[1]


def _candidate(run: RunInfo, direction: Direction) -> Candidate | None:
    if run.status != "OK" or run.val_score is None:
        return None
    return Candidate(run.run_id, run.family, (loss_of(run.val_score, direction),), (), run.seconds)


def candidates_of(state: AgentState, made: KnownCandidates | None = None) -> tuple[Candidate, ...]:
    """Return the runs that have a score, with those of their repeats, in the order of their ends; `made`
    holds those of before."""
    return with_repeats(first_scores_of(state, made=made), ended_repeats_of(state), len(state.runs))


def first_scores_of(
    state: AgentState, without: Container[str] = (), made: KnownCandidates | None = None
) -> tuple[Candidate, ...]:
    """Return the runs that have a score, with that of their own training alone, but those in `without`."""
    made, direction = made or KnownCandidates(), state.direction
    found = [made.of(run, direction) for run in state.runs]
    return tuple(one for one in found if one is not None and one.run_id not in without)


def ended_repeats_of(state: AgentState) -> tuple[EndedRepeat, ...]:
    """Return the repeats, with the scores of those that have one."""
    return tuple(
        EndedRepeat(
            repeat.run_id,
            cast(Purpose, repeat.purpose),
            repeat.after,
            loss_of(repeat.val_score, state.direction)
            if repeat.status == "OK" and repeat.val_score is not None
            else None,
        )
        for repeat in state.repeats
    )


def noise_of(state: AgentState) -> SeedNoise:
    """Return how much scores differ between seeds, pooled over all runs that have two or more."""
    return SeedNoise.of(candidates_of(state))


@dataclass(frozen=True)
class KnownOfSeeds:
    """What the seeds of a search tell while it goes on."""

    noise: float | None
    """Standard deviation of a score over seeds, pooled over all runs with two scores or more."""
    noise_runs: int
    """How many runs those are."""
    scores: Mapping[str, tuple[float, ...]]
    """Of each run with a score, as the task's metric: its own first, then those of its repeats."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """How many of a run's repeats have ended without a score, where any have."""
    luck: Mapping[str, float] = field(default_factory=dict)
    """By the leader, if it has one seed: how probable it is that its lead over the next run is none."""


def known_of_seeds(state: AgentState, made: KnownCandidates | None = None) -> KnownOfSeeds:
    """Return what seeds tell; in a search that leads by a margin, the noise of the base config alone."""
    if state.leads_by == "margin":
        own = {c.run_id: _as_reported(c.scores, state) for c in first_scores_of(state, made=made)}
        return KnownOfSeeds(state.noise, int(state.noise is not None), own)
    candidates = candidates_of(state, made)
    noise = SeedNoise.of(candidates)
    pooled = state.noise if noise.pooled is None else noise.pooled
    several = sum(candidate.n > 1 for candidate in candidates)
    return KnownOfSeeds(
        pooled,
        max(several, int(pooled is not None)),
        {candidate.run_id: _as_reported(candidate.scores, state) for candidate in candidates},
        Counter(repeat.run_id for repeat in ended_repeats_of(state) if not repeat.has_score),
        _luck(candidates, noise, state.best_run_id),
    )


def _as_reported(losses: tuple[float, ...], state: AgentState) -> tuple[float, ...]:
    return tuple(loss_of(loss, state.direction) for loss in losses)


def _luck(candidates: tuple[Candidate, ...], noise: SeedNoise, leader_id: str | None) -> dict[str, float]:
    leader = next((candidate for candidate in candidates if candidate.run_id == leader_id), None)
    others = [candidate for candidate in candidates if candidate is not leader]
    if leader is None or leader.n > 1 or not others:
        return {}
    luck = probability_of_luck(leader, min(others, key=lambda other: other.mean), noise)
    return {} if luck is None else {leader.run_id: luck}

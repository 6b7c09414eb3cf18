"""The runs of a search as candidates for its winner: scores over seeds, lower is better."""

from __future__ import annotations

from collections.abc import Container
from typing import cast

from nas_agent_graph.selection.candidates import Candidate, EndedRepeat, Purpose, with_repeats
from nas_agent_graph.selection.noise import SeedNoise
from nas_system.nas_agent.agent_state import AgentState, RunInfo
from nas_system.space.score import loss_of


def candidates_of(state: AgentState) -> tuple[Candidate, ...]:
    """Return the runs that have a score, with those of their repeats, in the order of their ends."""
    return with_repeats(first_scores_of(state), ended_repeats_of(state), len(state.runs))


def first_scores_of(state: AgentState, without: Container[str] = ()) -> tuple[Candidate, ...]:
    """Return the runs that have a score, with that of their own training alone, but those in `without`."""
    return tuple(
        Candidate(run.run_id, run.family, (loss_of(run.val_score, state.direction),), (), run.seconds)
        for run in state.runs
        if run.status == "OK" and run.val_score is not None and run.run_id not in without
    )


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


def n_seeds(state: AgentState, run: RunInfo) -> int:
    """Count the scores that the run's mean is of."""
    return next((found.n for found in candidates_of(state) if found.run_id == run.run_id), 0)

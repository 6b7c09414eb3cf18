"""How far a search has come, as a replay can tell it: nobody's clock is part of it."""

from __future__ import annotations

from collections.abc import Mapping

from nas_system.nas_agent.agent_state import BASE_REPEAT, AgentState


def n_repeats(state: AgentState) -> int:
    """Count the repeats that have ended, besides those of the base config, which belong to the first run."""
    return sum(repeat.purpose != BASE_REPEAT for repeat in state.repeats)


def moment_of(state: AgentState) -> Mapping[str, int]:
    """Return how many runs and repeats have ended, and how many trainings have begun.

    Each of the three only grows, so that of two moments one is the earlier.
    """
    ended, repeats = len(state.runs), n_repeats(state)
    repeats_begun = repeats + sum(run.is_repeat for run in state.in_progress)
    return {"ended": ended, "repeats": repeats, "begun": len(state.run_ids) + repeats_begun}

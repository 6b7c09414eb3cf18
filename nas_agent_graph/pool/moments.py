"""How far a search has come, as a replay can tell it: nobody's clock is part of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas_system.nas_agent.agent_state import BASE_REPEAT, AgentState
from nas_system.processes.run_files import RunPaths

if TYPE_CHECKING:
    from nas_system.nas_agent.ledger import Ledger


def n_repeats(state: AgentState) -> int:
    """Count the repeats that have ended, besides those of the base config, which belong to the first run."""
    return sum(repeat.purpose != BASE_REPEAT for repeat in state.repeats)


def moment_of(ledger: Ledger) -> Mapping[str, int]:
    """Return how many runs and repeats have ended, and how many trainings have been proposed or asked about.

    Each of the three only grows, so that of two moments one is the earlier. A run that an agent has opened,
    and died before anything else, does not count yet.
    """
    state = ledger.state
    ended, repeats = len(state.runs), n_repeats(state)
    begun = sum(_has_begun(ledger.paths(run.run_id)) for run in state.in_progress)
    return {"ended": ended, "repeats": repeats, "begun": ended + repeats + begun}


def _has_begun(paths: RunPaths) -> bool:
    return os.path.exists(paths.proposal) or os.path.exists(paths.transcript)

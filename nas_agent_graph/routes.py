"""Where to go next: pure, total functions of the state. A router that raises would end the graph silently."""

from __future__ import annotations

from typing import Literal

from nas_agent_graph.state import SearchState


def after_validation(state: SearchState) -> Literal["valid", "invalid", "exhausted"]:
    """Train a valid proposal, send a refused one back to the proposer, end the search when none is left."""
    if state.get("end"):
        return "exhausted"
    return "invalid" if state.get("refusal") else "valid"


def after_decision(state: SearchState) -> Literal["continue", "done"]:
    """Go on to the next run while runs and time are left."""
    return "done" if state.get("end") else "continue"

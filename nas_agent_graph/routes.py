"""Where to go next: pure, total functions of the state. A router that raises would end the graph silently."""

from __future__ import annotations

from typing import Literal

from nas_agent_graph.state import SearchState


def after_validation(state: SearchState) -> Literal["valid", "invalid", "exhausted"]:
    """A valid proposal is trained; a refused one goes back to the proposer; none left ends the search."""
    if state.get("end"):
        return "exhausted"
    return "invalid" if state.get("refusal") else "valid"


def after_decision(state: SearchState) -> Literal["continue", "done"]:
    """On to the next run while runs and time are left."""
    return "done" if state.get("end") else "continue"

"""Where to go next: pure, total functions of the state. A router that raises would end the graph silently."""

from __future__ import annotations

from typing import Literal

from nas_agent_graph.state import SearchState


def after_reading(state: SearchState) -> Literal["room", "full", "done"]:
    """Propose for the run that has a slot; else wait for one that is training, if any is."""
    if state.get("run_id"):
        return "room"
    return "full" if state.get("launched") else "done"


def after_validation(state: SearchState) -> Literal["valid", "invalid", "exhausted"]:
    """Train a valid proposal, send a refused one back to the proposer, begin nothing without any."""
    if state.get("end") or state.get("postponed"):
        return "exhausted"
    return "invalid" if state.get("refusal") else "valid"


def after_decision(state: SearchState) -> Literal["continue", "done"]:
    """Go on while runs and time are left, or a run is still training."""
    return "done" if state.get("end") and not state.get("launched") else "continue"

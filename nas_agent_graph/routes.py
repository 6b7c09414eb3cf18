"""Where to go next: pure, total functions of the state. A router that raises would end the graph silently."""

from __future__ import annotations

from typing import Literal

from nas_agent_graph.state import SearchState
from nas_system.nas_agent.agent_state import is_repeat


def after_reading(state: SearchState) -> Literal["room", "repeat", "full", "done"]:
    """Propose for the run that has a slot, train a repeat; else wait for one that is training, if any is."""
    if state.get("run_id"):
        return "repeat" if is_repeat(state["run_id"]) else "room"
    return "full" if state.get("launched") else "done"


def after_validation(state: SearchState) -> Literal["valid", "invalid", "exhausted"]:
    """Train a valid proposal, send a refused one back to the proposer, look again what begins without any."""
    if any(state.get(name) for name in ("end", "postponed", "thinking", "repeat_asked")):
        return "exhausted"
    return "invalid" if state.get("refusal") else "valid"


def after_decision(state: SearchState) -> Literal["continue", "done"]:
    """Go on while runs and time are left, a run is still training or a repeat is due."""
    if state.get("launched") or state.get("to_repeat"):
        return "continue"
    return "done" if state.get("end") else "continue"

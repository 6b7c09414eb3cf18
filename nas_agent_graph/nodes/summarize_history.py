"""Put the learning curve into one sentence that proposers and people read."""

from __future__ import annotations

from nas_agent_graph.context import Context
from nas_agent_graph.state import SearchState, StateUpdate
from nas_system.errors import StateError
from nas_system.nas_agent.history_summary import build_history_summary
from nas_system.nas_agent.logging_utils import load_history


def summarize_history(state: SearchState, context: Context) -> StateUpdate:
    """Summarize history.json; a run that ended before its first epoch says so."""
    try:
        history = load_history(context.ledger.paths(state["run_id"]).folder)
    except StateError:
        return {"summary": "no epoch was completed"}
    return {"summary": build_history_summary(history)}

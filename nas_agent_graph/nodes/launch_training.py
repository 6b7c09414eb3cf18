"""Start training the configuration in its own process, or adopt a training that is already running."""

from __future__ import annotations

from nas_agent_graph.context import Context
from nas_agent_graph.pool.trainings import launch
from nas_agent_graph.state import SearchState, StateUpdate
from nas_system.nas_agent.agent_state import is_repeat


def launch_training(state: SearchState, context: Context) -> StateUpdate:
    """Return as soon as the training has begun: whether another run begins or this one ends comes next."""
    run_id, proposal = state["run_id"], state["proposal"]
    assert proposal is not None or is_repeat(run_id), "a run is proposed and validated before it is trained"
    launch(run_id, context)
    return {"launched": {**state["launched"], run_id: proposal}}

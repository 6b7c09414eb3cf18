"""Open the next run, or continue the one that a crash or a stop left behind."""

from __future__ import annotations

from nas_agent_graph.context import Context
from nas_agent_graph.state import SearchState, StateUpdate, initial_state
from nas_system.nas_agent.run_folders import make_run_folder
from nas_system.processes.run_files import next_run_id


def read_context(state: SearchState, context: Context) -> StateUpdate:
    """Begin a round on the current run; its id is reserved on disk before anything else happens."""
    ledger = context.ledger
    current = ledger.state.current
    if current is None:
        run_id = next_run_id(run.run_id for run in ledger.state.runs)
        ledger.begin(run_id, "propose_config")
    else:
        run_id = current.run_id
    make_run_folder(ledger.paths(run_id).folder)
    return {**initial_state(), "run_id": run_id}

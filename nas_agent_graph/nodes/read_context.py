"""Open the next run, or continue one that a crash or a stop left behind; where no slot is free, wait first.

The only place that decides whether anything begins: a restarted agent comes here, too.
"""

from __future__ import annotations

from collections.abc import Container

from nas_agent_graph.context import Context
from nas_agent_graph.state import SearchState, StateUpdate, initial_state
from nas_system.nas_agent.agent_state import RunInProgress
from nas_system.nas_agent.run_folders import make_run_folder
from nas_system.processes.run_files import next_run_id


def read_context(state: SearchState, context: Context) -> StateUpdate:
    """Begin a round on a run whose id is reserved on disk before anything else happens."""
    ledger, launched = context.ledger, state["launched"]
    kept = {"launched": launched, "end": state["end"]}
    run_id = None
    if state["end"] is None and not (state["postponed"] and launched):
        left = [run for run in ledger.state.in_progress if run.run_id not in launched]
        run_id = _taken_up(left, launched, context) if left else _opened(context)
    if run_id is None:
        end = state["end"] or (None if launched else context.limits.reached(context.committed))
        return {**initial_state(), **kept, "end": end}
    make_run_folder(ledger.paths(run_id).folder)
    return {**initial_state(), **kept, "run_id": run_id}


def _taken_up(left: list[RunInProgress], launched: Container[str], context: Context) -> str | None:
    """Return a run that an earlier agent left: first those that train already, even where that agent had more
    slots, then the others as slots and devices allow."""
    ledger, slots = context.ledger, context.slots
    folders = {run.run_id: ledger.paths(run.run_id).folder for run in left}
    found = context.launcher.survey(list(folders.values()))
    for run in left:
        if found[folders[run.run_id]] == "running":
            return run.run_id
    here = tuple(run for run in ledger.state.in_progress if run.run_id in launched)
    if len(here) >= slots.total:
        return None
    for run in left:
        if not slots.devices:
            return run.run_id
        # That agent may have had other devices, or given out other shares of them.
        device = slots.device_for(ledger.state.replace(in_progress=here), preferred=run.device)
        if device is not None:
            ledger.lease(run.run_id, device)
            return run.run_id
    return None


def _opened(context: Context) -> str | None:
    """Reserve the next id if a slot is free and no limit is reached."""
    ledger = context.ledger
    run_id = next_run_id(ledger.state.run_ids)
    if context.limits.reached(context.committed) is not None or not context.slots.is_free(
        ledger.state, run_id
    ):
        return None
    ledger.begin(run_id, "propose_config", context.slots.device_for(ledger.state))
    return run_id

"""Open the next run, or continue one that a crash or a stop left behind; where no slot is free, wait first.

The only place that decides whether anything begins: a restarted agent comes here, too. What begins is a run,
or a repeat of one with another seed, which needs no proposal.
"""

from __future__ import annotations

from collections.abc import Collection, Container

from nas_agent_graph.context import IN_PROGRESS, Context, ThinkingProposer
from nas_agent_graph.pool.repeats import (
    circumstances_of,
    due_repeat,
    open_repeat,
    prepare,
    waiting_for_repeats,
    why_nothing_begins,
    without_waiting,
)
from nas_agent_graph.pool.trainings import await_room, is_queue_full
from nas_agent_graph.state import SearchState, StateUpdate, initial_state
from nas_system.nas_agent.agent_state import RunInProgress, is_repeat
from nas_system.nas_agent.run_folders import make_run_folder
from nas_system.processes.run_files import next_run_id


def read_context(state: SearchState, context: Context) -> StateUpdate:
    """Begin a round on a run whose id is reserved on disk before anything else happens."""
    launched, end = state["launched"], state["end"]
    run_id = None
    if not (state["postponed"] and launched):
        run_id = _next(launched, end, context)
    if run_id is None:
        end = end or (None if launched else why_nothing_begins(context))
        return {**initial_state(), "launched": launched, "end": end}
    if is_repeat(run_id):
        prepare(run_id, context)
    else:
        make_run_folder(context.ledger.paths(run_id).folder)
    return {**initial_state(), "launched": launched, "end": end, "run_id": run_id}


def _next(launched: Collection[str], end: str | None, context: Context) -> str | None:
    """Return what begins or goes on now; None while there is nothing, or no room for it.

    Once no new configuration can be found (`end`), only repeats.
    """
    more = end is None and why_nothing_begins(context) is None
    thinking = _thinking(context, others_may_begin=more)
    waiting = waiting_for_repeats(context.ledger) | thinking
    in_progress = [run for run in context.ledger.state.in_progress if run.run_id not in waiting]
    left = [run for run in in_progress if run.run_id not in launched]
    if end is not None:
        left = [run for run in left if run.is_repeat]
    if left:
        return _taken_up(left, launched, context)
    if launched and is_queue_full(context):
        # Whoever waited for an end instead would leave the slots idle that are free already.
        may_begin = more and _has_slot(context, thinking)
        return _next(launched, end, context) if may_begin and await_room(list(launched), context) else None
    told = circumstances_of(context, launched, more=more)
    due = due_repeat(context, told)
    if due is not None:  # it has the next slot
        return open_repeat(due, told, context, thinking)
    return _opened(context, thinking) if more else None


def _thinking(context: Context, *, others_may_begin: bool) -> set[str]:
    """Return the runs that hold no slot because the model has not answered yet."""
    proposer = context.proposer
    if not isinstance(proposer, ThinkingProposer):
        return set()
    thinking = proposer.thinking(others_may_begin=others_may_begin)
    return {run.run_id for run in context.ledger.state.runs_in_progress if run.run_id in thinking}


def _taken_up(left: list[RunInProgress], launched: Container[str], context: Context) -> str | None:
    """Return a run that an earlier agent left: first those that train already, even where that agent had more
    slots, then the others as slots and devices allow."""
    ledger, slots = context.ledger, context.slots
    folders = {run.run_id: ledger.paths(run.run_id).folder for run in left}
    found = context.launcher.survey(list(folders.values()))
    for run in left:
        if found[folders[run.run_id]] in IN_PROGRESS:
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


def _has_slot(context: Context, thinking: set[str]) -> bool:
    """Return whether another run may begin now."""
    ledger = context.ledger
    return context.slots.is_free(without_waiting(ledger, thinking), next_run_id(ledger.state.run_ids))


def _opened(context: Context, thinking: set[str]) -> str | None:
    """Reserve the next id if a slot is free."""
    if not _has_slot(context, thinking):
        return None
    ledger = context.ledger
    run_id, training = next_run_id(ledger.state.run_ids), without_waiting(ledger, thinking)
    ledger.begin(run_id, "read_context", context.slots.device_for(training))
    return run_id

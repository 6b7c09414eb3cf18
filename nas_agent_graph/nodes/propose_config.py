"""Get a proposal for the current run, and write it down before it is validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_agent_graph.analysis.arms import wasted_in_a_row
from nas_agent_graph.budget import BudgetSpent
from nas_agent_graph.context import CONTINUED, LONGEST_REASON, AnswerPending, Context, Proposal, SearchView
from nas_agent_graph.pool.moments import moment_of, n_repeats
from nas_agent_graph.pool.repeats import why_nothing_begins, with_wishes
from nas_agent_graph.state import SearchState, StateUpdate
from nas_system.errors import ProposalError, SearchPaused
from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import BASE_PROPOSER, get_run_in_progress
from nas_system.nas_agent.log_text import one_line

WARNED_EVERY = 5
"""Questions in a row without anything to train after which a note says so."""
ASKED_WHEN = "asked_when"
"""Where proposal.json says what was known when the model was asked, if others began before it answered."""


def propose_config(state: SearchState, context: Context) -> StateUpdate:
    """Take the base config for the first run; else ask the proposer, or after two repairs its fallback."""
    run_id, attempt, metric = state["run_id"], state["attempt"], context.ledger.state.metric
    path = context.ledger.paths(run_id).proposal
    stored = _stored(path, attempt)
    try:
        if stored is not None:
            attempt = stored["attempt"]
            proposal = Proposal.from_file(stored, metric)
        elif not context.ledger.state.runs:
            proposal = Proposal(BASE_PROPOSER, parent=None, hypothesis="the base configuration, unchanged")
        elif attempt == 0 and (continued := _continued(context)) is not None:
            text = f"the training of {continued}, which was stopped early, to its end"
            proposal = Proposal(CONTINUED, parent=continued, hypothesis=text)
        else:
            refused = (state["refusal"],) if state["refusal"] else ()
            proposal = _proposed(context, _view(run_id, refused, attempt, context))
    except ProposalError as error:
        return {"proposal": None, "attempt": attempt, "refusal": str(error)}
    except AnswerPending:
        _wait_for_answer(run_id, context)
        return {"proposal": None, "thinking": True}
    except SearchPaused as pause:
        # To a question that has been answered once, more must not be known the next time.
        if attempt or not state["launched"]:
            raise
        context.progress.note(f"{run_id}: {pause}. What is training goes on; when a run has ended, once more")
        return {"proposal": None, "postponed": True}
    if stored is None:
        seen = _circumstances(run_id, context)
        content = proposal.to_file(metric) | {"attempt": attempt} | seen
        content |= with_wishes(run_id, proposal, seen["seen"], context)
        content |= _answered(run_id, context)
        # Here, because to do the whole node again would pay for another answer.
        context.disk.retry_until_space(lambda: write_json(path, content))
        if proposal.wasted:
            _say_if_wasted(context.view(run_id), proposal, context)
    return {"proposal": proposal.to_record(), "attempt": attempt, "refusal": None}


def _view(run_id: str, refused: tuple[str, ...], attempt: int, context: Context) -> SearchView:
    others = context.slots.total > 1 and why_nothing_begins(context) is None
    return replace(context.view(run_id, refused, attempt), may_wait=others)


def _wait_for_answer(run_id: str, context: Context) -> None:
    """Give the run's slot to others, and write down what was known when its question was asked.

    Without an attempt the file is no proposal: whoever takes the search up again asks once more.
    """
    context.ledger.lease(run_id, None)
    path = context.ledger.paths(run_id).proposal
    if ASKED_WHEN not in (read_record(path) or {}):
        asked = {ASKED_WHEN: _circumstances(run_id, context)["seen"]}
        context.disk.retry_until_space(lambda: write_json(path, asked))


def _answered(run_id: str, context: Context) -> dict[str, object]:
    """Return when the answer was used, if others could begin before: then `seen` is of when it was asked."""
    asked = context.ledger.proposal(run_id).get(ASKED_WHEN)
    if asked is None:
        return {}
    return {"seen": asked, ASKED_WHEN: asked, "answered": dict(moment_of(context.ledger))}


def _say_if_wasted(view: SearchView, proposal: Proposal, context: Context) -> None:
    """Warn of a model that was asked in vain again and again."""
    count = wasted_in_a_row(view) + 1
    if count % WARNED_EVERY == 0:
        context.progress.note(
            f"the language model was asked {count} times in a row for nothing that could be trained "
            f"(the last time: {one_line(proposal.wasted, LONGEST_REASON)}); {proposal.proposer} proposes in "
            "its place. nas doctor says what its server does"
        )


def _proposed(context: Context, view: SearchView) -> Proposal:
    if view.attempt > context.limits.repairs:
        return context.fallback.propose(view)
    try:
        return context.proposer.propose(view)
    except BudgetSpent as reason:
        context.progress.note(f"{view.run_id}: {reason}; {context.fallback.name} proposes")
        return context.fallback.propose(view)


def _continued(context: Context) -> str | None:
    """Return the run that a person wants to be continued, unless a run does so already."""
    if context.continued is None:
        return None
    state = context.ledger.state
    done = [context.ledger.proposal(run_id) for run_id in state.run_ids]
    known = {record.get("parent") for record in done if record.get("proposer") == CONTINUED}
    return None if context.continued in known else context.continued


def _circumstances(run_id: str, context: Context) -> dict[str, object]:
    """Return what was known when the proposal was made, from which a replay tells which runs trained then;
    and the device that is leased to the run, for a state that has to be rebuilt."""
    state = context.ledger.state
    others = [run.run_id for run in state.in_progress if run.run_id != run_id]
    run = get_run_in_progress(state, run_id)
    device = {} if run is None or run.device is None else {"device": run.device}
    repeats = {"repeats": count} if (count := n_repeats(state)) else {}
    return {"seen": {"ended": len(state.runs), **repeats, "in_progress": others}, **device}


def _stored(path: Path, attempt: int) -> Mapping[str, Any] | None:
    """Return the proposal that is on disk already, if it is at least as new as this attempt."""
    record = read_record(path)
    if record is None or not isinstance(record.get("attempt"), int):
        return None
    return record if record["attempt"] >= attempt else None

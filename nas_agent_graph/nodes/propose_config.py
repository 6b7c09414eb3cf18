"""Get a proposal for the run under way, and write it down before it is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas_agent_graph.budget import BudgetSpent
from nas_agent_graph.context import Context, Proposal, SearchView
from nas_agent_graph.state import SearchState
from nas_system.errors import ProposalError
from nas_system.files import read_record, write_json


def propose_config(state: SearchState, context: Context) -> dict[str, Any]:
    """The base config for the first run; else what the proposer says, or its fallback after two repairs."""
    run_id, attempt = state["run_id"], state["attempt"]
    path = context.ledger.paths(run_id).proposal
    stored = _stored(path, attempt)
    if stored is not None:
        return {"proposal": stored, "attempt": stored["attempt"], "refusal": None}
    if not context.ledger.state.runs:
        proposal = Proposal("baseline", parent=None, hypothesis="the base configuration, unchanged")
    else:
        refused = (state["refusal"],) if state["refusal"] else ()
        try:
            proposal = _proposed(context, context.view(run_id, refused, attempt))
        except ProposalError as error:
            return {"proposal": None, "refusal": str(error)}
    record = proposal.to_record(context.ledger.state.metric) | {"attempt": attempt}
    # Here, because to do the whole node again would pay for another answer.
    context.disk.retry_until_space(lambda: write_json(path, record))
    return {"proposal": record, "refusal": None}


def _proposed(context: Context, view: SearchView) -> Proposal:
    if view.attempt > context.limits.repairs:
        return context.fallback.propose(view)
    try:
        return context.proposer.propose(view)
    except BudgetSpent as reason:
        context.progress.note(f"{view.run_id}: {reason}; {context.fallback.name} proposes")
        return context.fallback.propose(view)


def _stored(path: Path, attempt: int) -> dict[str, Any] | None:
    """The proposal already on disk, if it is at least as new as this attempt."""
    record = read_record(path)
    if record is None or not isinstance(record.get("attempt"), int):
        return None
    return record if record["attempt"] >= attempt else None

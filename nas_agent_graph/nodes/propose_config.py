"""Get a proposal for the run under way, and write it down before it is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas_agent_graph.context import Context, Proposal
from nas_agent_graph.state import SearchState
from nas_system.errors import ProposalError
from nas_system.nas_agent.records import load_record, save_record


def propose_config(state: SearchState, context: Context) -> dict[str, Any]:
    """The baseline for the first run; else what the proposer says, or its fallback after two repairs."""
    run_id, attempt = state["run_id"], state["attempt"]
    path = context.ledger.paths(run_id).proposal
    stored = _stored(path, attempt)
    if stored is not None:
        return {"proposal": stored, "attempt": stored["attempt"], "refusal": None}
    if not context.ledger.state.runs:
        proposal = Proposal("baseline", parent=None, hypothesis="the base configuration, unchanged")
    else:
        proposer = context.proposer if attempt <= context.limits.repairs else context.fallback
        refused = (state["refusal"],) if state["refusal"] else ()
        try:
            proposal = proposer.propose(context.view(run_id, refused, attempt))
        except ProposalError as error:
            return {"proposal": None, "refusal": str(error)}
    record = proposal.to_record() | {"attempt": attempt}
    save_record(path, record)
    return {"proposal": record, "refusal": None}


def _stored(path: Path, attempt: int) -> dict[str, Any] | None:
    """The proposal already on disk, if it is at least as new as this attempt."""
    record = load_record(path)
    if record is None or not isinstance(record.get("attempt"), int):
        return None
    return record if record["attempt"] >= attempt else None

"""Turn the proposal into a configuration, or say exactly why it cannot be one."""

from __future__ import annotations

from nas_agent_graph.analysis.stagnation import require_new_structure
from nas_agent_graph.context import CONTINUED, Context, Proposal, refuse_if_running
from nas_agent_graph.pool.repeats import open_asked
from nas_agent_graph.state import SearchState, StateUpdate
from nas_system.config_io.config_file import write_config
from nas_system.errors import ProposalError
from nas_system.space import RunConfig, apply_changes, canonical_key


def validate_config(state: SearchState, context: Context) -> StateUpdate:
    """Write config_used.py and go on, or send the reason back to the proposer; a wish for a repeat is granted
    first, and the run is proposed again after it."""
    run_id, record = state["run_id"], state["proposal"]
    if state["postponed"] or state["thinking"]:
        return {}
    try:
        if record is None:
            raise ProposalError(state["refusal"] or "no proposal came")
        proposal = Proposal.from_record(record)
        if proposal.repeat is not None:
            open_asked(run_id, proposal, context, state["launched"])
            return {"refusal": None, "proposal": None, "repeat_asked": True}
        config = _config(run_id, proposal, context)
    except ProposalError as error:
        proposer = record["proposer"] if record else context.proposer.name
        context.progress.refused(run_id, str(error), proposer)
        attempt = state["attempt"] + 1
        if attempt >= context.limits.attempts:
            return {"end": f"no new configuration could be proposed ({error})"}
        return {"attempt": attempt, "refusal": str(error), "proposal": None}
    write_config(context.ledger.paths(run_id).config, config)
    context.ledger.remember(run_id, config)
    context.progress.proposed(run_id, proposal, config)
    return {"refusal": None}


def _config(run_id: str, proposal: Proposal, context: Context) -> RunConfig:
    """Return the configuration to train. Raises ProposalError."""
    if proposal.parent is None:
        return context.base
    known = [run.run_id for run in context.ledger.state.runs]
    # The base config is known also when its folder is gone.
    base = context.base if known[:1] == [proposal.parent] else None
    parent = base or (context.ledger.config(proposal.parent) if proposal.parent in known else None)
    if parent is None:
        raise ProposalError(f"parent {proposal.parent!r} is not a run of this search that can be built upon")
    if proposal.proposer == CONTINUED:
        return parent
    config = apply_changes(parent, proposal.changes, max_seq_len=context.max_seq_len, fit=context.fit)
    if proposal.must_restructure:
        require_new_structure(context.view(run_id), proposal, parent, config)
    earlier = context.ledger.run_with_key(canonical_key(config))
    if earlier is not None and earlier.run_id != run_id:
        score = "no score" if earlier.val_score is None else f"{config.task.metric} {earlier.val_score:.6f}"
        raise ProposalError(
            f"this is the configuration of {earlier.run_id} ({earlier.status}, {score}); propose another one"
        )
    refuse_if_running(context.running_keys(run_id), canonical_key(config))
    return config

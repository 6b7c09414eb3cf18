"""Repeats that a proposer asks for instead of proposing: the run that it was asked about waits for them.

The wish stands in that run's proposal.json before anything else happens, with the training that it stands
for. So whoever dies in between leaves on disk whether that has been reserved, and it never is twice. Then the
run is proposed again.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from nas_agent_graph.context import Context, Proposal
from nas_agent_graph.pool.repeats import circumstances_of, latest_wish, prepare, repeat_of, wishes_in
from nas_system.errors import ProposalError
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import ASKED, AgentState, get_run_in_progress
from nas_system.nas_agent.log_text import one_line


def with_wishes(
    run_id: str, proposal: Proposal, seen: object, context: Context
) -> dict[str, list[Mapping[str, Any]]]:
    """Return what proposal.json says of repeats that were asked for in the place of this run: those granted,
    then this proposal, if it is such a wish. `seen` is what was known when it was made."""
    begun = _begun(context.ledger.state)
    wishes = [wish for wish in wishes_in(context.ledger.proposal(run_id)) if wish["training"] in begun]
    if proposal.repeat is not None:
        training_id = repeat_of(proposal.repeat, context)
        wishes.append({"training": training_id, "hypothesis": proposal.hypothesis, "seen": seen})
    return {"asked": wishes} if wishes else {}


def open_asked(run_id: str, proposal: Proposal, context: Context, launched: Container[str]) -> None:
    """Reserve the repeat that was asked for in the place of `run_id`, which gives it its device and waits.

    Raises ProposalError for a repeat that cannot be.
    """
    assert proposal.repeat is not None, "only a wish for a repeat opens one"
    ledger = context.ledger
    record = ledger.proposal(run_id)
    if latest_wish(record) not in _begun(ledger.state):
        context.view(run_id).refuse_repeat_of(proposal.repeat)
        training_id = repeat_of(proposal.repeat, context)
        if latest_wish(record) != training_id:
            raise ProposalError(f"the wish for {training_id} is not the one that was written down")
        run = get_run_in_progress(ledger.state, run_id)
        device = None if run is None else run.device
        ledger.lease(run_id, None)
        ledger.begin(training_id, "validate_config", device, purpose=ASKED)
        prepare(training_id, context, circumstances_of(context, launched, more=True))
        wish = f"{proposal.proposer} wants {proposal.repeat} once more first"
        context.progress.note(f"{run_id}: {wish}: {one_line(proposal.hypothesis, 300)}")
    # Without its attempt it is no proposal any more. What the answers cost still counts.
    write_json(ledger.paths(run_id).proposal, {name: record[name] for name in record if name != "attempt"})


def _begun(state: AgentState) -> set[str]:
    """Return the repeats that have begun."""
    return {repeat.training_id for repeat in state.repeats} | {
        run.run_id for run in state.in_progress if run.is_repeat
    }

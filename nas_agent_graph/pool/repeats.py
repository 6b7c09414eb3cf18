"""Repeats: one more training of a run's configuration with another seed, as the rule of selection wants it.

They live in their run's folder and are no runs: `--max-runs` does not count them. Which is due is a function
of what is on disk; what the rule was told besides is written down with each, so that a replay asks it again.

A proposer may ask for one instead of proposing. The run that it was asked about then waits for it. The wish
stands in that run's proposal.json before anything else happens, with the training that it stands for: whoever
dies in between leaves on disk whether that has been reserved, and it never is twice.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Container, Mapping
from typing import Any

from nas_agent_graph.context import Context, Proposal
from nas_agent_graph.pool.moments import n_repeats
from nas_agent_graph.pool.repeat_rule import standing_of
from nas_agent_graph.selection.candidates import Repeat
from nas_agent_graph.selection.circumstances import Circumstances
from nas_agent_graph.selection.rule import final_size, finalists, next_seed
from nas_system.config_io.config_file import write_config
from nas_system.errors import ConfigError, ProposalError
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import (
    ASKED,
    FINAL,
    AgentState,
    RunInProgress,
    get_run_in_progress,
    parts_of_repeat,
    repeat_id,
)
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.log_text import one_line
from nas_system.nas_agent.run_folders import make_run_folder, refuse_links_in


def circumstances_of(context: Context, launched: Container[str], *, more: bool) -> Circumstances:
    """Return what the rule is given now; only what is in `launched` is in progress."""
    limits = context.limits
    in_progress = [run.run_id for run in context.ledger.state.in_progress if run.run_id in launched]
    return Circumstances(limits.max_runs, limits.repeats, more, tuple(in_progress))


def open_repeat(
    due: Repeat, told: Circumstances, context: Context, thinking: Collection[str] = ()
) -> str | None:
    """Reserve the repeat that is due, if a slot is left; return its id, None if none is. The runs in
    `thinking` hold none."""
    training, training_id = without_waiting(context.ledger, thinking), repeat_of(due.run_id, context)
    if not context.slots.is_free(training, training_id):
        return None
    context.ledger.begin(training_id, "read_context", context.slots.device_for(training), purpose=due.purpose)
    prepare(training_id, context, told)
    return training_id


def prepare(training_id: str, context: Context, told: Circumstances | None = None) -> None:
    """Write what the training of a repeat needs, unless it is there; an earlier agent may have died before.

    Raises ConfigError where the configuration of its run is gone.
    """
    ledger, paths = context.ledger, context.ledger.paths(training_id)
    run_id, seed = parts_of_repeat(training_id)
    refuse_links_in(ledger.paths(run_id).folder)
    make_run_folder(paths.folder)
    in_progress = get_run_in_progress(ledger.state, training_id)
    assert in_progress is not None, "a repeat is reserved before it is prepared"
    if told is not None or not paths.proposal.exists():
        if told is None:
            begun = [run.run_id for run in ledger.state.in_progress]
            before = begun[: begun.index(training_id)]
            told = circumstances_of(context, before, more=in_progress.purpose != FINAL)
        device = {} if in_progress.device is None else {"device": in_progress.device}
        seen = {"ended": in_progress.after, "repeats": n_repeats(ledger.state), **told.to_record()}
        write_json(paths.proposal, {"purpose": in_progress.purpose, "seen": seen, **device})
    if not paths.config.exists():
        config = ledger.config(run_id)
        if config is None:
            raise ConfigError(
                f"{training_id}: the configuration of {run_id} is gone or was changed, so it cannot be "
                f"trained again; bring {ledger.paths(run_id).config} back"
            )
        write_config(paths.config, config.model_copy(update={"seed": seed}))


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


def due_repeat(context: Context, told: Circumstances) -> Repeat | None:
    """Return the repeat that is due; none without a rule, and none once the search's time is over."""
    most_s = context.limits.max_seconds
    if context.repeat_rule is None or (most_s is not None and context.spent.seconds >= most_s):
        return None
    return context.repeat_rule.due(context.ledger, told)


def why_nothing_begins(context: Context) -> str | None:
    """Return which limit keeps further runs from beginning, as a sentence; None while something is left of
    each. Of the time, what the final and refits will take is kept for them."""
    spent = context.committed
    reached = context.limits.reached(spent)
    most_s = context.limits.max_seconds
    if reached is not None or most_s is None or not spent.runs:
        return reached
    kept = {
        "the final": _seconds_of_final(context),
        "refits": context.limits.refit_share * spent.seconds,
    }
    kept_s = sum(kept.values())
    if spent.seconds + kept_s < most_s:
        return None
    what = " and ".join(name for name, seconds in kept.items() if seconds)
    return f"the time limit of {most_s / 3600:g} hours is reached, {kept_s:.0f} s of it kept for {what}"


def _seconds_of_final(context: Context) -> float:
    """Estimate how long the final will take, as long as the best runs took, and a run before it."""
    told = circumstances_of(context, (), more=False)
    if context.repeat_rule is None or context.ledger.state.leads_by == "margin" or told.repeats == 0:
        return 0.0
    candidates = standing_of(context.ledger, told).candidates
    best = finalists(candidates)
    seconds = [candidate.seconds for candidate in best if candidate.seconds is not None]
    trainings = final_size(len(context.ledger.state.run_ids), told.repeats)
    if not seconds or not trainings:
        return 0.0
    in_final_s = trainings * statistics.fmean(seconds) / min(context.slots.total, len(best))
    return in_final_s + statistics.fmean([other.seconds or 0.0 for other in candidates])


def waiting_for_repeats(ledger: Ledger) -> set[str]:
    """Return the runs in progress that hold no slot: their proposer has asked for a repeat, which has not
    ended."""
    asked = {run.run_id for run in ledger.state.in_progress if run.purpose == ASKED}
    if not asked:
        return set()
    runs = [run.run_id for run in ledger.state.runs_in_progress]
    return {run_id for run_id in runs if latest_wish(ledger.proposal(run_id)) in asked}


def without_waiting(ledger: Ledger, thinking: Collection[str] = ()) -> AgentState:
    """Return the state without the runs that wait for a repeat, or for an answer: what holds slots and
    devices."""
    waiting = waiting_for_repeats(ledger).union(thinking)
    in_progress = tuple(run for run in ledger.state.in_progress if run.run_id not in waiting)
    return ledger.state.replace(in_progress=in_progress)


def latest_wish(proposal: Mapping[str, Any]) -> str | None:
    """Return the repeat that was asked for last in the place of a run; None if none was."""
    wishes = wishes_in(proposal)
    return wishes[-1]["training"] if wishes else None


def wishes_in(proposal: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the wishes for repeats in a proposal.json, which anybody may have edited."""
    found = proposal.get("asked")
    wishes = found if isinstance(found, list) else []
    return [wish for wish in wishes if isinstance(wish, dict) and isinstance(wish.get("training"), str)]


def repeat_of(run_id: str, context: Context) -> str:
    """Return the id of the run's next repeat: with the first seed that it has not been trained with."""
    return repeat_id(run_id, _unused_seed(run_id, context))


def _unused_seed(run_id: str, context: Context) -> int:
    """Return the first seed after the base config's with which the run has not been trained."""
    state, base, config = context.ledger.state, context.base, context.ledger.config(run_id)
    used = {repeat.seed for repeat in state.repeats if repeat.run_id == run_id}
    used |= {parts_of_repeat(run.run_id)[1] for run in state.in_progress if _is_of(run, run_id)}
    return next_seed(base.seed if config is None else config.seed, used)


def _is_of(run: RunInProgress, run_id: str) -> bool:
    return run.is_repeat and parts_of_repeat(run.run_id)[0] == run_id

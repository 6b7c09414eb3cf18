"""Evaluate the run, write the verdict, add the run to the state, and say whether the search goes on."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from nas_agent_graph.acceptance import RepeatVerdictRecord, VerdictRecord, VerifiedRecord, evaluate
from nas_agent_graph.context import Context
from nas_agent_graph.pool.repeats import circumstances_of, due_repeat, why_nothing_begins
from nas_agent_graph.state import OutcomeRecord, ProposalRecord, SearchState, StateUpdate
from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import (
    CAUSE_CHARACTERS,
    RepeatInfo,
    RunInfo,
    get_best_run,
    get_run,
    is_repeat,
    without_scores,
)
from nas_system.space import canonical_key


def decide_acceptance(state: SearchState, context: Context) -> StateUpdate:
    """Write the verdict first, then the state: a crash between the two is made good by doing it again."""
    training_id, outcome, proposal = state["run_id"], state["outcome"], state["proposal"]
    assert outcome is not None, "a run is trained before it is evaluated"
    launched = {other: record for other, record in state["launched"].items() if other != training_id}
    if is_repeat(training_id):
        _finish_repeat(training_id, outcome, context)
    else:
        assert proposal is not None, "a run is proposed before it is trained"
        _finish_run(training_id, outcome, proposal, state["summary"], context)
    return {"launched": launched, **_what_next(launched, state["end"], context)}


def _what_next(launched: Container[str], end: str | None, context: Context) -> dict[str, object]:
    """Say whether the search is at its end: what has begun is brought to its end first, then what is due is
    repeated."""
    reached = why_nothing_begins(context)
    told = circumstances_of(context, launched, more=end is None and reached is None)
    to_repeat = due_repeat(context, told) is not None
    if end is None and not context.ledger.state.in_progress and not to_repeat:
        end = reached
    return {"to_repeat": to_repeat, "end": end}


def _finish_run(
    run_id: str, outcome: OutcomeRecord, proposal: ProposalRecord, summary: str, context: Context
) -> None:
    ledger = context.ledger
    # Only a search's first run measures the noise of the base config.
    first = not ledger.state.runs
    noise = outcome["noise"] if first else ledger.state.noise
    noise_runs = outcome["noise_runs"] if first else ledger.state.noise_runs
    best_run = get_best_run(ledger.state)
    verdict = evaluate(outcome["status"], outcome["val_score"], ledger.state)
    config = ledger.config(run_id)
    run = RunInfo(
        run_id=run_id,
        metric=ledger.state.metric,
        val_score=outcome["val_score"],
        test_score=outcome["test_score"],
        history_summary=summary[:300],
        accepted=verdict.accepted,
        status=outcome["status"],
        cause=outcome["cause"][:CAUSE_CHARACTERS] if outcome["cause"] else None,
        parent=proposal["parent"],
        family=config.model.family if config else None,
        proposer=proposal["proposer"],
        key=canonical_key(config) if config else None,
        seconds=outcome["seconds"],
        tokens=proposal["tokens"],
        cost_usd=proposal["cost_usd"],
        attempt=outcome["attempt"],
    )
    record = VerdictRecord(
        number=len(ledger.state.runs),
        accepted=verdict.accepted,
        against=best_run.run_id if best_run else None,
        reason=verdict.reason,
        noise=noise,
        noise_runs=noise_runs,
        run=run.model_dump(),
        leads_by=ledger.state.leads_by,
    )
    by_mean = ledger.state.leads_by == "mean"
    repeats = [RepeatInfo.model_validate(entry) for entry in outcome.get("repeats", ()) if by_mean]
    if repeats:
        record["repeats"] = [repeat.model_dump() for repeat in repeats]
    if outcome["verified"]:
        record["verified"] = outcome["verified"]
    write_json(ledger.paths(run_id).verdict, record)
    ledger.finish(run, repeats, noise=noise, noise_runs=noise_runs)
    context.progress.finished(run, record)
    _warn_of_budgets(run, context)


def _warn_of_budgets(run: RunInfo, context: Context) -> None:
    now = context.spent
    before = replace(
        now,
        seconds=now.seconds - (run.seconds or 0.0),
        tokens=now.tokens - run.tokens,
        cost_usd=now.cost_usd - (run.cost_usd or 0.0),
    )
    for warning in context.limits.warnings(before, now):
        context.progress.note(warning)


def _finish_repeat(training_id: str, outcome: OutcomeRecord, context: Context) -> None:
    """Add the repeat; a run whose own score turned out not to be that of its weights loses it."""
    ledger = context.ledger
    (repeat,) = (RepeatInfo.model_validate(entry) for entry in outcome.get("repeats", ()))
    others = {found["run"]: found for found in outcome["verified"] if found["run"] != training_id}
    refuted = [_add_to_verdict(other, found, context) for other, found in others.items()]
    record = RepeatVerdictRecord(number=len(ledger.state.repeats), repeat=repeat.model_dump())
    if outcome["verified"]:
        record["verified"] = outcome["verified"]
    write_json(ledger.paths(training_id).verdict, record)
    ledger.finish_repeat(repeat, [run for run in refuted if run is not None])
    context.progress.repeated(repeat, ledger.state)


def _add_to_verdict(run_id: str, found: VerifiedRecord, context: Context) -> RunInfo | None:
    """Write down in a run's verdict what its score is against that of its weights; return the run as it
    stands from now on if that is not its own, else None."""
    ledger = context.ledger
    path, run = ledger.paths(run_id).verdict, get_run(ledger.state, run_id)
    assert run is not None, "only the score of a run that has ended is computed again"
    record = read_record(path) or {}
    verified = record.get("verified")
    known = verified if isinstance(verified, list) else []
    if any(isinstance(entry, dict) and entry.get("run") == run_id for entry in known):
        added = known
    else:
        added = [*known, found]
    refuted = None
    if found["problem"] is not None:
        context.progress.note(f"{run_id}: {found['problem']}; it has no score any more")
        (refuted,) = without_scores(ledger.state.replace(runs=(run,)), [run_id]).runs
        refuted = refuted.model_copy(update={"cause": found["problem"][:CAUSE_CHARACTERS]})
    entry = (refuted or run).model_dump()
    write_json(path, {**record, "verified": added, "run": entry})
    return refuted

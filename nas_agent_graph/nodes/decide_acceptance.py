"""Evaluate the run, write the verdict, add the run to the state, and say whether the search goes on."""

from __future__ import annotations

from dataclasses import replace

from nas_agent_graph.acceptance import VerdictRecord, evaluate
from nas_agent_graph.context import Context
from nas_agent_graph.state import SearchState, StateUpdate
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import RunInfo, get_best_run
from nas_system.space import canonical_key


def decide_acceptance(state: SearchState, context: Context) -> StateUpdate:
    """Write the verdict first, then the state: a crash between the two is made good by doing it again."""
    ledger, run_id = context.ledger, state["run_id"]
    outcome, proposal = state["outcome"], state["proposal"]
    assert outcome is not None and proposal is not None, (
        "a run is proposed and trained before it is evaluated"
    )
    # Only a search's first run measures the noise; every later run is evaluated by what it measured.
    first = not ledger.state.runs
    noise = outcome["noise"] if first else ledger.state.noise
    noise_runs = outcome["noise_runs"] if first else ledger.state.noise_runs
    best_run = get_best_run(ledger.state)
    direction = ledger.state.direction
    verdict = evaluate(outcome["status"], outcome["val_score"], best_run, noise, direction)
    config = ledger.config(run_id)
    run = RunInfo(
        run_id=run_id,
        metric=ledger.state.metric,
        val_score=outcome["val_score"],
        test_score=outcome["test_score"],
        history_summary=state["summary"][:300],
        accepted=verdict.accepted,
        status=outcome["status"],
        cause=outcome["cause"][:200] if outcome["cause"] else None,
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
    )
    if outcome["verified"]:
        record["verified"] = outcome["verified"]
    write_json(ledger.paths(run_id).verdict, record)
    ledger.finish(run, noise=noise, noise_runs=noise_runs)
    context.progress.finished(run, record)
    now = context.spent
    before = replace(
        now,
        seconds=now.seconds - (run.seconds or 0.0),
        tokens=now.tokens - run.tokens,
        cost_usd=now.cost_usd - (run.cost_usd or 0.0),
    )
    for warning in context.limits.warnings(before, now):
        context.progress.note(warning)
    launched = {other: record for other, record in state["launched"].items() if other != run_id}
    # What has begun is brought to its end first.
    end = None if ledger.state.in_progress else context.limits.reached(now)
    return {"launched": launched, "end": state["end"] or end}

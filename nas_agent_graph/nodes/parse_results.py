"""Wait for any training to end, and read how. Numbers come from the files it wrote, never from its output.

A training may claim any score. One with which the run would lead is computed again from its weights, and so
are those that means and noise are made of: the repeats, and the scores that they are compared with.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nas_agent_graph.acceptance import VerifiedRecord, evaluate, is_same_score
from nas_agent_graph.context import Context, Recomputed
from nas_agent_graph.pool.trainings import await_end
from nas_agent_graph.state import OutcomeRecord, SearchState, StateUpdate
from nas_system.config_io.config_file import read_config
from nas_system.errors import ConfigError
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import (
    BASE_REPEAT,
    CAUSE_CHARACTERS,
    AgentState,
    RepeatInfo,
    add_repeat,
    get_best_run,
    get_run_in_progress,
    is_repeat,
    parts_of_repeat,
    with_leader,
    without_scores,
)
from nas_system.nas_agent.outcome import Outcome, Status
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig, canonical_key

VERIFY_TIMEOUT_S = 600.0
"""Longest time of a pass over the validation part, on top of what the training itself took."""


def parse_results(state: SearchState, context: Context) -> StateUpdate:
    """Read the outcome of the run that ended first; a failed run takes the same road as a good one."""
    if state["end"] is not None:
        count = len(state["launched"])
        left = "1 run that is" if count == 1 else f"{count} runs that are"
        context.progress.note(f"{state['end']}; waiting for {left} still training")
    run_id = await_end(list(state["launched"]), context)
    folder = context.ledger.paths(run_id).folder
    if is_repeat(run_id):
        outcome, repeat, verified = _results_of_repeat(run_id, context)
        record = _record(outcome, None, 0, verified)
        record["repeats"] = [repeat.model_dump()]
        return {"run_id": run_id, "proposal": None, "outcome": record}
    folders = (folder, *sorted((folder / "repeats").glob("seed_*")))
    outcomes = {path: context.outcome(path) for path in folders}
    verified = _verify(folders, outcomes, context) if _would_lead(outcomes[folder], context) else {}
    outcomes |= {path: _judged(outcomes[path], record) for path, record in verified.items()}
    noise, scores = _noise_of(outcomes)
    record = _record(outcomes[folder], noise, scores, list(verified.values()))
    record["repeats"] = [
        _repeat(path, outcome, context) for path, outcome in outcomes.items() if path != folder
    ]
    return {"run_id": run_id, "proposal": state["launched"][run_id], "outcome": record}


def _record(
    outcome: Outcome, noise: float | None, noise_runs: int, verified: list[VerifiedRecord]
) -> OutcomeRecord:
    return OutcomeRecord(
        status=str(outcome.status),
        cause=outcome.cause_and_numbers,
        val_score=outcome.val_score,
        test_score=outcome.test_score,
        seconds=outcome.wall_s,
        attempt=outcome.attempt,
        noise=noise,
        noise_runs=noise_runs,
        verified=verified,
    )


def _repeat(folder: Path, outcome: Outcome, context: Context) -> dict[str, object]:
    """Return the entry of a repeat that ended with the first run."""
    training_id = folder.relative_to(context.ledger.runs_dir).as_posix()
    return _repeat_info(training_id, BASE_REPEAT, outcome, context.ledger.state).model_dump()


def _repeat_info(
    training_id: str, purpose: str, outcome: Outcome, state: AgentState, after: int | None = None
) -> RepeatInfo:
    """Return what the state keeps of a repeat; `after` so many runs it began, by default after all."""
    run_id, seed = parts_of_repeat(training_id)
    cause = outcome.cause_and_numbers
    return RepeatInfo(
        run_id=run_id,
        seed=seed,
        purpose=purpose,
        after=len(state.runs) if after is None else after,
        ended_after=len(state.runs),
        status=str(outcome.status),
        cause=cause[:CAUSE_CHARACTERS] if cause else None,
        val_score=outcome.val_score,
        seconds=outcome.wall_s,
        attempt=outcome.attempt,
    )


def _results_of_repeat(
    training_id: str, context: Context
) -> tuple[Outcome, RepeatInfo, list[VerifiedRecord]]:
    """Return how the repeat ended, its entry, and what was computed again: its score, the run's own, and that
    of any run that would lead from now on."""
    ledger, folder = context.ledger, context.ledger.paths(training_id).folder
    outcome = context.outcome(folder)
    run_id, _ = parts_of_repeat(training_id)
    in_progress = get_run_in_progress(ledger.state, training_id)
    assert in_progress is not None and in_progress.purpose is not None, (
        "a repeat is reserved before it trains"
    )
    verified = _verify([folder], {folder: outcome}, context)
    if folder in verified:
        outcome = _judged(outcome, verified[folder])
    repeat = _repeat_info(training_id, in_progress.purpose, outcome, ledger.state, after=in_progress.after)
    found = list(verified.values())
    known = {run_id: _own_record(run_id, context)}
    while True:
        refuted = {run for run, record in known.items() if record is not None and record["problem"]}
        state = without_scores(ledger.state, refuted)
        if run_id not in refuted:
            state = add_repeat(state, repeat)
        leader = get_best_run(with_leader(state))
        if leader is None or leader.run_id in known:
            break
        known[leader.run_id] = _own_record(leader.run_id, context)
    return outcome, repeat, found + [record for record in known.values() if record is not None]


def _own_record(run_id: str, context: Context) -> VerifiedRecord | None:
    """Return what the run's own score is against that of its weights; None where a training is taken at its
    word. What was found out once stands in the run's verdict."""
    ledger, folder = context.ledger, context.ledger.paths(run_id).folder
    stored = (read_record(ledger.paths(run_id).verdict) or {}).get("verified")
    for record in stored if isinstance(stored, list) else ():
        if isinstance(record, dict) and record.get("run") == run_id and "problem" in record:
            return VerifiedRecord(**record)
    return _verify([folder], {folder: context.outcome(folder)}, context).get(folder)


def _noise_of(outcomes: Mapping[Path, Outcome]) -> tuple[float | None, int]:
    """Return the standard deviation of a run's score over its repeats, None below two; and over how many."""
    scores = [o.val_score for o in outcomes.values() if o.status is Status.OK and o.val_score is not None]
    return (statistics.stdev(scores) if len(scores) > 1 else None), len(scores)


def _would_lead(outcome: Outcome, context: Context) -> bool:
    return evaluate(outcome.status, outcome.val_score, context.ledger.state).accepted


def _verify(
    folders: Sequence[Path], outcomes: Mapping[Path, Outcome], context: Context
) -> dict[Path, VerifiedRecord]:
    """Compute the scores of trainings again, where they have one."""
    if context.verify is None:
        return {}
    ledger = context.ledger
    reported = {path: score for path in folders if (score := outcomes[path].val_score) is not None}
    run_ids = {path: path.relative_to(ledger.runs_dir).parts[0] for path in reported}
    # Weights may fit an easier configuration than the one that was proposed.
    own = [path for path, run_id in run_ids.items() if _has_own_config(path, ledger.config(run_id))]
    timeout_s = VERIFY_TIMEOUT_S + sum(outcomes[path].wall_s or 0.0 for path in own)
    computed = dict(zip(own, context.verify(own, timeout_s=timeout_s) if own else (), strict=True))
    foreign = Recomputed(None, 0, "config_used.py is not what was proposed: the training has changed it")
    return {
        path: VerifiedRecord(
            run=path.relative_to(context.ledger.runs_dir).as_posix(),
            reported=score,
            val_score=again.score,
            problem=_problem_of(score, again, context.ledger.state.metric),
        )
        for path, score in reported.items()
        if (again := computed.get(path, foreign)) is not None
    }


def _has_own_config(folder: Path, expected: RunConfig | None) -> bool:
    """Return whether the configuration in the folder still means the training that was asked for."""
    try:
        found = read_config(RunPaths(folder).config, follow_link=False)
    except ConfigError:
        return False
    return expected is not None and (canonical_key(found), found.task) == (
        canonical_key(expected),
        expected.task,
    )


def _problem_of(reported: float, again: Recomputed, metric: str) -> str | None:
    """Return why the reported score is not that of the weights; None if it is."""
    if again.score is None:
        return again.problem or f"best_model.pth gives no {metric}"
    if not is_same_score(metric, reported, again.score, again.samples):
        return (
            f"metrics.json says {metric} {reported:.6g}, best_model.pth gives {again.score:.6g}: "
            "the score is not that of the weights"
        )
    return None


def _judged(outcome: Outcome, record: VerifiedRecord) -> Outcome:
    if record["problem"] is None:
        return outcome
    return replace(
        outcome, status=Status.BAD_RESULT, cause=record["problem"], val_score=None, test_score=None
    )

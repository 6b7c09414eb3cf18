"""Wait for any training to end, and read how. Numbers come from the files it wrote, never from its output.

A training may claim any score. One with which the run would lead is computed again from its weights, and so
are those that the noise is made of: a forged noise would keep every later run from leading.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nas_agent_graph.acceptance import VerifiedRecord, evaluate, is_same_score
from nas_agent_graph.context import Context, Recomputed
from nas_agent_graph.pool.trainings import await_end
from nas_agent_graph.state import OutcomeRecord, SearchState, StateUpdate
from nas_system.config_io.config_file import read_config
from nas_system.errors import ConfigError
from nas_system.nas_agent.agent_state import get_best_run
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
    folders = (folder, *sorted((folder / "repeats").glob("seed_*")))
    outcomes = {path: context.outcome(path) for path in folders}
    verified = _verify(folder, outcomes, context) if _would_lead(outcomes[folder], context) else {}
    outcomes |= {path: _judged(outcomes[path], record) for path, record in verified.items()}
    noise, scores = _noise_of(outcomes)
    outcome = outcomes[folder]
    record = OutcomeRecord(
        status=str(outcome.status),
        cause=outcome.cause_and_numbers,
        val_score=outcome.val_score,
        test_score=outcome.test_score,
        seconds=outcome.wall_s,
        attempt=outcome.attempt,
        noise=noise,
        noise_runs=scores,
        verified=list(verified.values()),
    )
    return {"run_id": run_id, "proposal": state["launched"][run_id], "outcome": record}


def _noise_of(outcomes: Mapping[Path, Outcome]) -> tuple[float | None, int]:
    """Return the standard deviation of a run's score over its repeats, None below two; and over how many."""
    scores = [o.val_score for o in outcomes.values() if o.status is Status.OK and o.val_score is not None]
    return (statistics.stdev(scores) if len(scores) > 1 else None), len(scores)


def _would_lead(outcome: Outcome, context: Context) -> bool:
    ledger = context.ledger.state
    best_run = get_best_run(ledger)
    return evaluate(outcome.status, outcome.val_score, best_run, ledger.noise, ledger.direction).accepted


def _verify(folder: Path, outcomes: Mapping[Path, Outcome], context: Context) -> dict[Path, VerifiedRecord]:
    """Compute the scores of the run and of its repeats again."""
    if context.verify is None:
        return {}
    config = context.ledger.config(folder.name)
    reported = {path: o.val_score for path, o in outcomes.items() if o.val_score is not None}
    # Weights may fit an easier configuration than the one that was proposed.
    own = [path for path in reported if _has_own_config(path, context.base if path != folder else config)]
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

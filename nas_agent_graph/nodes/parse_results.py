"""Read how the training ended. Numbers come from the files it wrote, never from its output."""

from __future__ import annotations

import statistics

from nas_agent_graph.context import Context
from nas_agent_graph.state import OutcomeRecord, SearchState, StateUpdate
from nas_system.nas_agent.outcome import Status
from nas_system.processes.run_files import RunPaths


def parse_results(state: SearchState, context: Context) -> StateUpdate:
    """Read the outcome of the run; a failed run takes the same road as a good one."""
    paths = context.ledger.paths(state["run_id"])
    outcome = context.outcome(paths.folder)
    noise, scores = noise_of_repeats(paths, context)
    record = OutcomeRecord(
        status=str(outcome.status),
        cause=outcome.cause_and_numbers,
        val_score=outcome.val_score,
        test_score=outcome.test_score,
        seconds=outcome.wall_s,
        attempt=outcome.attempt,
        noise=noise,
        noise_runs=scores,
    )
    return {"outcome": record}


def noise_of_repeats(paths: RunPaths, context: Context) -> tuple[float | None, int]:
    """Return the standard deviation of a run's score over its repeats, None below two; and over how many."""
    folders = [paths.folder, *sorted((paths.folder / "repeats").glob("seed_*"))]
    outcomes = [context.outcome(folder) for folder in folders]
    scores = [o.val_score for o in outcomes if o.status is Status.OK and o.val_score is not None]
    return (statistics.stdev(scores) if len(scores) > 1 else None), len(scores)

"""What a search would have chosen at an earlier date, by the validation windows that were known then.

The configurations are what they are: they were proposed, trained and stopped by all rows of the validation
part. Only what is chosen among them is chosen again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nas_agent_graph.analysis.resolution import Losses, block_of, losses_of
from nas_agent_graph.analysis.standings import candidates_of
from nas_agent_graph.handover.choice import Evidence
from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.conclusion import conclude
from nas_agent_graph.selection.noise import SeedNoise
from nas_system.nas_agent.agent_state import AgentState, get_run, is_fresh
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.window_errors import read_baseline_errors, read_errors
from nas_system.processes.run_files import BASELINE_ERRORS_FILE
from nas_system.space.task_info import TaskInfo


def windows_known_at(row: int, ends: Mapping[str, float], info: TaskInfo) -> int:
    """Return of how many of the first validation windows, at all rolling origins, every truth lies before
    `row`. `ends` are the ends of the parts, in rows."""
    train_end, val_end = int(ends["train"]), int(ends["val"])
    size, steps, known = val_end - train_end, info.task.horizon, 0
    for back in range(info.task.trainings - 1, -1, -1):
        first = train_end - back * size
        known += min(max(row - steps - first + 1, 0), max(size - steps + 1, 0))
    return known


def evidence_of(windows: int, ledger: Ledger, info: TaskInfo) -> Evidence | None:
    """Return the evidence of the first validation windows alone; None where no run has kept its losses."""
    state = ledger.state
    losses = {one.run_id: _losses(one, windows, ledger) for one in candidates_of(state)}
    candidates = [
        _rescored(one, state, known) for one in candidates_of(state) if (known := losses[one.run_id])
    ]
    scores = {
        row.name: score
        for row in info.baselines
        if not row.windows and (score := row.on("val", state.metric)) is not None
    }
    kept = read_baseline_errors(ledger.runs_dir / BASELINE_ERRORS_FILE, scores)
    baselines = {name: losses_of(rows, state.direction)[:windows] for name, rows in kept.items()}
    baselines = {name: rows for name, rows in baselines.items() if np.isfinite(rows).all()}
    errors = {one.run_id: np.stack(_wanted(one, state, losses[one.run_id])) for one in candidates}
    blocks = {run_id: block_of(ledger.config(run_id), info, found) for run_id, found in errors.items()}
    means = {name: float(rows.mean()) for name, rows in baselines.items()}
    conclusion = conclude(candidates, SeedNoise.of(candidates), errors, baselines, means, blocks)
    return None if conclusion is None else Evidence(conclusion, candidates, means, windows)


def _losses(candidate: Candidate, windows: int, ledger: Ledger) -> dict[str, Losses]:
    """Return the losses of a run's trainings on the first windows, its own first; nothing unless all of them
    were kept."""
    state = ledger.state
    run = get_run(state, candidate.run_id)
    scores = {} if run is None else {run.run_id: run.val_score}
    scores |= {
        repeat.training_id: repeat.val_score
        for repeat in state.repeats
        if repeat.run_id == candidate.run_id and repeat.status == "OK" and repeat.val_score is not None
    }
    found = {name: read_errors(ledger.paths(name).val_errors, score=score) for name, score in scores.items()}
    if any(rows is None or len(rows) < windows for rows in found.values()):
        return {}
    return {
        name: losses_of(rows, state.direction)[:windows] for name, rows in found.items() if rows is not None
    }


def _rescored(candidate: Candidate, state: AgentState, losses: Mapping[str, Losses]) -> Candidate:
    fresh = {one.training_id for one in state.repeats if is_fresh(one, state)}
    means = {name: float(rows.mean()) for name, rows in losses.items()}
    return replace(
        candidate,
        scores=tuple(means.values()),
        fresh=tuple(mean for name, mean in means.items() if name in fresh),
    )


def _wanted(candidate: Candidate, state: AgentState, losses: Mapping[str, Losses]) -> list[Losses]:
    """Return the losses that a conclusion rests on: those of fresh seeds, where there are any."""
    fresh = [
        losses[one.training_id]
        for one in state.repeats
        if one.run_id == candidate.run_id and one.training_id in losses and is_fresh(one, state)
    ]
    return fresh or [losses[candidate.run_id]]

"""What a search says at its end, from its files: made once everything has ended, and read by every page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas_agent_graph.analysis.resolution import Losses, block_of, losses_of
from nas_agent_graph.analysis.standings import candidates_of, noise_of
from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.conclusion import MOST_TIES, Conclusion, conclude
from nas_agent_graph.selection.record import from_record, to_record
from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import AgentState, get_run, is_fresh
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.window_errors import read_baseline_errors, read_errors
from nas_system.processes.run_files import BASELINE_ERRORS_FILE, CONCLUSION_FILE
from nas_system.space.score import loss_of
from nas_system.space.task_info import TaskInfo


def contenders(state: AgentState, conclusion: Conclusion | None = None) -> list[str]:
    """Return the trainings whose losses on the validation windows a conclusion rests on: of the runs with the
    lowest means, and of those in the tie set, those with fresh seeds, where there are any, else their own."""
    ties = () if conclusion is None else conclusion.ties
    ranked = sorted(candidates_of(state), key=lambda candidate: candidate.mean)
    single = [candidate for candidate in ranked if not candidate.fresh]
    chosen = [candidate for candidate in ranked if candidate.fresh or candidate.run_id in ties]
    chosen += [candidate for candidate in single[:MOST_TIES] if candidate.run_id not in ties]
    return [name for candidate in chosen for name in _trainings(candidate, state)]


def _trainings(candidate: Candidate, state: AgentState) -> list[str]:
    fresh = [
        repeat.training_id
        for repeat in state.repeats
        if repeat.run_id == candidate.run_id and is_fresh(repeat, state)
    ]
    return fresh or [candidate.run_id]


def conclude_search(ledger: Ledger, info: TaskInfo | None) -> Conclusion | None:
    """Conclude from what is on disk, and write `runs/conclusion.json`; None where no run has a score.

    Raises OSError where there is no space for it.
    """
    state = ledger.state
    if state.leads_by == "margin":
        return None
    baselines = info.baselines if info else ()
    scores = {row.name: score for row in baselines if (score := row.on("val", state.metric)) is not None}
    known = read_baseline_errors(ledger.runs_dir / BASELINE_ERRORS_FILE, scores)
    candidates = candidates_of(state)
    errors = _errors_of_runs(ledger, candidates)
    blocks = {
        candidate.run_id: block_of(ledger.config(candidate.run_id), info, errors.get(candidate.run_id))
        for candidate in candidates
    }
    found = conclude(
        candidates,
        noise_of(state),
        errors,
        {name: losses_of(rows, state.direction) for name, rows in known.items()},
        {name: loss_of(score, state.direction) for name, score in scores.items()},
        blocks,
    )
    if found is None:
        return None
    hold_out = state.hold_out.get(found.recommended)
    if hold_out is not None:
        rows = read_errors(ledger.paths(found.recommended).hold_out_errors, score=hold_out)
        losses = None if rows is None else losses_of(rows, state.direction)
        found = found.with_hold_out(loss_of(hold_out, state.direction), losses, blocks[found.recommended])
    record = {"runs": len(state.runs), "repeats": len(state.repeats), "on_hold_out": hold_out is not None}
    write_json(ledger.runs_dir / CONCLUSION_FILE, {**record, **to_record(found)})
    return found


def read_conclusion(workspace: Path, state: AgentState) -> Conclusion | None:
    """Return what the search said at its end; None for one that has not ended, or has gone on since."""
    record = read_record(workspace / "runs" / CONCLUSION_FILE) or {}
    scored = state.best_run_id in state.hold_out
    of = (record.get("runs"), record.get("repeats"), record.get("on_hold_out", scored))
    if of != (len(state.runs), len(state.repeats), scored):
        return None
    found = from_record(record)
    known = found is not None and get_run(state, found.recommended) is not None
    return found if known and found is not None and found.recommended == state.best_run_id else None


def _errors_of_runs(ledger: Ledger, candidates: Sequence[Candidate]) -> dict[str, Losses]:
    """Return (trainings, windows) losses by run; of none that has not kept those that its scores are of."""
    state, found = ledger.state, {}
    scores = {run.run_id: run.val_score for run in state.runs}
    scores |= {repeat.training_id: repeat.val_score for repeat in state.repeats}
    for candidate in candidates:
        rows = [
            read_errors(ledger.paths(name).val_errors, score=scores[name])
            for name in _trainings(candidate, state)
        ]
        known = [losses_of(row, state.direction) for row in rows if row is not None]
        if len(known) == len(rows) and len({len(row) for row in known}) == 1:
            found[candidate.run_id] = np.stack(known)
    return found

"""Everything a report of a search shows, gathered from its workspace into one JSON-able structure.

Reads only, trusts nothing (any file may be truncated, missing or written by a language model), and
is bounded: a search of 1,000 runs gives a page that a browser still opens at once.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from nas_agent_graph.analysis.calibration import calibrate, format_calibration, predictions_of
from nas_agent_graph.analysis.standings import noise_of
from nas_agent_graph.report.accuracy import Totals, ensemble_record, lines_of_steps, recommended_of
from nas_agent_graph.report.conversation import ShownMessage, conversation_of, fair_cap, shortened
from nas_agent_graph.report.timeline import timeline_of
from nas_agent_graph.show.accuracy import totals_of
from nas_agent_graph.show.contenders import conclusion_record
from nas_agent_graph.show.leaderboard import card_lines, headline
from nas_agent_graph.show.pages import recommended_by
from nas_agent_graph.show.remarks import remarks
from nas_agent_graph.show.rows import failures_of, pruned_of, rows_of, ties_of
from nas_agent_graph.show.run import FileSize, RunRecord, record_of_run
from nas_agent_graph.show.seeds import format_in_progress, spread_of
from nas_agent_graph.text.recommended import recommendation_lines
from nas_agent_graph.text.terminal import format_changes, format_value, printable
from nas_system.errors import StateError
from nas_system.files import finite
from nas_system.nas_agent.agent_state import AgentState, get_best_run, mean_score
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.log_text import log_tail
from nas_system.nas_agent.logging_utils import load_history
from nas_system.nas_agent.workspace_lock import is_held
from nas_system.space import active_values, metric_name_of, metric_on
from nas_system.space.score import Direction, loss_of
from nas_system.space.task_info import HOLD_OUT, TaskInfo

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion

SCHEMA_VERSION = 3
_WIDE = 10_000
"""Columns for sentences that the page itself breaks into lines."""
_TONES = {"bold red": "alarm", "bold yellow": "warning", "yellow": "warning"}


@dataclass(frozen=True)
class Limits:
    """How much of what may grow without bound is shown; what is left out is counted."""

    conversation_characters: int = 6_000_000
    log_characters: int = 1_500_000
    curve_points: int = 160_000
    """Epochs of all curves together; a curve keeps at least 40."""
    repeats: int = 60
    """Of one run."""
    text_characters: int = 4_000
    """Of one hypothesis."""
    log_lines: int = 40


class CurveColumns(TypedDict):
    """A learning curve, thinned."""

    epoch: list[int]
    train: list[float | None]
    val: list[float | None]
    best: int | None
    """The best epoch."""
    epochs: int
    lr: list[float | None]
    """Learning rate of the first and the last epoch."""


class ShownChange(TypedDict):
    parameter: object
    old: str | None
    new: str


class ShownRepeat(TypedDict):
    """A training of the run with another seed."""

    name: str
    seed: int | None
    purpose: str | None
    fresh: bool
    status: str
    val_score: float | None
    seconds: float | None


class ReportRun(TypedDict):
    """One run as the page's scripts read it."""

    run_id: str
    running: bool
    step: str | None
    is_best_run: bool
    family: str | None
    status: str | None
    cause: str | None
    accepted: bool | None
    attempt: int | None
    seconds: float | None
    val_score: float | None
    """Of its own training."""
    mean: float | None
    """Over its seeds; what runs are ranked by."""
    sd: float | None
    seeds: int
    tie: bool
    """Whether the search, which has ended, cannot tell it from the recommended run, or that from others."""
    repeats: list[ShownRepeat]
    test_score: float | None
    accuracy: Totals
    """Of its own training, in the units of the data."""
    parent: str | None
    proposer: str | None
    delta: float | None
    """Mean minus the best run's."""
    delta_noise: float | None
    """The same in units of the base config's noise, in a search that leads by a margin."""
    tokens: int
    cost: float | None
    refused: int
    hypothesis: str | None
    expected: float | None
    change_summary: str
    changes: list[ShownChange]
    config: dict[str, str]
    summary: str
    curve: CurveColumns | None
    verdict: str | None
    outcome: dict[str, object]
    files: list[FileSize]
    conversation: list[ShownMessage]
    log: str


def report_record(
    workspace: Path,
    state: AgentState,
    info: TaskInfo | None,
    *,
    now: datetime,
    limits: Limits | None = None,
    conclusion: Conclusion | None = None,
) -> dict[str, Any]:
    """Build the whole report but its pictures: about the search, its baselines, and every run in order.

    `conclusion` is what the search said at its end.
    """
    limits = limits or Limits()
    ledger = Ledger(workspace, state)
    known = state.run_ids
    points = max(40, min(400, limits.curve_points // max(len(known), 1)))
    prompts: dict[str, str] = {}
    ties = frozenset() if conclusion is None else ties_of(conclusion)
    runs = [
        _run_record(ledger, run_id, points, prompts, limits, tie=(run_id, False) in ties) for run_id in known
    ]
    left_out, live = _bound(runs, limits), is_held(workspace)
    recommended = recommended_of(ledger.runs_dir)
    handed_over = recommended_by(workspace, state)
    record = {
        "schema": SCHEMA_VERSION,
        "generated": now.isoformat(timespec="seconds"),
        "name": workspace.resolve().name,
        "live": live,
        "search": {**_search_record(state, info, runs, conclusion), "calibration": _calibration(ledger)},
        "conclusion": None if conclusion is None else conclusion_record(conclusion, state),
        "baselines": [
            {
                "name": printable(baseline.name, 40),
                "val_score": baseline.on("val", state.metric),
                "test_score": baseline.on("test", state.metric),
                "hold_out_score": baseline.on(HOLD_OUT, state.metric),
                "accuracy": totals_of(baseline.accuracy),
                "tie": (baseline.name, True) in ties,
            }
            for baseline in (info.baselines if info else ())
        ],
        "ensemble": ensemble_record(rows_of(state, info, conclusion, handed_over)),
        "refit_seconds": 0.0 if handed_over is None else handed_over.cost.refit_sec,
        "recommendation": [] if handed_over is None else recommendation_lines(handed_over, state.metric),
        "recommended": None if recommended is None else recommended.to_json(),
        "per_step": lines_of_steps(ledger.runs_dir, state, info, recommended),
        "runs": runs,
        "timeline": timeline_of(ledger.runs_dir, state, now, live=live),
        "left_out": left_out,
    }
    return printable_json(record)


def _search_record(
    state: AgentState, info: TaskInfo | None, runs: Sequence[ReportRun], conclusion: Conclusion | None
) -> dict[str, object]:
    best_run = get_best_run(state)
    groups = (
        headline(state, _WIDE),
        remarks(state, info, rows_of(state, info, conclusion), _WIDE, conclusion),
        card_lines(info, _WIDE),
    )
    lines = [[{"text": line.text, "tone": _TONES.get(line.style, "")} for line in group] for group in groups]
    source = state.data
    costs = [cost for run in runs if (cost := run["cost"]) is not None]
    return {
        "headline": lines[0],
        "remarks": lines[1],
        "card": lines[2],
        "max_runs": state.max_runs,
        "finished": len(state.runs),
        "pruned": len(pruned_of(state)),
        "failed": len(failures_of(state)),
        "accepted": sum(run.accepted for run in state.runs),
        "seconds": sum(run.seconds or 0.0 for run in state.runs),
        "tokens": sum(run["tokens"] for run in runs),
        "cost": sum(costs) if costs else None,
        "best_run": best_run.run_id if best_run else None,
        "best": mean_score(state, best_run) if best_run else None,
        "leads_by": state.leads_by,
        # That of the base config, by which a score had to be better to lead.
        "noise": state.noise if state.leads_by == "margin" else None,
        "noise_of_seeds": noise_of(state).pooled,
        "repeats": len(state.repeats),
        "repeats_running": [format_in_progress(run) for run in state.in_progress if run.is_repeat],
        "seed": state.seed,
        "metric": state.metric,
        "direction": state.direction,
        "error": metric_name_of(state.metric),
        "goal": f"{printable(state.labels.goal, 200)}; the {state.task.winning} wins" if state.task else None,
        "task": state.task.model_dump(mode="json") if state.task else None,
        "data": dict(source) if isinstance(source, Mapping) else None,
        "hold_out": state.hold_out.get(best_run.run_id) if best_run else None,
    }


def _calibration(ledger: Ledger) -> list[str]:
    """Describe how good each proposer's predictions were, a sentence each."""
    noise = ledger.state.noise
    rows = calibrate(predictions_of(ledger), noise, ledger.state.direction)
    return [
        f"Predictions by {printable(row.proposer, 60)}: {format_calibration(row, noise)}." for row in rows
    ]


def _run_record(
    ledger: Ledger, run_id: str, points: int, prompts: dict[str, str], limits: Limits, *, tie: bool
) -> ReportRun:
    known, state = record_of_run(ledger, run_id), ledger.state
    run, proposal, outcome = known.run, known.proposal, known.outcome
    mean = statistics.fmean(known.seed_scores) if known.seed_scores else None
    delta, attempt = _delta(mean, state), proposal.get("attempt")
    noise = state.noise if state.leads_by == "margin" else None
    talk = conversation_of(ledger.runs_dir, run_id, prompts)
    return {
        "run_id": run_id,
        "running": known.running,
        "step": known.step,
        "is_best_run": known.is_best_run,
        "family": run.family if run else None,
        "status": run.status if run else None,
        "cause": run.cause if run else None,
        "accepted": run.accepted if run else None,
        "attempt": run.attempt if run else None,
        "seconds": run.seconds if run else None,
        "val_score": run.val_score if run else None,
        "mean": mean,
        "sd": spread_of(known.seed_scores),
        "seeds": len(known.seed_scores),
        "tie": tie,
        "repeats": _repeats(known, limits),
        "test_score": run.test_score if run else None,
        "accuracy": totals_of(known.accuracy),
        "parent": _text((run and run.parent) or proposal.get("parent"), 64),
        "proposer": _text((run and run.proposer) or proposal.get("proposer"), 100),
        "delta": delta,
        "delta_noise": delta / noise if delta is not None and noise else None,
        "tokens": talk.tokens or (run.tokens if run else 0),
        "cost": talk.cost,
        "refused": attempt if isinstance(attempt, int) else 0,
        "hypothesis": _text(proposal.get("hypothesis"), limits.text_characters),
        "expected": known.expected,
        "change_summary": format_changes(proposal.get("changes"), 160),
        "changes": [
            {
                "parameter": change.parameter,
                "old": None if change.old is None else format_value(change.old),
                "new": format_value(change.new),
            }
            for change in known.changes[:100]
        ],
        "config": _config(ledger, run_id),
        "summary": run.history_summary if run else "",
        "curve": _curve(ledger, run_id, points),
        "verdict": _text(known.verdict.get("reason"), 400),
        # Where it ended and what it took; the rest of the outcome is in the run itself.
        "outcome": {
            name: value
            for name in ("peak_memory_mb", "epoch", "step", "returncode", "signal")
            if (value := getattr(outcome, name, None)) is not None
        },
        "files": known.files[:60],
        "conversation": talk.messages,
        "log": log_tail(ledger.runs_dir / run_id, limits.log_lines),
    }


def _repeats(known: RunRecord, limits: Limits) -> list[ShownRepeat]:
    return [
        ShownRepeat(
            name=printable(repeat.name, 40),
            seed=repeat.seed,
            purpose=None if repeat.purpose is None else printable(repeat.purpose, 20),
            fresh=repeat.fresh,
            status=printable(repeat.status, 20),
            val_score=repeat.val_score,
            seconds=repeat.seconds,
        )
        for repeat in known.repeats[: limits.repeats]
    ]


def _delta(mean: float | None, state: AgentState) -> float | None:
    best_run = get_best_run(state)
    best = None if best_run is None else mean_score(state, best_run)
    return None if best is None or mean is None else mean - best


def _config(ledger: Ledger, run_id: str) -> dict[str, str]:
    config = ledger.config(run_id)
    return {name: format_value(value) for name, value in active_values(config).items()} if config else {}


def _curve(ledger: Ledger, run_id: str, points: int) -> CurveColumns | None:
    """Return epochs and their scores in columns; of more epochs than `points` the best of every group."""
    try:
        history = load_history(ledger.runs_dir / run_id)
    except StateError:
        return None
    epochs = history.get("epochs")
    entries = [entry for entry in epochs if isinstance(entry, dict)] if isinstance(epochs, list) else []
    if not entries:
        return None
    val, train = ledger.state.metric, metric_on("train", ledger.state.metric)
    rows = [(index, finite(e.get(train)), finite(e.get(val))) for index, e in enumerate(entries)]
    direction = ledger.state.direction
    kept = _thinned(rows, points, direction)
    best = min(rows, key=lambda row: _loss(row, direction))
    return {
        "epoch": [row[0] for row in kept],
        "train": [_rounded(row[1]) for row in kept],
        "val": [_rounded(row[2]) for row in kept],
        "best": best[0] if best[2] is not None else None,
        "epochs": len(rows),
        "lr": [_rounded(finite(entries[0].get("lr"))), _rounded(finite(entries[-1].get("lr")))],
    }


_Row = tuple[int, float | None, float | None]
"""Epoch, training and validation score."""


def _loss(row: _Row, direction: Direction) -> float:
    return math.inf if row[2] is None else loss_of(row[2], direction)


def _thinned(rows: Sequence[_Row], points: int, direction: Direction) -> list[_Row]:
    if len(rows) <= points:
        return list(rows)
    borders = [index * len(rows) // points for index in range(points + 1)]
    groups = [rows[start:end] for start, end in pairwise(borders)]
    return [min(group, key=lambda row: _loss(row, direction)) for group in groups]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _text(value: Any, limit: int) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return shortened(value, limit)[0]


def _bound(runs: Sequence[ReportRun], limits: Limits) -> dict[str, int]:
    """Cut conversations and logs to what the page may hold; return how many characters that cost."""
    messages = [message for run in runs for message in run["conversation"]]
    cap = fair_cap([len(message["text"]) for message in messages], limits.conversation_characters)
    left_out = 0
    for message in messages:
        message["text"], cut = shortened(message["text"], cap)
        if cut:
            message["left_out"] = cut
            left_out += cut
    cap = fair_cap([len(run["log"]) for run in runs], limits.log_characters)
    for run in runs:
        # The end of a log says why it ended.
        run["log"] = run["log"][-cap:] if cap else ""
    return {"characters": left_out}


_CONTROL = re.compile(r"[^\n\t -~]")


def printable_json(value: Any) -> Any:
    """Return the value without anything that is invalid JSON or invisible to a reader.

    Control characters, direction overrides and halves of surrogate pairs become U+FFFD, numbers that
    are not finite become null.
    """
    if isinstance(value, str):
        return _CONTROL.sub(
            lambda match: c if (c := match[0]).isprintable() else "\N{REPLACEMENT CHARACTER}", value
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): printable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [printable_json(item) for item in value]
    return value

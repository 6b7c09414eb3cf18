"""What the searches of a comparison have found: per search, and per proposer over the seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas_agent_graph.compare.plan import Cell
from nas_agent_graph.selection.student import quantile
from nas_system.files import finite, read_record
from nas_system.nas_agent.agent_state import STATE_FILE, get_best_run, load_agent_state, mean_score
from nas_system.nas_agent.run_manager import load_task_info
from nas_system.space.score import Direction, loss_of

LEVEL = 0.9
SHOWN = (5, 10, 20, 50, 100)
"""Numbers of runs after which the best so far is shown."""


@dataclass(frozen=True)
class Found:
    """What one search has found. Scores are of the validation part."""

    cell: Cell
    metric: str
    direction: Direction
    data: str
    """Checksum of the data it was about."""
    best: float | None
    """Of the run that leads: the mean over its seeds."""
    best_run: str | None
    so_far: tuple[float | None, ...]
    """Best score of a single training after the first run, after the second, and so on."""
    failed: int
    compute_seconds: float
    """Of all trainings, repeats included."""
    tokens: int
    cost_usd: float | None
    """None if the price of an answer is not known."""

    def after(self, runs: int) -> float | None:
        """Return the best score of a single training among the first runs."""
        return self.so_far[min(runs, len(self.so_far)) - 1] if self.so_far else None


def found_in(workspace: Path, cell: Cell) -> Found:
    """Read a search that has ended. Raises StateError if its state cannot be read."""
    state = load_agent_state(workspace / STATE_FILE)
    best, info = get_best_run(state), load_task_info(workspace / "runs")
    so_far: list[float | None] = []
    lowest = math.inf
    runs = sorted(state.runs, key=lambda run: run.run_id)
    for run in runs:
        loss = math.inf if run.val_score is None else loss_of(run.val_score, state.direction)
        lowest = min(lowest, loss)
        so_far.append(loss_of(lowest, state.direction) if math.isfinite(lowest) else None)
    trainings = [(run.run_id, run.seconds) for run in runs]
    trainings += [(repeat.training_id, repeat.seconds) for repeat in state.repeats]
    paid = [run.cost_usd for run in runs if run.tokens]
    return Found(
        cell=cell,
        metric=state.metric,
        direction=state.direction,
        data="" if info is None else info.source.sha256,
        best=None if best is None else mean_score(state, best),
        best_run=None if best is None else best.run_id,
        so_far=tuple(so_far),
        failed=sum(run.val_score is None for run in runs),
        compute_seconds=sum(_compute(workspace, name, wall) for name, wall in trainings),
        tokens=sum(run.tokens for run in runs),
        cost_usd=None if None in paid else math.fsum(cost or 0.0 for cost in paid),
    )


def _compute(workspace: Path, training: str, wall_seconds: float | None) -> float:
    """Return the seconds of compute of a training; those of the clock for one that has not said them."""
    metrics = read_record(workspace / "runs" / training / "metrics.json") or {}
    return finite(metrics.get("compute_sec")) or wall_seconds or 0.0


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 90 % interval (Student's t); without one for a single seed."""

    mean: float
    half_width: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        if len(values) < 2:
            return cls(values[0], None)
        error = statistics.stdev(values) / math.sqrt(len(values))
        return cls(statistics.fmean(values), error * quantile((1 + LEVEL) / 2, len(values) - 1))

    @property
    def holds_zero(self) -> bool:
        """Return whether it says nothing of the sign."""
        return self.half_width is None or abs(self.mean) <= self.half_width


@dataclass(frozen=True)
class Row:
    """One proposer over all seeds."""

    proposer: str
    best: Interval | None
    """None where a search has found no score."""
    behind: Interval | None
    """By how much it is worse than the proposer with the best mean, seed by seed; None for that one."""
    above_best: Mapping[int, float | None]
    """By runs: how much worse its best so far is than the best score of a single training of the whole
    comparison, mean over seeds."""
    failed: int
    compute_seconds: float
    tokens: int
    cost_usd: float | None


@dataclass(frozen=True)
class Comparison:
    """All that is printed, drawn and written."""

    metric: str
    direction: Direction
    seeds: tuple[int, ...]
    """Those with which every proposer has ended its search."""
    runs: int
    rows: tuple[Row, ...]
    """The best mean first."""
    found: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, search by search, too."""
        record = asdict(self)
        for row in record["rows"]:
            row["above_best"] = {str(runs): value for runs, value in row["above_best"].items()}
        return record


def compare(found: Sequence[Found], proposers: Sequence[str], runs: int) -> Comparison | None:
    """Compare the proposers over the seeds with which all of them have ended; None without such a seed."""
    by_cell = {(one.cell.proposer, one.cell.seed): one for one in found}
    known = sorted({one.cell.seed for one in found})
    seeds = [seed for seed in known if all((proposer, seed) in by_cell for proposer in proposers)]
    if not seeds:
        return None
    used = [by_cell[proposer, seed] for proposer in proposers for seed in seeds]
    direction = used[0].direction

    def losses(proposer: str) -> list[float] | None:
        scores = [by_cell[proposer, seed].best for seed in seeds]
        return None if None in scores else [loss_of(score or 0.0, direction) for score in scores]

    by_proposer = {proposer: losses(proposer) for proposer in proposers}
    scored = {proposer: values for proposer, values in by_proposer.items() if values is not None}
    leader = min(scored, key=lambda proposer: statistics.fmean(scored[proposer]), default=None)
    lowest = min((_loss_after(one, runs) for one in used), default=math.inf)
    shown = [count for count in SHOWN if count < runs] + [runs]

    def row(proposer: str) -> Row:
        mine = [by_cell[proposer, seed] for seed in seeds]
        values = scored.get(proposer)
        behind = None
        if leader is not None and values is not None and proposer != leader:
            pairs = zip(values, scored[leader], strict=True)
            behind = Interval.of([own - best for own, best in pairs])
        above = {
            count: statistics.fmean(distances) if all(map(math.isfinite, distances)) else None
            for count in shown
            if (distances := [_loss_after(one, count) - lowest for one in mine])
        }
        costs = [one.cost_usd for one in mine]
        return Row(
            proposer=proposer,
            best=None if values is None else _of_scores(values, direction),
            behind=behind,
            above_best=above,
            failed=sum(one.failed for one in mine),
            compute_seconds=math.fsum(one.compute_seconds for one in mine),
            tokens=sum(one.tokens for one in mine),
            cost_usd=None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        )

    rows = sorted((row(proposer) for proposer in proposers), key=lambda one: _place(one, direction))
    return Comparison(used[0].metric, direction, tuple(seeds), runs, tuple(rows), tuple(used))


def _of_scores(losses: Sequence[float], direction: Direction) -> Interval:
    interval = Interval.of(losses)
    return Interval(loss_of(interval.mean, direction), interval.half_width)


def _place(row: Row, direction: Direction) -> float:
    return math.inf if row.best is None else loss_of(row.best.mean, direction)


def _loss_after(found: Found, runs: int) -> float:
    score = found.after(runs)
    return math.inf if score is None else loss_of(score, found.direction)

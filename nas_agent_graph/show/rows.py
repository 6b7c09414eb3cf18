"""The rows of a leaderboard: runs and baselines in one order, and those that ended without a score.

Pure functions of the search's state and of task_facts.json; no run folder is opened here.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas_agent_graph.show.seeds import scores_by_run
from nas_agent_graph.text.terminal import printable
from nas_system.files import finite
from nas_system.nas_agent.agent_state import AgentState, RunInfo
from nas_system.nas_agent.outcome import Status
from nas_system.nas_agent.recommended import ENSEMBLE, Recommended
from nas_system.space import metric_name_of
from nas_system.space.score import loss_of
from nas_system.space.task_info import TaskInfo

if TYPE_CHECKING:
    from nas_agent_graph.selection.conclusion import Conclusion


@dataclass(frozen=True)
class Row:
    """A run with a score; or a baseline or the search's ensemble (then `run` is None)."""

    rank: int
    name: str
    val_score: float
    """Of a run the mean over its seeds; its own in a search that leads by a margin."""
    test_score: float | None
    run: RunInfo | None = None
    scores: tuple[float, ...] = ()
    """Of a run, its own training first."""
    tie: bool = False
    """Whether the search, which has ended, cannot tell it from the recommended run, or that from others."""
    members: int = 0
    """Of the ensemble; 0 for all else."""

    @property
    def is_baseline(self) -> bool:
        return self.run is None and not self.members


def rows_of(
    state: AgentState,
    info: TaskInfo | None,
    conclusion: Conclusion | None = None,
    recommended: Recommended | None = None,
) -> list[Row]:
    """Return runs and baselines together, best first; of equals the baseline comes first.

    Once a search has concluded, its ensemble stands first if that is recommended, then the best run, and
    those that cannot be told from it before all others.
    """
    unranked = [
        Row(0, printable(baseline.name, 40), score, baseline.on("test", state.metric))
        for baseline in (info.baselines if info else ())
        if (score := baseline.on("val", state.metric)) is not None
    ]
    scores = scores_by_run(state)
    unranked += [
        Row(0, run.run_id, statistics.fmean(own), run.test_score, run, own)
        for run in state.runs
        if (own := scores.get(run.run_id))
    ]
    unranked.sort(key=lambda row: (loss_of(row.val_score, state.direction), row.run is not None, row.name))
    if conclusion is not None:
        unranked = _ties_first(unranked, conclusion)
    if (ensemble := _ensemble(recommended, state)) is not None:
        unranked.insert(0, ensemble)
    return [replace(row, rank=rank) for rank, row in enumerate(unranked, start=1)]


def _ensemble(recommended: Recommended | None, state: AgentState) -> Row | None:
    """Return the row of what is recommended where that is an ensemble."""
    if recommended is None or recommended.recommended != ENSEMBLE or recommended.val_score is None:
        return None
    test = finite(recommended.scores("as_searched", "test").get(metric_name_of(state.metric)))
    return Row(0, ENSEMBLE, recommended.val_score, test, members=len(recommended.members))


def _ties_first(rows: Sequence[Row], conclusion: Conclusion) -> list[Row]:
    """Put the recommended run first, then the others down to the last run of its tie set that tie."""
    ties = ties_of(conclusion)
    marked = [replace(row, tie=(row.name, row.run is None) in ties) for row in rows]
    best = [row for row in marked if row.run is not None and row.name == conclusion.recommended]
    last = max((place for place, row in enumerate(marked) if row.tie and row.run is not None), default=-1)
    group = [row for row in marked[: last + 1] if row.tie and row not in best]
    return [*best, *group, *(row for row in marked if row not in best and row not in group)]


def ties_of(conclusion: Conclusion) -> frozenset[tuple[str, bool]]:
    """Return what cannot be told from the recommended run, which is one of them: names, and whether of a
    baseline. Empty where nothing ties."""
    tied = {(name, False) for name in conclusion.ties[1:]}
    tied |= {(name, True) for name in conclusion.baseline_ties}
    # Of many ties the set names a few; others among those compared have the same words.
    tied |= {(one.name, one.is_baseline) for one in conclusion.comparisons if one.is_tie}
    return frozenset(tied | {(conclusion.recommended, False)}) if tied else frozenset()


def group_size(rows: Sequence[Row]) -> int:
    """Return how many of the rows, the ensemble included, stand before the first that does not tie; 0 where
    nothing ties."""
    first = next((place for place, row in enumerate(rows) if not row.members), 0)
    size = next((place for place, row in enumerate(rows[first:]) if not row.tie), len(rows) - first)
    return first + size if size > 1 else 0


def failures_of(state: AgentState) -> list[RunInfo]:
    """Return the runs that ended without a score, in the order they were tried; not those stopped early."""
    return [run for run in state.runs if not is_pruned(run) and (run.status != "OK" or run.val_score is None)]


def pruned_of(state: AgentState) -> list[RunInfo]:
    """Return the runs that the search stopped early, in the order they were tried."""
    return [run for run in state.runs if is_pruned(run)]


def is_pruned(run: RunInfo) -> bool:
    """Return whether the search stopped the run early, which is no failure."""
    return run.status == Status.PRUNED


def shown_rows(state: AgentState, rows: Sequence[Row], limit: int) -> list[Row]:
    """Return the best `limit` runs, the best run and all baselines, in order."""
    shown, runs = [], 0
    for row in rows:
        runs += row.run is not None
        if row.run is None or runs <= limit or row.name == state.best_run_id:
            shown.append(row)
    return shown


def format_score(value: float | None, sign: str = "") -> str:
    """Return a score with five decimals; nothing for None."""
    if value is None:
        return ""
    return f"{value:{sign}.5f}" if abs(value) < 1000 else f"{value:{sign}.2e}"

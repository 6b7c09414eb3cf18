"""What the rows of the validation part can tell apart, by the losses that trainings keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from nas_agent_graph.analysis.standings import KnownCandidates, candidates_of
from nas_agent_graph.selection.bootstrap import block_length, paired_difference
from nas_system.nas_agent.agent_state import AgentState
from nas_system.nas_agent.window_errors import read_errors
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig
from nas_system.space.data_card import compares_series
from nas_system.space.score import Direction, loss_of
from nas_system.space.task_info import TaskInfo
from nas_system.space.time_steps import rows_in_a_week

COMPARED = 4
"""Runs next to the leader from whose differences to it a running search knows what its rows resolve."""

Losses = NDArray[np.float64]


def resolution_of(
    state: AgentState,
    runs_dir: Path,
    config_of: Callable[[str], RunConfig | None],
    info: TaskInfo | None,
    made: KnownCandidates | None = None,
) -> float | None:
    """Return below which difference the validation rows resolve nothing (90 %): the median over the leader's
    differences from the next runs, by the losses that their trainings kept.

    None where they were not kept, or hold too few independent blocks; and in a search that leads by a margin.
    """
    ranked = sorted(candidates_of(state, made), key=lambda candidate: candidate.mean)
    best = next((candidate for candidate in ranked if candidate.run_id == state.best_run_id), None)
    if best is None or state.leads_by == "margin":
        return None
    others = [candidate for candidate in ranked if candidate is not best][:COMPARED]
    margins = [
        _rows_margin(
            (RunPaths(runs_dir / best.run_id).val_errors, best.scores[0]),
            (RunPaths(runs_dir / other.run_id).val_errors, other.scores[0]),
            max(block_of(config_of(one.run_id), info, None) for one in (best, other)),
            state.direction,
        )
        for other in others
    ]
    known = [margin for margin in margins if margin]
    return median(known) if known else None


@lru_cache(maxsize=64)
def _rows_margin(
    ours: tuple[Path, float], theirs: tuple[Path, float], block: int, direction: Direction
) -> float | None:
    """Return half of the 90 % interval of the difference of two trainings, each given by its file of losses
    and its score as a loss."""
    errors = [read_errors(path, score=loss_of(loss, direction)) for path, loss in (ours, theirs)]
    known = [losses_of(rows, direction) for rows in errors if rows is not None]
    if len(known) < 2 or len(known[0]) != len(known[1]):
        return None
    found = paired_difference(known[0], known[1], block)
    return (found.high - found.low) / 2 if found.trusted else None


def losses_of(errors: NDArray[np.float32], direction: Direction) -> Losses:
    """Return the metric on single windows as something to minimise."""
    losses = errors.astype(np.float64)
    return losses if direction == "minimize" else -losses


def block_of(config: RunConfig | None, info: TaskInfo | None, losses: Losses | None) -> int:
    """Return how many losses in a row depend on each other: those of windows that share rows, and of at least
    a week; or those of one sample, where it has several. One, where each is that of a series of its own.

    `losses` are (..., windows).
    """
    if info is not None and compares_series(info.measured):
        return 1
    if config is not None and config.task.is_series:
        step = info.measured.get("freq") if info else None
        week = rows_in_a_week(step if isinstance(step, str) else None)
        return block_length(config.data.seq_len, config.task.horizon, week)
    samples = info.sizes.get("val", 0) if info else 0
    return 1 if losses is None or not samples else math.ceil(losses.shape[-1] / samples)

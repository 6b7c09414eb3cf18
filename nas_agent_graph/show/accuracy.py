"""MASE, sMAPE, RMSE and MAE of a run, as its training wrote them, for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from nas_agent_graph.text.terminal import printable
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import RunInfo
from nas_system.processes.run_files import RunPaths
from nas_system.space.accuracy import Accuracy, SeriesScore, accuracies_from
from nas_system.space.task_info import HOLD_OUT


def accuracy_of_run(run: RunInfo, runs_dir: Path) -> dict[str, Accuracy]:
    """Return the run's accuracy on the parts of which the search has a score, and on the hold-out part if it
    was scored there; nothing where its files have none, or none that can be read."""
    if run.val_score is None:
        return {}
    paths = RunPaths(runs_dir / run.run_id)
    trained = accuracies_from((read_record(paths.metrics) or {}).get("accuracy"))
    scored = accuracies_from((read_record(paths.hold_out) or {}).get("accuracy"))
    parts = ("val",) if run.test_score is None else ("val", "test")
    known = {part: figures for part, figures in trained.items() if part in parts}
    return known | {part: figures for part, figures in scored.items() if part == HOLD_OUT}


def totals_of(accuracy: Mapping[str, Accuracy]) -> dict[str, dict[str, float | None]]:
    """Return the figures over the whole horizon, by part."""
    return {part: figures.totals() for part, figures in accuracy.items()}


def format_accuracy(accuracy: Accuracy) -> str:
    """Return `MASE 0.7022, sMAPE 13.11 %, RMSE 2.421, MAE 1.793`; without MASE where there is none."""
    parts = [] if accuracy.mase is None else [f"MASE {format_figure(accuracy.mase)}"]
    parts += [f"sMAPE {format_figure(accuracy.smape)} %"]
    parts += [f"RMSE {format_figure(accuracy.rmse)}", f"MAE {format_figure(accuracy.mae)}"]
    return ", ".join(parts)


def format_series(scores: Mapping[str, SeriesScore]) -> str:
    """Return `50 series, mse on scaled data: median 0.3121, best 0.0912 (A), worst 1.204 (B)`."""
    order = sorted(scores, key=lambda name: scores[name].mse)
    middle = median(score.mse for score in scores.values())
    ends = (
        f"{what} {format_figure(scores[name].mse)} ({printable(name, 40)})"
        for what, name in (("best", order[0]), ("worst", order[-1]))
    )
    return f"{len(scores)} series, mse on scaled data: median {format_figure(middle)}, {', '.join(ends)}"


def format_figure(value: float) -> str:
    """Return four significant digits, but all before the point of a number below ten million."""
    if not 1e-4 <= value < 1e7:
        return f"{value:.4g}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(value)))}f}"

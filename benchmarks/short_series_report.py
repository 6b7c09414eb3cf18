"""What the searches of `benchmarks/short_series.py` found, and the table of it: a row per series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from short_series_data import ShortSeries

from nas_system.errors import StateError
from nas_system.nas_agent.agent_state import STATE_FILE, RunInfo, get_best_run, load_agent_state
from nas_system.nas_agent.run_manager import load_task_info

SAME = 1.00
"""The ratio at which the best run is as good as the baseline."""


def found_in(workspace: Path) -> dict[str, Any]:
    """Return what a finished search has on record. Raises StateError if it has no best run or no baseline."""
    state, info = load_agent_state(workspace / STATE_FILE), load_task_info(workspace / "runs")
    best = get_best_run(state)
    scored = [run for run in state.runs if run.status == "OK" and run.val_score is not None]
    known = () if info is None else info.baselines
    baselines = [row for row in known if {"val_mse", "test_mse"} <= row.scores.keys()]
    if info is None or best is None or not scored or not baselines:
        raise StateError(f"{workspace}: no run has a score, or no baseline has one")
    baseline = min(baselines, key=lambda row: row.scores["val_mse"])
    failed = [run for run in state.runs if run.status != "OK"]
    lowest = min(scored, key=lambda run: math.inf if run.val_score is None else run.val_score)
    return {
        "rows": info.measured.get("rows"),
        "best": _record(best),
        "lowest": _record(lowest),
        "baseline": baseline.to_json(),
        "baselines": [row.to_json() for row in baselines],
        "ratio": ratio(best.test_score, baseline.scores["test_mse"]),
        "lowest_ratio": ratio(lowest.test_score, baseline.scores["test_mse"]),
        "noise": state.noise,
        "runs": [_record(run) for run in state.runs],
        "failed": [f"{run.run_id} {run.family}: {run.status}, {run.cause}" for run in failed],
    }


def _record(run: RunInfo) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "family": run.family,
        "val_mse": run.val_score,
        "test_mse": run.test_score,
        "status": run.status,
        "seconds": run.seconds,
    }


def ratio(score: float | None, reference: float) -> float:
    """Return `score` over `reference`. Raises StateError for no score, and for a reference without error."""
    if score is None or reference <= 0:
        raise StateError(f"test scores {score} and {reference} (baseline) have no ratio")
    return score / reference


@dataclass(frozen=True)
class Row:
    """A series with its searches of all seeds."""

    name: str
    half: str
    learnable: bool
    rows: int
    pred_len: int
    baseline: str
    ratios: list[float]
    lowest_ratios: list[float]
    best_val: float
    """Mean over the seeds."""
    best_test: float
    """Mean over the seeds."""
    baseline_val: float
    baseline_test: float

    @property
    def ratio(self) -> float:
        return statistics.fmean(self.ratios)


def rows_of(series: Sequence[ShortSeries], searches: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return a row for every series with a finished search; `searches` are by `series/seed`."""
    rows = []
    for one in series:
        found = [record for key, record in searches.items() if key.rpartition("/")[0] == one.name]
        good = [record for record in found if "error" not in record]
        if good:
            rows.append(
                Row(
                    name=one.name,
                    half=one.half,
                    learnable=one.learnable,
                    rows=good[0]["rows"],
                    pred_len=one.pred_len,
                    baseline=good[0]["baseline"]["name"],
                    ratios=[record["ratio"] for record in good],
                    lowest_ratios=[record["lowest_ratio"] for record in good],
                    best_val=statistics.fmean(record["best"]["val_mse"] for record in good),
                    best_test=statistics.fmean(record["best"]["test_mse"] for record in good),
                    baseline_val=good[0]["baseline"]["val_mse"],
                    baseline_test=good[0]["baseline"]["test_mse"],
                )
            )
    return rows


def summary_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how many series reach the baseline, the largest ratio and the medians."""
    ratios = [row.ratio for row in rows]
    learnable = [row.ratio for row in rows if row.learnable]
    return {
        "series": len(rows),
        "at_most_1": sum(value <= SAME for value in ratios),
        "largest": round(max(ratios), 3),
        "largest_of_one_seed": round(max(value for row in rows for value in row.ratios), 3),
        "median": round(statistics.median(ratios), 3),
        "median_learnable": round(statistics.median(learnable), 3) if learnable else None,
    }


def report(rows: Sequence[Row], before: Sequence[Row]) -> dict[str, Any]:
    """Print the table; return the summaries of the halves and of all.

    `before` are rows of earlier searches. Their ratio is that to the baseline of now, of which there may be
    better ones than at that time.
    """
    earlier = {row.name: row.best_test for row in before}
    titles = (
        f"{'series':<20}{'half':<8}{'rows':>5}{'ahead':>6}  {'best baseline':<16}{'its val':>9}{'val':>9}"
    )
    print(f"{titles}{'before':>8}{'ratio':>8}{'range':>14}{'lowest val':>12}")
    for row in rows:
        was = f"{earlier[row.name] / row.baseline_test:.2f}" if row.name in earlier else "-"
        spread = f"{min(row.ratios):.2f}-{max(row.ratios):.2f}" if len(row.ratios) > 1 else "one seed"
        print(
            f"{row.name:<20}{row.half:<8}{row.rows:>5}{row.pred_len:>6}  {row.baseline:<16}"
            f"{row.baseline_val:>9.4f}{row.best_val:>9.4f}{was:>8}{row.ratio:>8.2f}{spread:>14}"
            f"{statistics.fmean(row.lowest_ratios):>12.2f}"
        )
    summaries = {}
    for half in (*dict.fromkeys(row.half for row in rows), "all"):
        summaries[half] = found = summary_of([row for row in rows if half in (row.half, "all")])
        print(
            f"{half}: at most {SAME:.2f} in {found['at_most_1']} of {found['series']}, largest "
            f"{found['largest']} (of one seed {found['largest_of_one_seed']}), median {found['median']}, "
            f"where there is a pattern {found['median_learnable']}"
        )
    return summaries

"""The progress of a search: every run's score, the best so far, and what simple forecasts reach."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from nas_system.space.score import Direction
from nas_system.space.tasks.task import metric_name_of
from nas_system.visualization.canvas import (
    CYCLE,
    GREY,
    INK,
    VERMILION,
    Label,
    caption,
    draw,
    finite_scores,
    label_right,
    metric_label,
    scale_for_scores,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas_system.nas_agent.agent_state import RunInfo

_MARKERS = "osD^vP*"
_MANY_RUNS = 150
_LEGEND_COLUMNS = 5


Scored = tuple[int, "RunInfo", float]
"""A run's place in the order of trainings, the run, and its score: the mean over its seeds."""


@dataclass(frozen=True)
class Seeds:
    """What is known of runs beyond their own scores; by run id."""

    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of all trainings of a run, its own first."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """90 % intervals of those that a search compared at its end."""
    ties: Collection[str] = ()
    """Those that it could not tell from the recommended run, which is one of them."""


def search_progress(
    runs: Sequence[RunInfo],
    baselines: Sequence[Mapping[str, object]],
    path: str | Path,
    *,
    metric: str = "val_mse",
    direction: Direction = "minimize",
    title: str = "",
    seeds: Seeds | None = None,
) -> None:
    """Draw every run's score into a PNG file, its mean where it was trained with several seeds.

    `baselines` have a `name` and the task's `metric`. A run without a score is a cross on the edge where
    the worst scores are. Raises OSError if `path` cannot be written.
    """
    seeds = seeds or Seeds()
    rows = finite_scores(baselines, metric)
    scored: list[Scored] = [
        (index, run, statistics.fmean(seeds.scores.get(run.run_id, ()) or (run.val_score,)))
        for index, run in enumerate(runs)
        if run.status == "OK" and run.val_score is not None
    ]

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        families = sorted({run.family or "unknown" for _, run, _ in scored})
        legend_rows = math.ceil((len(families) + 3 + _extra_entries(seeds)) / _LEGEND_COLUMNS)
        bottom = 0.115 + 0.05 * legend_rows
        axes = figure.add_axes((0.09, bottom, 0.7, 0.91 - bottom))
        axes.set_title(caption(title or "Progress of the search", 80))
        axes.set_xlabel("run, in the order they were trained")
        axes.set_ylabel(f"validation {metric_label(metric_name_of(metric), direction)}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
        room = 0.02 * len(runs) + 0.5
        axes.set_xlim(-room, max(len(runs) - 1, 1) + room)
        single = [score for _, run, _ in scored for score in seeds.scores.get(run.run_id, ())]
        scale_for_scores(axes, [*(score for _, _, score in scored), *single, *(score for _, score in rows)])
        for _, score in rows:
            axes.axhline(score, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        _intervals(axes, scored, seeds)
        _dots(axes, scored, families, len(runs))
        best = _best_so_far(axes, scored, direction)
        labels = [Label(score, f"{name} {score:.4f}", GREY) for name, score in rows]
        label_right(
            axes,
            labels
            if best is None
            else [*labels, Label(best, f"{_name_of_best(seeds, direction)} {best:.4f}", INK)],
        )
        failed = [index for index, run in enumerate(runs) if run.status != "OK" or run.val_score is None]
        if failed:
            axes.plot(
                failed,
                [1.0 if direction == "minimize" else 0.0] * len(failed),
                "x" if len(runs) <= _MANY_RUNS else "|",
                color=INK,
                markersize=5,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                label=f"no score ({len(failed)})",
            )
        if not runs:
            axes.text(0.5, 0.5, "no run has finished", transform=axes.transAxes, ha="center", color=GREY)
        handles, names = axes.get_legend_handles_labels()
        if handles:
            columns = math.ceil(len(names) / math.ceil(len(names) / _LEGEND_COLUMNS))
            where = {"loc": "lower center", "bbox_to_anchor": (0.44, 0.0)}
            figure.legend(handles, names, ncols=columns, fontsize=8, **where)

    draw(Path(path), (8.0, 4.5), paint)


def _name_of_best(seeds: Seeds, direction: Direction) -> str:
    if not any(len(scores) > 1 for scores in seeds.scores.values()):
        return "best run"
    return "lowest mean" if direction == "minimize" else "highest mean"


def _extra_entries(seeds: Seeds) -> int:
    """Count what the seeds add to the legend."""
    repeated = any(len(scores) > 1 for scores in seeds.scores.values())
    return repeated + bool(seeds.intervals) + bool(seeds.ties)


def _intervals(axes: Axes, scored: Sequence[Scored], seeds: Seeds) -> None:
    """Draw the interval of each run that has one, a small dot per seed, and a ring around ties."""
    label = "90 % interval"
    for index, run, _ in scored:
        if (ends := seeds.intervals.get(run.run_id)) is None:
            continue
        # An end beyond the picture is cut off there.
        axes.plot([index, index], ends, "-_", color=GREY, linewidth=1.6, markersize=7, zorder=2, label=label)
        label = "_" + label.lstrip("_")  # matplotlib leaves such labels out of the legend
    places = [
        (index, score)
        for index, run, _ in scored
        if len(seeds.scores.get(run.run_id, ())) > 1
        for score in seeds.scores[run.run_id]
    ]
    if places:
        style = {"color": INK, "markersize": 2.2, "alpha": 0.7, "zorder": 3.2, "label": "single seeds"}
        axes.plot(*zip(*places, strict=True), ".", **style)
    tied = [(index, score) for index, run, score in scored if run.run_id in seeds.ties]
    if tied:
        style = {"markerfacecolor": "none", "markeredgecolor": VERMILION, "markersize": 14, "zorder": 4}
        axes.plot(*zip(*tied, strict=True), "o", **style, label="tie")


def _dots(axes: Axes, scored: Sequence[Scored], families: Sequence[str], count: int) -> None:
    """Draw a dot per run, colour and shape by family, with a ring around the accepted ones."""
    size = 5.5 if count <= _MANY_RUNS else 3.0
    for number, family in enumerate(families):
        own = [(index, score) for index, run, score in scored if (run.family or "unknown") == family]
        axes.plot(
            [index for index, _ in own],
            [score for _, score in own],
            # Colours repeat after seven families; shapes then differ from the first round.
            _MARKERS[(number + number // len(CYCLE)) % len(_MARKERS)],
            color=CYCLE[number % len(CYCLE)],
            markersize=size,
            markeredgewidth=0,
            alpha=0.85,
            zorder=3,
            label=caption(family, 30),
        )
    accepted = [(index, score) for index, run, score in scored if run.accepted]
    if accepted:
        axes.plot(
            [index for index, _ in accepted],
            [score for _, score in accepted],
            "o",
            markersize=size + 5,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.2,
            zorder=4,
            label="accepted",
        )


def _best_so_far(axes: Axes, scored: Sequence[Scored], direction: Direction) -> float | None:
    """Draw the running best as a step line to the right edge, and return where it ends."""
    if not scored:
        return None
    best_of = min if direction == "minimize" else max
    bests = list(accumulate((score for _, _, score in scored), best_of))
    steps = [*zip((index for index, _, _ in scored), bests, strict=True), (axes.get_xlim()[1], bests[-1])]
    axes.plot(
        [index for index, _ in steps],
        [score for _, score in steps],
        drawstyle="steps-post",
        color=INK,
        linewidth=1.5,
        zorder=3.5,
        label=f"best so far ({'lowest' if direction == 'minimize' else 'highest'})",
    )
    return bests[-1]

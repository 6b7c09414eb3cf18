"""The picture of a comparison: best so far of every search, and the mean of each proposer."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from nas_agent_graph.compare.results import Comparison
from nas_system.visualization.canvas import (
    CYCLE,
    Label,
    caption,
    draw,
    label_right,
    metric_label,
    scale_for_scores,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_FILE = "compare.png"


def draw_comparison(compared: Comparison, folder: Path) -> Path:
    """Draw the comparison into its folder and return the file. Raises OSError."""
    path = folder / PICTURE_FILE

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        figure.subplots_adjust(left=0.1, right=0.78, top=0.9, bottom=0.14)
        shown: list[float] = []
        labels: list[Label] = []
        for place, row in enumerate(compared.rows):
            color = CYCLE[place % len(CYCLE)]
            searches = [one for one in compared.found if one.cell.proposer == row.proposer]
            curves = [[one.after(runs) for one in searches] for runs in range(1, compared.runs + 1)]
            for number in range(len(searches)):
                points = [(runs, scores[number]) for runs, scores in enumerate(curves, 1)]
                known = [(runs, score) for runs, score in points if score is not None]
                axes.step(
                    [runs for runs, _ in known],
                    [score for _, score in known],
                    where="post",
                    color=color,
                    linewidth=0.7,
                    alpha=0.45,
                )
                shown += [score for _, score in known]
            means = [
                (runs, statistics.fmean(score for score in scores if score is not None))
                for runs, scores in enumerate(curves, 1)
                if None not in scores
            ]
            if means:
                axes.step(
                    [runs for runs, _ in means],
                    [mean for _, mean in means],
                    where="post",
                    color=color,
                    linewidth=2,
                )
                labels.append(Label(means[-1][1], row.proposer, color))
        scale_for_scores(axes, shown)
        axes.set_xlim(1, max(compared.runs, 2))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("runs")
        axes.set_ylabel(metric_label(compared.metric.removeprefix("val_"), compared.direction))
        axes.set_title(caption(f"Best training so far, {len(compared.seeds)} searches each; thick: the mean"))
        label_right(axes, labels)

    draw(path, (8.0, 4.2), paint)
    return path

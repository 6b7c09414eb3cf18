"""The learning curve of one run: training and validation score over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_system.nas_agent.history_summary import direction_in, metric_in
from nas_system.space.score import Direction, loss_of
from nas_system.visualization.canvas import (
    BLUE,
    GREY,
    ORANGE,
    VERMILION,
    Label,
    caption,
    draw,
    finite,
    finite_scores,
    label_right,
    metric_label,
    scale_for_scores,
)
from nas_system.visualization.panels import draw_axes_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKED_EPOCHS = 40
"""Curves with more epochs than this are drawn without a dot per epoch."""


def learning_curve(
    history: Mapping[str, Any],
    path: str | Path,
    *,
    title: str,
    baselines: Sequence[Mapping[str, object]] = (),
) -> None:
    """Draw `history` (as in history.json) into a PNG file; baselines become dashed lines.

    The history says which metric is drawn, and in `direction` whether a higher one is better.
    An epoch whose score is missing or not finite is a gap. Raises OSError if `path` cannot be written.
    """
    recorded = history.get("epochs") or []
    entries = [entry for entry in recorded if isinstance(entry, Mapping)]
    epochs = [_epoch(entry, index) for index, entry in enumerate(entries)]
    metric, direction = metric_in(history), direction_in(history)
    train = [finite(entry.get(f"train_{metric}")) for entry in entries]
    val = [finite(entry.get(f"val_{metric}")) for entry in entries]
    rows = finite_scores(baselines, f"val_{metric}")

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        # Names of baselines need more room on the right than "validation" does.
        axes = figure.add_axes((0.1, 0.14, 0.66 if rows else 0.76, 0.76))
        axes.set_title(caption(f"Learning curve of {title}", 80))
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric_label(metric, direction))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
        scores = [*train, *val, *(score for _, score in rows)]
        if not any(math.isfinite(score) for score in train + val):
            axes.set_yticks([])
            text = "no epoch with a finite score"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY)
            return
        scale_for_scores(axes, scores)
        axes.set_xlim(epochs[0] - 0.3, epochs[-1] + 0.3)
        labels = [Label(score, f"{name} {score:.4f}", GREY) for name, score in rows]
        for _, score in rows:
            axes.axhline(score, color=GREY, linestyle=(0, (4, 3)), linewidth=1)
        marker = "o" if len(epochs) <= _MARKED_EPOCHS else ""
        for name, values, color in (("training", train, ORANGE), ("validation", val, BLUE)):
            axes.plot(epochs, values, color=color, marker=marker, markersize=3.5, linewidth=1.8)
            last = next((value for value in reversed(values) if math.isfinite(value)), None)
            if last is not None:
                labels.append(Label(last, name, color))
        _mark_best(axes, epochs, val, direction)
        label_right(axes, labels)
        draw_axes_ticks(figure, axes)

    draw(Path(path), (7.0, 4.0), paint)


def _epoch(entry: Mapping[str, object], index: int) -> int:
    number = entry.get("epoch")
    return number if type(number) is int and 0 <= number < 10**6 else index


def _mark_best(axes: Axes, epochs: Sequence[int], val: Sequence[float], direction: Direction) -> None:
    """Draw a ring around the epoch whose weights are kept, and its score above the axes."""
    known = [(loss_of(s, direction), n, s) for n, s in zip(epochs, val, strict=True) if math.isfinite(s)]
    if not known:
        return
    _, epoch, score = min(known)
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": VERMILION}
    axes.plot([epoch], [score], "o", zorder=5, **ring)
    text = f"best: {score:.4f} after epoch {epoch}"
    axes.set_title(text, loc="right", color=VERMILION, fontsize=9, fontweight="normal")

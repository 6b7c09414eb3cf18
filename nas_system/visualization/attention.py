"""Which steps of the past a forecast attends to: attention weights as a map of horizon over look-back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_system.visualization.canvas import GREY, INK, caption, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = "GnBu"
"""Pale for nothing, like the paper, and evenly darker; told apart by every common kind of colour vision."""
_PALEST, _DARKEST = 0.5, 99.5
"""Percentiles of the weights with the first and the last colour: an outlier must not make the rest pale."""
_LEAST_SPAN = 0.02
"""The scale reaches at least this far around uniform attention, so that no rounding is drawn as structure."""
_WIDTH, _LEFT, _RIGHT = 8.0, 0.75, 1.35
_TOP, _BOTTOM, _GAP, _PANEL = 0.85, 0.6, 0.55, 1.9
"""Inches."""


@dataclass(frozen=True)
class AttentionMap:
    """One attention of a model over the windows of a part."""

    name: str
    mean: NDArray[Any]
    """(horizon, keys), rows sum to one. Keys are the steps of the look-back in order, groups of
    neighbours if they are fewer, and the steps of the horizon behind them if they are that many more."""
    n_windows: int
    """How many windows the mean is taken over."""
    example: NDArray[Any]
    """Attention in a single window, (horizon, keys)."""
    example_window: int
    """Its number in the part."""


def attention_picture(
    maps: Sequence[AttentionMap],
    path: str | Path,
    *,
    seq_len: int,
    title: str = "",
    example_label: str = "",
) -> None:
    """Draw every map, mean above example, into a PNG file.

    `seq_len` is the look-back in steps, `example_label` names the example's window (for example by the
    first time stamp it forecasts). Raises OSError if `path` cannot be written.
    """
    assert maps
    panels: list[_Panel] = []
    for one in maps:
        assert one.mean.shape == one.example.shape, (one.mean.shape, one.example.shape)
        columns = _columns(one.mean.shape[1], seq_len)
        label = example_label or f"number {one.example_window}"
        panels.append(_Panel(one.mean, f"{one.name}: mean of {one.n_windows} test windows; {columns}"))
        panels.append(_Panel(one.example, f"{one.name}: one test window, {label}"))
    height = _TOP + _BOTTOM + len(panels) * _PANEL + (len(panels) - 1) * _GAP

    def paint(figure: Figure) -> None:
        heading = "What the forecast attends to" + (f": attention of {title}" if title else "")
        left = _LEFT / _WIDTH
        figure.text(left, 1 - 0.27 / height, caption(heading, 90), fontweight="bold", fontsize=10)
        note = "Weights as multiples of uniform attention; every map has its own colour scale."
        figure.text(left, 1 - 0.46 / height, note, color=GREY, fontsize=8)
        for index, panel in enumerate(panels):
            bottom = height - _TOP - (index + 1) * _PANEL - index * _GAP
            width = 1 - (_LEFT + _RIGHT) / _WIDTH
            axes = figure.add_axes((left, bottom / height, width, _PANEL / height))
            _paint_panel(axes, panel, seq_len)
        x = (_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2) / _WIDTH
        text = "step of the look-back; -1 is the last one known when the forecast is made"
        figure.supxlabel(text, fontsize=9, x=x, y=0.1 / height, va="bottom")
        figure.supylabel("step of the forecast", fontsize=9, x=0.12 / _WIDTH, ha="left")

    draw(Path(path), (_WIDTH, height), paint)


@dataclass(frozen=True)
class _Panel:
    weights: NDArray[Any]
    name: str


def _paint_panel(axes: Axes, panel: _Panel, seq_len: int) -> None:
    horizon, keys = panel.weights.shape
    weights = np.asarray(panel.weights, dtype=float) * keys
    ahead = max(keys - seq_len, 0)
    palest, darkest = _scale_of(weights)
    image = axes.imshow(
        weights,
        # Step -k of the look-back lies between -k and -k + 1, step h of the forecast between h - 1 and h.
        extent=(-seq_len, ahead, horizon, 0),
        aspect="auto",
        cmap=_COLORS,
        vmin=palest,
        vmax=darkest,
    )
    axes.set_title(caption(panel.name, 120), fontsize=8, fontweight="normal")
    axes.grid(visible=False)
    span = seq_len + ahead
    past, rows = _labelled(seq_len, 10), _labelled(horizon, 6)
    future = _labelled(ahead, max(10 * ahead // span, 1))
    future = [step for step in future if step > span / 20]  # the first ones would overlap the label -1
    axes.set_xticks([0.5 - step for step in past] + [step - 0.5 for step in future])
    axes.set_xticklabels([f"-{step}" for step in past] + [f"+{step}" for step in future])
    axes.set_yticks([step - 0.5 for step in rows], [str(step) for step in rows])
    if ahead:
        axes.axvline(0, color=INK, linewidth=1)
    bar = axes.inset_axes((1.02, 0.0, 0.02, 1.0))
    above, below = weights.max() > darkest, weights.min() < palest
    extend = "both" if above and below else "max" if above else "min" if below else "neither"
    scale = axes.figure.colorbar(image, cax=bar, extend=extend, label="times uniform attention")
    scale.outline.set_visible(False)
    bar.axhline(1.0, color=INK, linewidth=1)


def _scale_of(weights: NDArray[Any]) -> tuple[float, float]:
    """Return the ends of the colour scale for weights in multiples of uniform attention.

    Attention that is nearly uniform would be one flat colour on a scale from zero; its scale is narrow,
    and the numbers next to it show how narrow.
    """
    palest, darkest = (float(np.percentile(weights, share)) for share in (_PALEST, _DARKEST))
    darkest = max(darkest, 1 + _LEAST_SPAN)
    return (0.0 if darkest > 2 else min(palest, 1 - _LEAST_SPAN)), darkest


def _columns(keys: int, seq_len: int) -> str:
    """Describe what a column of the map is."""
    if keys > seq_len:
        return "right of the line: the forecast's own earlier steps"
    if keys == seq_len:
        return "a column is a step"
    return f"a column is a group of {seq_len / keys:.2g} steps"


def _labelled(steps: int, most: int) -> list[int]:
    """Return which of the steps 1 to `steps` get a label: the first, and round ones, about `most` in all."""
    if not steps:
        return []
    spacing = next(spacing for spacing in _spacings() if steps / spacing <= most)
    return sorted({1, *range(spacing, steps + 1, spacing)})


def _spacings() -> Iterator[int]:
    """Yield rising distances that divide days or hours evenly, as most series have a daily period."""
    yield from (1, 2, 3, 4, 6, 12)
    for power in count():
        yield 24 * 2**power

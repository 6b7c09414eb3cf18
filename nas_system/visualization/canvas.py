"""What all pictures share: size, colours, escaped labels, labels that do not cover data, saving.

Everything is drawn through matplotlib's object-oriented API into a buffer: no pyplot, no display,
no global figure.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_system.nas_agent.log_text import one_line
from nas_system.space.score import Direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
_COMPRESSION = 2

# Okabe and Ito 2008, "Color Universal Design": told apart by every common kind of colour vision.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY = "#222222", "#767676"
GRID, GRID_WIDTH = "#E6E6E6", 0.7
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)

_METRICS = {"mse": "MSE (scaled data)", "mae": "MAE"}

_STYLE: dict[str, Any] = {
    "text.usetex": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # A fixed height: finding one costs a quarter of the drawing time, and nothing here is in its way.
    "axes.titley": 1.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": GRID_WIDTH,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
}
_LABEL_GAP = 0.048
"""Smallest distance of two labels next to the axes, as a part of their height."""
_WIDE = 5.0
"""A range of scores wider than this factor is drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Label:
    """A text right of the axes, at the height of what it names."""

    y: float
    text: str
    color: str = INK


def import_matplotlib() -> None:
    """Import what every picture needs, which takes longer than to draw one."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import matplotlib.font_manager  # noqa: F401  # reads the list of the fonts here
    from PIL import Image

    Image.preinit()  # else by the first picture that is saved


def draw(path: Path, inches: tuple[float, float], paint: Callable[[Figure], None]) -> None:
    """Let `paint` fill a figure and replace the PNG file at `path` by it. Raises OSError."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    # A user's own matplotlibrc must not decide what a run's pictures look like. The backend is the
    # one setting that matplotlib does not restore afterwards; the canvas below decides anyway.
    style: dict[Any, Any] = {**matplotlib.rcParamsDefault, **_STYLE}
    del style["backend"]
    with matplotlib.rc_context(style):
        figure = Figure(figsize=inches, dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
        pixels = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba()))
        buffer = io.BytesIO()
        # Nothing shines through, and a file a tenth larger is written in half the time.
        pixels.convert("RGB").save(buffer, "png", dpi=(DPI, DPI), compress_level=_COMPRESSION)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)


def caption(text: object, limit: int = 60) -> str:
    """Return text of any origin as a label: one printable line, and no dollar that starts a formula."""
    return one_line(str(text), limit).replace("$", r"\$")


def finite(value: object) -> float:
    """Return a number that can be drawn; NaN, which leaves a gap, for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300:
        return float(value)
    return math.nan


def metric_label(metric: str, direction: Direction) -> str:
    """Return the label of an axis: `MAE, lower is better` for `mae`."""
    better = "lower" if direction == "minimize" else "higher"
    return caption(f"{_METRICS.get(metric, metric)}, {better} is better")


def finite_scores(rows: Iterable[Mapping[str, object]], metric: str) -> list[tuple[str, float]]:
    """Return name and score of the baselines that have a finite `metric`."""
    scores = [(str(row.get("name")), finite(row.get(metric))) for row in rows]
    return [(name, score) for name, score in scores if math.isfinite(score)]


def scale_for_scores(axes: Axes, values: Iterable[float]) -> None:
    """Leave room around `values`; use a logarithmic scale if they are all positive and far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = [value for value in values if math.isfinite(value)]
    if not known:
        axes.set_yticks([])
        return
    low, high = min(known), max(known)
    if low > 0 and high / low > _WIDE:
        axes.set_yscale("log")
        margin = (high / low) ** 0.06
        axes.set_ylim(low / margin, high * margin)
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 3 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    axes.set_ylim(low - margin, high + margin)


def label_right(axes: Axes, labels: Sequence[Label]) -> None:
    """Put labels into the right margin, each at its height, moved apart where they would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = sorted(
        ((float(to_axes.transform((0, label.y))[1]), label) for label in labels), key=lambda pair: pair[0]
    )
    for (height, label), placed in zip(wanted, spread([height for height, _ in wanted]), strict=True):
        axes.plot(
            [1.0, 1.008, 1.022, 1.03],
            [height, height, placed, placed],
            transform=axes.transAxes,
            color=label.color,
            linewidth=0.8,
            clip_on=False,
        )
        axes.text(
            1.037,
            placed,
            caption(label.text),
            transform=axes.transAxes,
            color=label.color,
            va="center",
            fontsize=8.5,
        )


def spread(heights: Sequence[float], gap: float = _LABEL_GAP) -> list[float]:
    """Move ascending heights as little as needed so that neighbours are at least `gap` apart.

    Neighbours that touch form a block; the mean of a block is that of the heights its members had.
    """
    blocks: list[tuple[float, int]] = []  # (sum of the wanted heights of first members, size)
    for index, height in enumerate(heights):
        blocks.append((height - index * gap, 1))
        # After subtracting index * gap, "at least gap apart" is "not descending": isotonic regression.
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, size = blocks.pop()
            before, count = blocks.pop()
            blocks.append((before + total, count + size))
    level = [total / size for total, size in blocks for _ in range(size)]
    return [value + index * gap for index, value in enumerate(level)]

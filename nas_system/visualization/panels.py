"""Ticks and small plots drawn as a few artists of the whole figure, in inches from its lower left corner.

matplotlib makes five artists of every tick, and dozens of every axes: to draw those of six small plots takes
longer than all that the plots show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_system.visualization.canvas import GREY, GRID, GRID_WIDTH, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.ticker import Locator

_INCHES_PER_POINT = 1 / 72
_TICK_INCHES = 3.5 * _INCHES_PER_POINT
_MINOR_INCHES = 2 * _INCHES_PER_POINT
_LABEL_INCHES = 4 * _INCHES_PER_POINT
_NARROWEST_INCHES = 11 * _INCHES_PER_POINT
"""Room for an axis's label at the edge of the figure; wide labels of ticks leave it no more."""
_TITLE_INCHES = 6 * _INCHES_PER_POINT
_BELOW_AXES = -1.0
"""Where lines of the figure are drawn before its axes."""
_MARGIN = 0.05
"""Room above and below what is drawn, as a part of its height."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A rectangle, in inches from the figure's lower left corner, and the values at its sides."""

    left: float
    bottom: float
    width: float
    height: float
    x: Range
    y: Range

    def place(self, x: ArrayLike, y: ArrayLike) -> NDArray[Any]:
        """Return where values are in the figure: (n, 2), in inches."""
        columns, rows = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        return np.stack(
            (
                self.left + self.width * (columns - self.x[0]) / (self.x[1] - self.x[0]),
                self.bottom + self.height * (rows - self.y[0]) / (self.y[1] - self.y[0]),
            ),
            axis=-1,
        )


def range_of(*values: NDArray[Any]) -> Range:
    """Return the range of everything finite, with a margin; that around 0 if nothing is."""
    known = np.concatenate([array[np.isfinite(array)] for array in values])
    if not known.size:
        return -1.0, 1.0
    low, high = float(known.min()), float(known.max())
    margin = _MARGIN * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def draw_lines(figure: Figure, lines: Iterable[NDArray[Any]], **style: Any) -> None:
    """Draw lines of one style through points in inches; a point that is not finite is a gap."""
    from matplotlib.collections import LineCollection

    caps = "butt" if "linestyle" in style else "projecting"
    style = {"capstyle": caps, "joinstyle": "round", **style}
    figure.add_artist(LineCollection(list(lines), transform=figure.dpi_scale_trans, **style))


def draw_frames(figure: Figure, panels: Sequence[Panel], x: Locator, y: Locator, *, labelled: int) -> None:
    """Draw the left and lower sides of panels, their ticks and the grid; of the last `labelled` ones the
    horizontal axis has labels."""
    ticks, sides = _Ticks(figure), []
    for index, panel in enumerate(panels):
        top, right = panel.bottom + panel.height, panel.left + panel.width
        columns, rows = _inside(x, panel.x), _inside(y, panel.y)
        names = _labels(columns, panel.x)[0] if index >= len(panels) - labelled else ()
        ticks.add_below(panel.place(columns, panel.y[0]), names, top=top)
        names, factor = _labels(rows, panel.y)
        ticks.add_left(panel.place(panel.x[0], rows), names, right=right)
        ticks.add_factor(panel.left, top, factor)
        sides.append(panel.place([panel.x[0], panel.x[0], panel.x[1]], [panel.y[1], panel.y[0], panel.y[0]]))
    ticks.draw()
    draw_lines(figure, sides, colors=GREY, linewidths=0.8, zorder=2.5)


def draw_axes_ticks(figure: Figure, axes: Axes) -> None:
    """Draw the ticks and labels of axes, and the grid, in the place of their own; their limits are final."""
    to_inches = axes.transData + figure.dpi_scale_trans.inverted()
    limits = (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    (left_in, bottom_in), (right_in, top_in) = to_inches.transform([(left, low), (right, high)])
    ticks = _Ticks(figure)
    columns, rows = (
        _inside(axis.get_major_locator(), inside)
        for axis, inside in zip((axes.xaxis, axes.yaxis), limits, strict=True)
    )
    names = axes.xaxis.get_major_formatter().format_ticks(list(columns))
    below = ticks.add_below(to_inches.transform([(column, low) for column in columns]), names, top=top_in)
    formatter = axes.yaxis.get_major_formatter()
    names = formatter.format_ticks(list(rows))
    left_of = ticks.add_left(to_inches.transform([(left, row) for row in rows]), names, right=right_in)
    ticks.add_factor(left_in, top_in, formatter.get_offset())
    between = _inside(axes.yaxis.get_minor_locator(), limits[1])
    if between.size:
        ticks.add_left(to_inches.transform([(left, row) for row in between]), length=_MINOR_INCHES)
    ticks.draw()
    edge = min((text.get_window_extent().y0 / figure.dpi for text in below), default=bottom_in)
    place = np.array(((left_in + right_in) / 2, edge - _LABEL_INCHES))
    draw_text(figure, place, axes.get_xlabel(), ha="center", va="top")
    edge = min((text.get_window_extent().x0 / figure.dpi for text in left_of), default=left_in)
    place = np.array((max(edge - _LABEL_INCHES, _NARROWEST_INCHES), (bottom_in + top_in) / 2))
    draw_text(figure, place, axes.get_ylabel(), ha="right", va="center", rotation=90)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_visible(False)
    axes.patch.set_visible(False)  # the grid lies behind


class _Ticks:
    """Ticks with their labels and grid lines; all lines are drawn at once."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        self._grid: list[NDArray[Any]] = []
        self._ticks: list[NDArray[Any]] = []

    def add_below(self, places: NDArray[Any], labels: Sequence[str], *, top: float) -> list[Text]:
        """Add ticks of a horizontal axis, with grid lines up to `top`; return its labels."""
        for place in places:
            self._ticks.append(np.stack((place, place - (0, _TICK_INCHES))))
            self._grid.append(np.array((place, (place[0], top))))
        return [
            draw_text(self._figure, place - (0, 2 * _TICK_INCHES), label, ha="center", va="top")
            for place, label in zip(places, labels, strict=False)
        ]

    def add_left(
        self,
        places: NDArray[Any],
        labels: Sequence[str] = (),
        *,
        right: float | None = None,
        length: float = _TICK_INCHES,
    ) -> list[Text]:
        """Add ticks of a vertical axis, with grid lines up to `right`; return its labels."""
        for place in places:
            self._ticks.append(np.stack((place, place - (length, 0))))
            if right is not None:
                self._grid.append(np.array((place, (right, place[1]))))
        return [
            draw_text(self._figure, place - (2 * length, 0), label, ha="right", va="center_baseline")
            for place, label in zip(places, labels, strict=False)
        ]

    def add_factor(self, left: float, top: float, factor: str) -> None:
        """Draw what the labels left of an axis have in common, `1e6` or `+1e3`, above them."""
        if factor:
            place = np.array((left - _TICK_INCHES, top + _TITLE_INCHES))
            draw_text(self._figure, place, factor, ha="right", va="baseline", fontsize=7)

    def draw(self) -> None:
        """Draw the lines; the texts are part of the figure already."""
        draw_lines(self._figure, self._grid, colors=GRID, linewidths=GRID_WIDTH, zorder=_BELOW_AXES)
        draw_lines(self._figure, self._ticks, colors=GREY, linewidths=0.8, zorder=2.5, capstyle="butt")


def draw_title(figure: Figure, panel: Panel, text: str) -> None:
    """Draw a text of one or more lines above the panel."""
    place = np.array((panel.left, panel.bottom + panel.height + _TITLE_INCHES))
    draw_text(figure, place, text, va="baseline", fontsize=8)


def draw_text(figure: Figure, place: NDArray[Any], text: str, **style: Any) -> Text:
    """Draw text at a place in inches and return it."""
    return figure.text(place[0], place[1], text, transform=figure.dpi_scale_trans, **{"color": INK, **style})


def _inside(locator: Locator, limits: Range) -> NDArray[Any]:
    places = np.asarray(locator.tick_values(*limits), dtype=float)
    return places[(places >= limits[0]) & (places <= limits[1])]


def _labels(places: NDArray[Any], limits: Range) -> tuple[list[str], str]:
    """Return labels for ticks, and what they have in common if that keeps them short."""
    from matplotlib.ticker import ScalarFormatter

    formatter = ScalarFormatter()
    formatter.create_dummy_axis()
    assert formatter.axis is not None
    formatter.axis.set_view_interval(*limits)
    return formatter.format_ticks(list(places)), formatter.get_offset()

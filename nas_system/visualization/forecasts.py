"""Forecasts of one run against the truth, and against repeating the last value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_system.visualization.canvas import GREY, INK, VERMILION, caption, draw
from nas_system.visualization.panels import Panel, draw_frames, draw_lines, draw_title, range_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WINDOWS = 9
_COLUMNS = 3
_PAST_PER_HORIZON, _SHORTEST_PAST = 3, 24
"""How much of the look-back is shown, in horizons and in steps: more would squeeze the forecast."""
_LEGEND_INCHES = 6.2


def forecast_examples(
    past: ArrayLike,
    truth: ArrayLike,
    forecast: ArrayLike,
    path: str | Path,
    *,
    column: str,
    title: str = "",
    labels: Sequence[str] = (),
    unit: str = "",
) -> None:
    """Draw windows of one column, in its original unit, into a PNG file.

    `past` is (n, seq_len), `truth` and `forecast` are (n, pred_len); the first nine windows are
    drawn. `labels` name the windows (for example by their first time stamp). Raises OSError if
    `path` cannot be written.
    """
    history, actual, predicted = (
        np.asarray(values, dtype=float)[:MOST_WINDOWS] for values in (past, truth, forecast)
    )
    assert history.ndim == 2, history.shape
    assert actual.shape == predicted.shape, (actual.shape, predicted.shape)
    assert len(history) == len(actual) > 0, (history.shape, actual.shape)
    columns = min(_COLUMNS, len(history))
    rows = math.ceil(len(history) / columns)
    inches = (max(1.2 + 2.9 * columns, _LEGEND_INCHES), 1.25 + (2.2 if labels else 2.0) * rows)

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        width, height = inches
        windows = [_Window.of(*arrays) for arrays in zip(history, actual, predicted, strict=True)]
        panels = _panels(windows, rows, columns, inches, with_names=bool(labels))
        _draw_windows(figure, panels, windows)
        steps, values = MaxNLocator(integer=True, nbins=6), MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
        # A panel with nothing under it carries the labels for its column.
        draw_frames(figure, panels, steps, values, labelled=columns)
        for index, panel in enumerate(panels):
            name = labels[index] if index < len(labels) else ""
            errors = _errors(history[index], actual[index], predicted[index])
            draw_title(figure, panel, f"{caption(name, 40)}\n{errors}" if name else errors)
        heading = f"Forecasts of {column}" + (f" by {title}" if title else "")
        figure.text(0.7 / width, 1 - 0.27 / height, caption(heading, 90), fontweight="bold", fontsize=10)
        figure.supxlabel("steps after the forecast is made", fontsize=9, y=0.12 / height, va="bottom")
        measured = caption(column + (f" ({unit})" if unit else ""))
        figure.supylabel(measured, fontsize=9, x=0.12 / width, ha="left")

    draw(Path(path), inches, paint)


@dataclass(frozen=True)
class _Window:
    """What one panel shows, as (steps, values)."""

    past: tuple[NDArray[Any], NDArray[Any]]
    naive: tuple[NDArray[Any], NDArray[Any]]
    truth: tuple[NDArray[Any], NDArray[Any]]
    forecast: tuple[NDArray[Any], NDArray[Any]]

    @classmethod
    def of(cls, past: NDArray[Any], truth: NDArray[Any], forecast: NDArray[Any]) -> _Window:
        shown = past[-max(_PAST_PER_HORIZON * len(truth), _SHORTEST_PAST) :]
        # The last known value starts every line of the future, so that none of them starts unconnected.
        future, last = np.arange(len(truth) + 1), past[-1:]
        return cls(
            past=(np.arange(1 - len(shown), 1), shown),
            naive=(future, np.full(len(future), past[-1])),
            truth=(future, np.concatenate((last, truth))),
            forecast=(future, np.concatenate((last, forecast))),
        )


_LINES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "past": ("past", {"color": GREY, "linewidth": 1.2}),
    "naive": ("repeat the last value", {"color": GREY, "linewidth": 1.2, "linestyle": (0, (4, 3))}),
    "truth": ("truth", {"color": INK, "linewidth": 1.6}),
    "forecast": ("forecast", {"color": VERMILION, "linewidth": 1.8}),
}
"""Name and style of the lines of a window, in the order in which they are drawn."""


def _panels(
    windows: Sequence[_Window], rows: int, columns: int, inches: tuple[float, float], *, with_names: bool
) -> list[Panel]:
    """Return a panel for each window, row by row from the top."""
    between_columns, between_rows = 0.22, 0.5 if with_names else 0.36
    width = (inches[0] - 0.85) / (columns + between_columns * (columns - 1))
    height = (inches[1] - (1.55 if with_names else 1.4)) / (rows + between_rows * (rows - 1))
    top = 0.55 + height * (rows - 1) * (1 + between_rows)
    panels = []
    for index, window in enumerate(windows):
        row, column = divmod(index, columns)
        first, last = window.past[0][0], window.truth[0][-1]
        margin = 0.02 * (last - first)
        panels.append(
            Panel(
                left=0.7 + column * width * (1 + between_columns),
                bottom=top - row * height * (1 + between_rows),
                width=width,
                height=height,
                x=(first - margin, last + margin),
                y=range_of(window.past[1], window.truth[1], window.forecast[1]),
            )
        )
    return panels


def _draw_windows(figure: Figure, panels: Sequence[Panel], windows: Sequence[_Window]) -> None:
    """Draw the lines of all windows, and what they mean."""
    from matplotlib.lines import Line2D

    now = [panel.place([0, 0], panel.y) for panel in panels]
    draw_lines(figure, now, color=GREY, linewidth=0.8, linestyle=":", zorder=2)
    for field, (_, style) in _LINES.items():
        lines = [panel.place(*getattr(window, field)) for panel, window in zip(panels, windows, strict=True)]
        draw_lines(figure, lines, zorder=2, **style)
    width, height = figure.get_size_inches()
    handles = [Line2D([], [], **style) for _, style in _LINES.values()]
    names = [name for name, _ in _LINES.values()]
    where = {"loc": "upper left", "bbox_to_anchor": (0.6 / width, 1 - 0.3 / height)}
    figure.legend(handles, names, ncols=len(names), **where)


def _errors(past: NDArray[Any], truth: NDArray[Any], forecast: NDArray[Any]) -> str:
    """Describe the error against that of repeating the last value, in the column's unit."""
    own = math.sqrt(float(np.mean((forecast - truth) ** 2)))
    naive = math.sqrt(float(np.mean((past[-1] - truth) ** 2)))
    return f"RMSE {_rounded(own)}, repeating the last value {_rounded(naive)}"


def _rounded(value: float) -> str:
    """Format three digits, also when the last ones are zeros."""
    return f"{value:#.3g}".removesuffix(".")

"""Forecasts of one run against the truth, and against repeating the last value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_system.visualization.canvas import GREY, INK, VERMILION, caption, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
        heading = f"Forecasts of {column}" + (f" by {title}" if title else "")
        width, height = inches
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        figure.subplots_adjust(
            left=0.7 / width,
            right=1 - 0.15 / width,
            bottom=0.55 / height,
            top=1 - (1.0 if labels else 0.85) / height,
            hspace=0.5 if labels else 0.36,
            wspace=0.22,
        )
        figure.text(0.7 / width, 1 - 0.27 / height, caption(heading, 90), fontweight="bold", fontsize=10)
        panels = list(grid.flat)
        for index, axes in enumerate(panels):
            if index >= len(history):
                axes.remove()
                continue
            _panel(axes, history[index], actual[index], predicted[index])
            name = labels[index] if index < len(labels) else ""
            errors = _errors(history[index], actual[index], predicted[index])
            text = f"{caption(name, 40)}\n{errors}" if name else errors
            axes.set_title(text, fontsize=8, fontweight="normal")
            below = index + columns
            # A panel with nothing under it carries the axis for its column.
            axes.tick_params(labelbottom=below >= len(history))
        handles, names = panels[0].get_legend_handles_labels()
        where = {"loc": "upper left", "bbox_to_anchor": (0.6 / width, 1 - 0.3 / height)}
        figure.legend(handles, names, ncols=len(names), **where)
        figure.supxlabel("steps after the forecast is made", fontsize=9, y=0.12 / height, va="bottom")
        measured = caption(column + (f" ({unit})" if unit else ""))
        figure.supylabel(measured, fontsize=9, x=0.12 / width, ha="left")

    draw(Path(path), inches, paint)


def _panel(axes: Axes, past: NDArray[Any], truth: NDArray[Any], forecast: NDArray[Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    shown = past[-max(_PAST_PER_HORIZON * len(truth), _SHORTEST_PAST) :]
    steps = np.arange(1, len(truth) + 1)
    # The last known value starts every line of the future, so that none of them starts unconnected.
    future = np.concatenate(([0], steps))
    axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(np.arange(1 - len(shown), 1), shown, color=GREY, linewidth=1.2, label="past")
    axes.plot(
        future,
        np.full(len(future), past[-1]),
        color=GREY,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
        label="repeat the last value",
    )
    axes.plot(future, np.concatenate((past[-1:], truth)), color=INK, linewidth=1.6, label="truth")
    axes.plot(future, np.concatenate((past[-1:], forecast)), color=VERMILION, linewidth=1.8, label="forecast")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _errors(past: NDArray[Any], truth: NDArray[Any], forecast: NDArray[Any]) -> str:
    """Describe the error against that of repeating the last value, in the column's unit."""
    own = math.sqrt(float(np.mean((forecast - truth) ** 2)))
    naive = math.sqrt(float(np.mean((past[-1] - truth) ** 2)))
    return f"RMSE {_rounded(own)}, repeating the last value {_rounded(naive)}"


def _rounded(value: float) -> str:
    """Format three digits, also when the last ones are zeros."""
    return f"{value:#.3g}".removesuffix(".")

"""The forecast of a series' future, after the last stretch of its past, on a time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_system.visualization.canvas import GREY, VERMILION, caption, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 8
_PAST_PER_HORIZON, _SHORTEST_PAST = 3, 24
"""How much of the past is shown, in horizons and in steps: more would squeeze the forecast."""
_MOST_DOTS = 12
"""A forecast of more steps than this is a line without a dot per step."""

SHADES = ("#CDE4F3", "#A3CCE8", "#79B4DC")
"""Of the intervals, the widest first: tints of one blue, which differ in lightness alone."""

# By what the ticks are: years, months, days, hours, minutes, seconds.
_TICKS = ["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%S.%f"]
_FIRST_TICKS = ["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"]
"""Of a year, a month, a day, ..."""
_CORNER = ["", "%Y", "%Y", "%d %b %Y", "%d %b %Y", "%d %b %Y %H:%M"]
"""What the ticks leave out, at the end of the axis."""


def future_forecast(
    past_dates: ArrayLike,
    past: ArrayLike,
    dates: ArrayLike,
    forecast: ArrayLike,
    path: str | Path,
    *,
    columns: Sequence[str],
    title: str = "",
    target: str = "",
    intervals: Mapping[int, tuple[ArrayLike, ArrayLike]] | None = None,
) -> None:
    """Draw a panel per column, in its original unit, into a PNG file; the first eight columns are drawn.

    Where the columns are several series of one `target`, the heading names that.

    `past` is (rows, columns) with its time stamps `past_dates` (rows,), `forecast` is (pred_len,
    columns) with `dates` (pred_len,). `intervals` holds lower and upper bounds like `forecast` by their level
    in per cent. Raises OSError if `path` cannot be written.
    """
    known_at, future_at = (np.asarray(stamps, dtype="datetime64[s]") for stamps in (past_dates, dates))
    known, future = (np.asarray(values, dtype=float) for values in (past, forecast))
    assert known.shape == (len(known_at), len(columns)), (known.shape, known_at.shape, columns)
    assert future.shape == (len(future_at), len(columns)), (future.shape, future_at.shape, columns)
    assert len(known) and len(future), (known.shape, future.shape)
    bands = {
        level: np.stack([np.asarray(bound, dtype=float) for bound in bounds])
        for level, bounds in (intervals or {}).items()
    }
    assert all(band.shape == (2, *future.shape) for band in bands.values()), future.shape
    shown = slice(-max(_PAST_PER_HORIZON * len(future), _SHORTEST_PAST), None)
    panels = min(len(columns), MOST_PANELS)
    inches = (8.0, 1.45 + (2.3 if panels == 1 else 1.3 * panels))

    def paint(figure: Figure) -> None:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        width, height = inches
        grid = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        left, right, bottom, top = 0.8 / width, 1 - 0.35 / width, 0.45 / height, 1 - 0.72 / height
        figure.subplots_adjust(left=left, right=right, bottom=bottom, top=top, hspace=0.22)
        figure.text(
            left,
            1 - 0.27 / height,
            _heading((target,) if target else columns, title),
            fontweight="bold",
            fontsize=10,
        )
        for index, axes in enumerate(grid):
            own = {level: band[:, :, index] for level, band in bands.items()}
            _panel(axes, known_at[shown], known[shown, index], future_at, future[:, index], own)
            axes.set_ylabel(caption(columns[index], 24))
        locator = AutoDateLocator(minticks=4, maxticks=9)
        formatter = ConciseDateFormatter(
            locator, formats=_TICKS, zero_formats=_FIRST_TICKS, offset_formats=_CORNER
        )
        grid[-1].xaxis.set_major_locator(locator)
        grid[-1].xaxis.set_major_formatter(formatter)
        figure.align_ylabels(list(grid))
        handles, names = grid[0].get_legend_handles_labels()
        where = {"loc": "upper left", "bbox_to_anchor": (left - 0.1 / width, 1 - 0.32 / height)}
        figure.legend(handles, names, ncols=len(names), **where)

    draw(Path(path), inches, paint)


def _heading(columns: Sequence[str], title: str) -> str:
    if len(columns) <= MOST_PANELS:
        what = ", ".join(columns)
    else:
        what = f"the first {MOST_PANELS} of {len(columns)} targets"
    return caption(f"Forecast of {what}" + (f" by {title}" if title else ""), 90)


def _panel(
    axes: Axes,
    known_at: NDArray[Any],
    known: NDArray[Any],
    future_at: NDArray[Any],
    future: NDArray[Any],
    bands: Mapping[int, NDArray[Any]],
) -> None:
    # The last known value starts every line of the future, so that none of them starts unconnected.
    ahead = np.concatenate((known_at[-1:], future_at))
    axes.axvline(ahead[0], color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(known_at, known, color=GREY, linewidth=1.2, label="past")
    axes.plot(
        ahead,
        np.full(len(ahead), known[-1]),
        color=GREY,
        linewidth=1.2,
        linestyle=(0, (4, 3)),
        label="repeat the last value",
    )
    dots = (
        {"marker": "o", "markersize": 3.5, "markevery": slice(1, None)} if len(future) <= _MOST_DOTS else {}
    )
    line = np.concatenate((known[-1:], future))
    axes.plot(ahead, line, color=VERMILION, linewidth=1.8, label="forecast", **dots)
    # The widest first, each darker than the one around it, and all of them below the lines.
    for place, level in enumerate(sorted(bands, reverse=True)):
        low, high = (np.concatenate((known[-1:], bound)) for bound in bands[level])
        shade = SHADES[min(place, len(SHADES) - 1)]
        axes.fill_between(ahead, low, high, color=shade, linewidth=0, zorder=0.5, label=f"{level} %")
    axes.margins(x=0.02)

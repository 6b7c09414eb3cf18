"""Rows after the last one of a series, in which only columns are filled whose future is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_system.data.calendar import dates_after
from nas_system.data.reading.numbers import MISSING
from nas_system.data.reading.panel.keys import Group, spelled_columns
from nas_system.data.reading.table import Table

Array = NDArray[np.float64]
Dates = NDArray[np.datetime64]

FLAG = "--future"


def known_places(table: Table, future: Sequence[str], time: str) -> list[int]:
    """Return which columns of a table are known for the future, in its order.

    Raises ConfigError for one that is missing, and where no column is left to be forecast.
    """
    if time in future:
        table.refuse_header(f"column {time!r} holds the time stamps; {FLAG} (task.future) names others")
    places = sorted(table.place_of(column, f"{FLAG} (task.future)") for column in future)
    if len(places) == len(table.header):
        table.refuse_header(f"{FLAG} (task.future) names every column; there is none left to forecast")
    return places


def rows_before_the_future(table: Table, group: Group, known: Sequence[int]) -> int:
    """Return how many rows a series has: those of the future, at its end, have known columns only."""
    if not known:
        return len(group)
    others = [cells for place, cells in enumerate(table.columns) if place not in known]
    for end in range(len(group), 0, -1):
        row = group.rows[end - 1]
        if any(str(cells[row]).strip().lower() not in MISSING for cells in others):
            return end
    return 0


def check_future(rows: Table, dates: Dates, past: Dates, freq: str, time: str) -> None:
    """Raise ConfigError unless the rows of the future, at `dates`, follow `past` in whole steps, no gap."""
    due = dates_after(past, freq, len(dates))
    wrong = np.flatnonzero(dates != due)
    if wrong.size:
        row = int(wrong[0])
        rows.refuse(
            row,
            time,
            f"the time stamp {dates[row]} stands where {due[row]} is due: rows of the future, with nothing "
            f"but what {FLAG} (task.future) names, follow the others in steps of {freq}; add what is missing",
        )


def advice_for_the_future(values: Array, header: Sequence[str], known: Sequence[int], row: int) -> str:
    """Return what to do if the rows from `row` to the end, (rows, columns), are of the future: in each of
    them the same columns are filled. Nothing where they are not."""
    filled = ~np.isnan(values[row:])
    if not (filled == filled[0]).all() or not filled[0].any():
        return ""
    names = [name for place, name in enumerate(header) if filled[0, place] or place in known]
    return f"; if the future of {' and '.join(map(repr, names))} is known: {FLAG} {spelled_columns(names)}"

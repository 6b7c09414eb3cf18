"""Rows that are not in the order of time: newest first, several series in one file, or one time twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.daylight import clock_change
from nas_system.data.reading.panel.keys import FLAG, Group, Grouped, spelled_columns
from nas_system.data.reading.spellings import HOUR_NAMES, TIME_OF_DAY, are_hours
from nas_system.data.reading.table import SHORTEST_SERIES, Table

Dates = NDArray[np.datetime64]

MOST_KEYS = 2
"""Columns that together tell series apart: a shop and an article."""
MOST_KEY_COLUMNS = 12
MOST_DISTINCT = 0.8
"""Share of time stamps: series side by side repeat each other's, a stray row repeats one."""
NAMES_SHOWN = 4


def is_newest_first(dates: Dates) -> bool:
    """Return whether every row is earlier than the one before."""
    return len(dates) > 1 and bool((np.diff(dates.astype(np.int64)) < 0).all())


def keys_of(table: Table, dates: Dates, told: Sequence[NDArray[np.int64]] = ()) -> tuple[str, ...]:
    """Return the column, or the two, whose values tell several series apart: no time comes twice in one.

    Nothing where there are none. Columns of few values come first, those of text before those of numbers.
    `told` are numbers, (rows,), of what is known to tell some apart.
    """
    if not told and len(np.unique(dates)) > MOST_DISTINCT * len(dates):
        return ()
    codes = {}
    for name, cells in zip(table.header, table.columns, strict=True):
        values, code = np.unique(np.asarray(cells.tolist()), return_inverse=True)
        if 1 < len(values) <= len(dates) / SHORTEST_SERIES:
            codes[name] = (any(map(_is_text, values)), len(values), code)
    likely = sorted(codes, key=lambda name: (not codes[name][0], codes[name][1]))[:MOST_KEY_COLUMNS]
    for count in range(1, MOST_KEYS + 1):
        for names in combinations(likely, count):
            code = _together([*told, *(codes[name][2] for name in names)])
            if _tells_apart(code, dates):
                return names
    return ()


def clock_column(table: Table) -> str | None:
    """Return the column that holds a time of day in every row."""
    for name, cells in zip(table.header, table.columns, strict=True):
        if all(map(TIME_OF_DAY.fullmatch, cells)) or (name.lower() in HOUR_NAMES and are_hours(cells)):
            return name
    return None


def refuse_disorder(whole: Grouped, group: Group, time: str, dates: Dates) -> NoReturn:
    """Raise ConfigError that says why the times of a group repeat or go back, never to delete what may be
    data.

    The table of `whole` has the columns other than the time stamps, whose name is `time`; `dates` are those
    of all its rows.
    """
    own, rest = dates[group.rows], group.table(whole.rest)
    steps = np.diff(own.astype(np.int64))
    row = int(np.flatnonzero(steps <= 0)[0]) + 1
    stamp = f"the time stamp {own[row]}"
    if (change := clock_change(own, int(np.median(steps)))) is not None:
        rest.refuse(change.row, time, f"at the time stamp {own[change.row]} {change.advice}")
    if (clock := clock_column(rest)) is not None:
        advice = f"join {time!r} and {clock!r} to one time stamp in the first column"
        rest.refuse(row, time, f"{stamp} repeats, because column {clock!r} has the time of day; {advice}")
    if keys := keys_of(whole.rest, dates, whole.numbers()):
        _refuse_several(whole, rest, time, keys, row)
    if own[row] != own[row - 1]:
        rest.refuse(row, time, f"{stamp} is earlier than the one before; sort the rows by time")
    same = all(cells[row] == cells[row - 1] for cells in rest.columns)
    problem = (
        "repeats the one before, with the same values; keep one of the two rows"
        if same
        else "repeats the one before, with other values; take their mean if they measure the same, and give "
        "each series a file of its own if they do not"
    )
    rest.refuse(row, time, f"{stamp} {problem}")


def _refuse_several(whole: Grouped, rest: Table, time: str, keys: tuple[str, ...], row: int) -> NoReturn:
    """Name the columns that tell the rows of a table apart: of one series, or of what is taken for one."""
    columns = [rest.columns[rest.header.index(key)].tolist() for key in keys]
    series = sorted({" ".join(cells) for cells in zip(*columns, strict=True)})
    shown = ", ".join(series[:NAMES_SHOWN]) + (", ..." if len(series) > NAMES_SHOWN else "")
    by, all_keys = " and ".join(map(repr, keys)), (*whole.columns, *keys)
    grouping = repr(all_keys[0]) if len(all_keys) == 1 else str(list(all_keys))
    holds = "these rows are of" if whole.columns else "the file holds"
    rest.refuse(
        row,
        time,
        f"time goes back or stands still, because {holds} {len(series)} series, told apart by column {by} "
        f"({shown}); a search with {FLAG} {spelled_columns(all_keys)} (task.series_columns) trains one model "
        f"on all, or give each a file of its own (in pandas: table.groupby({grouping}))",
    )


def _is_text(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return bool(value.strip())
    return False


def _together(codes: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.integer[Any]]:
    """Return one number for each combination of the values of some columns."""
    return np.unique(np.stack(codes), axis=1, return_inverse=True)[1].ravel()


def _tells_apart(code: NDArray[np.integer[Any]], dates: Dates) -> bool:
    """Return whether no series has a time twice, and each goes forward in the order of the file, or back."""
    order = np.argsort(code, kind="stable")
    steps, changes = np.diff(dates[order].astype(np.int64)), np.diff(code[order]) != 0
    enough = np.bincount(code)
    if int(enough[enough > 0].min()) < SHORTEST_SERIES:
        return False
    of = code[order][1:]
    forward, back = (np.bincount(of, ~changes & (way * steps <= 0)) == 0 for way in (1, -1))
    return bool((forward | back).all())

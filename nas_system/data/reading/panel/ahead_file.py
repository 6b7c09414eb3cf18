"""A file with the future of known columns alone: time stamps, these columns, and which series a row is of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.joining import time_column
from nas_system.data.reading.kinds import text_in
from nas_system.data.reading.numbers import decimal_mark, read_numbers
from nas_system.data.reading.panel.keys import Group, Grouped, grouped
from nas_system.data.reading.several import is_newest_first, refuse_disorder
from nas_system.data.reading.spellings import WrongStamp
from nas_system.data.reading.stamps import Stamps, read_stamps
from nas_system.data.reading.table import Table, parse_table
from nas_system.data.series import Ahead, Clock, Series

Dates = NDArray[np.datetime64]

FLAG = "--future-csv"
UTC_OFFSETS = ("Z", "+00:00")


def read_ahead(
    content: bytes,
    name: str,
    known: Sequence[str],
    *,
    series_columns: Sequence[str] = (),
    date_format: str | None = None,
    like: Series | None = None,
) -> dict[str, Ahead]:
    """Return the values of `known`, in this order, by the names of the series: "" where there is one.

    Any rows may be there, past ones too, as long as time goes forward; NaN stands for an empty cell. Other
    columns are not read. `like` is a series that the rows go with: theirs must be written with an offset from
    UTC if its are, and are then counted on its clock.

    Raises ConfigError naming `name`, the line, the series and the column.
    """
    table = parse_table(text_in(content, name), name, least=1)
    whole = grouped(table, series_columns)
    time = time_column(whole.rest, whole.columns)
    for column in known:
        time.rest.place_of(column, "the search (task.future)")
    rest = time.rest.only(*known)
    local = None if like is None else _is_local(like.clock)
    try:
        stamps = read_stamps(time.cells, time.name, date_format, series=whole.all_rows(), local=local)
    except WrongStamp as error:
        whole.refuse(rest, error.row, time.name, str(error))
    if like is not None:
        _check_clock(time.rest, time.name, stamps, like.clock)
    numbers = _numbers_of(Grouped(whole.columns, rest, whole.groups), known)
    ahead = {}
    for group in whole.groups:
        rows = group.reversed() if is_newest_first(stamps.dates[group.rows]) else group
        _check_order(Grouped(whole.columns, time.rest, whole.groups), rows, time.name, stamps.dates)
        ahead[group.name] = Ahead(tuple(known), stamps.dates[rows.rows], numbers[rows.rows])
    return ahead


def _is_local(clock: Clock | None) -> bool | None:
    """Return whether a series keeps the times of a local clock; None for one whose clock is not known."""
    return None if clock is None else not clock.ahead_s and clock.offset not in UTC_OFFSETS


def _check_clock(table: Table, column: str, stamps: Stamps, clock: Clock | None) -> None:
    if (stamps.clock is None) == (clock is None):
        return
    if clock is None:
        problem = "an offset from UTC, but those of the series have none; leave it out"
    else:
        problem = f"no offset from UTC, but those of the series have; write it, as {clock.offset}"
    table.refuse(0, column, f"the time stamps have {problem}")


def _check_order(whole: Grouped, group: Group, column: str, dates: Dates) -> None:
    if (np.diff(dates[group.rows].astype(np.int64)) <= 0).any():
        refuse_disorder(whole, group, column, dates)


def _numbers_of(whole: Grouped, known: Sequence[str]) -> NDArray[np.float64]:
    """Return (rows, columns), NaN for empty cells. Raises ConfigError for the first that is no number."""
    mark = decimal_mark(whole.rest)
    values = np.empty((len(whole.rest), len(known)))
    for index, column in enumerate(known):
        cells = whole.rest.columns[whole.rest.header.index(column)]
        values[:, index], unit = read_numbers(cells, mark)
        wrong = np.isinf(values[:, index])
        if wrong.any():
            row = int(wrong.argmax())
            what = f"no number in {unit}, as those above are" if unit else "not a finite number"
            whole.refuse(whole.rest, row, column, f"{str(cells[row])!r} is {what}; fix it")
    return values

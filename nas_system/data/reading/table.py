"""CSV text as a table of text: delimiter, header, comments, and the line on which each row stands."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from nas_system.data.reading.kinds import Text
from nas_system.data.reading.spellings import TextColumn
from nas_system.errors import ConfigError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
COMMENT = "#"
FIRST_ROWS = 20
"""Rows that show the delimiter."""
ROWS_AT_A_TIME = 1_000
"""As Python strings they fit into a processor's cache."""
SHORTEST_SERIES = 3
"""Rows from which a step can be found."""
COLUMNS_SHOWN = 20
"""Names in a message."""
LONGEST_NAME = 100
"""Characters of the name of a series in a message."""

Record = tuple[int, list[str]]
"""The line on which a row begins, from 1, and its cells."""


@dataclass(frozen=True, eq=False)
class Table:
    """The cells of a file as text, a column at a time, all rows of one width."""

    name: str
    text: Text
    delimiter: str
    header: tuple[str, ...]
    columns: tuple[TextColumn, ...]
    rows: NDArray[np.int64] | None = None
    """Which rows of the file these are, from 0; None for all of them in their order."""
    series: str = ""
    """Which of several series of the file this is; messages name it."""

    def __len__(self) -> int:
        return len(self.columns[0])

    def without(self, *places: int) -> Table:
        """Return the table without some columns."""
        kept = [place for place in range(len(self.header)) if place not in places]
        return replace(
            self,
            header=tuple(self.header[place] for place in kept),
            columns=tuple(self.columns[place] for place in kept),
        )

    def only(self, *names: str) -> Table:
        """Return the table with these columns alone."""
        return self.without(*(place for place, name in enumerate(self.header) if name not in names))

    def take(self, rows: NDArray[np.int64], series: str = "") -> Table:
        """Return these rows, (rows,), in this order: those of one series, if it has a name."""
        places = rows if self.rows is None else self.rows[rows]
        columns = tuple(column[rows] for column in self.columns)
        return replace(self, columns=columns, rows=places, series=series)

    def place_of(self, column: str, named_by: str) -> int:
        """Return which column this is, from 0. Raises ConfigError, with who names it, for a missing one."""
        if column in self.header:
            return self.header.index(column)
        close = difflib.get_close_matches(column, self.header, n=1, cutoff=0.5)
        more = f", ... ({len(self.header)} in all)" if len(self.header) > COLUMNS_SHOWN else ""
        known = f"(columns: {', '.join(self.header[:COLUMNS_SHOWN])}{more})"
        hint = f"; did you mean {close[0]!r}? {known}" if close else f" {known}"
        self.refuse_header(f"there is no column {column!r}, which {named_by} names{hint}")

    def place(self, row: int) -> str:
        """Return where a row stands in the file: `line 7`. A line break in a cell makes it another one."""
        return f"{self.text.place} {self.line(row)}"

    def line(self, row: int) -> int:
        """Return the line of a row, from 1. Reads the text again: it is asked for in a message only."""
        row = row if self.rows is None else int(self.rows[row])
        header, *_ = _records(self.text.content, self.delimiter)
        lines = _Lines(self.text.content, self.delimiter)
        rows = (line for line, cells in lines if line != header and _is_row(cells))
        return next(islice(rows, row, None))

    def refuse_header(self, problem: str) -> NoReturn:
        """Raise ConfigError that names the file and the line of the header."""
        line, *_ = _records(self.text.content, self.delimiter)
        raise ConfigError(f"{self.name}, {self.text.place} {line}: {problem}")

    def refuse(self, row: int | None, column: str | None, problem: str) -> NoReturn:
        """Raise ConfigError that names the file, the line of the row, the series, and the column."""
        line = "" if row is None else f", {self.place(row)}"
        series = f", {shown_series(self.series)}" if self.series else ""
        where = "" if column is None else f", column {column!r}"
        raise ConfigError(f"{self.name}{line}{series}{where}: {problem}")


def shown_series(name: str) -> str:
    """Return how a message names a series: `series 'B'`."""
    return f"series {name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + '...'!r}"


def parse_table(text: Text, name: str, least: int = SHORTEST_SERIES) -> Table:
    """Cut the text of a file into a table of at least `least` rows.

    Blank lines and those that begin with `#` are no rows; a column without a name and values is none.
    Raises ConfigError for a header that names no two columns or one twice, and for rows of another width.
    """
    try:
        delimiter = _delimiter_of(text.content)
        line, header, records = _records(text.content, delimiter)
        place = f"{name}, {text.place} {line}"
        _check_width(header, place)
        most = 1 + max(text.content.count(end) for end in (b"\n", b"\r"))
        columns = _columns(records, len(header), most)
        if columns is None:
            _refuse_ragged(text, delimiter, line, len(header), name)
    except csv.Error as error:
        raise ConfigError(f"{name}: not a CSV file ({error})") from None
    nameless = [index for index, column in enumerate(header) if not column and not any(columns[index])]
    table = Table(name, text, delimiter, tuple(header), columns).without(*nameless)
    _check_names(table.header, place)
    if len(table) < least:
        raise ConfigError(f"{name}: {len(table)} rows are too few for a series")
    return table


def _records(content: bytes, delimiter: str) -> tuple[int, list[str], Iterator[list[str]]]:
    """Return the line and the names of the header, and what is below it.

    A header may be a comment itself: the last one above rows of as many cells, the first of which has digits.
    """
    lines = _Lines(content, delimiter)
    comment: Record = (1, [])
    line, cells = next(lines, (1, []))
    while cells and not _is_row(cells):
        comment, (line, cells) = (line, cells), next(lines, (1, []))
    records: Iterator[list[str]] = lines.reader
    if len(comment[1]) == len(cells) > 1 and cells[0][:1].isdigit():
        records, line = chain([cells], records), comment[0]
        cells = [comment[1][0].lstrip(COMMENT), *comment[1][1:]]
    return line, [cell.strip() for cell in cells], records


class _Lines:
    """The records of a text that are not blank, with their lines; `reader` goes on without those."""

    def __init__(self, content: bytes, delimiter: str) -> None:
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
        self.reader = csv.reader(text, delimiter=delimiter)

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        while True:
            line = self.reader.line_num + 1
            if any(cells := next(self.reader)):
                return line, cells


def _is_row(cells: Sequence[str]) -> bool:
    return bool(cells) and (cells[0][:1] != COMMENT if cells[0] else any(cells))


def _delimiter_of(content: bytes) -> str:
    """Return the first delimiter that cuts the header and the first rows into equally many cells.

    Where none does, the one that cuts the header into most: its error names the row that is wrong.
    """
    most, widest = ",", 1
    for delimiter in DELIMITERS:
        _, header, records = _records(content, delimiter)
        first = list(islice(filter(_is_row, records), FIRST_ROWS))
        widths = {len(header), *map(len, first)}
        others = set(DELIMITERS) - {delimiter}
        if len(widths) == 1 and len(header) > 1 and not (first and others.intersection(first[0][0])):
            return delimiter
        if len(header) > widest:
            most, widest = delimiter, len(header)
    return most


def _check_width(header: Sequence[str], place: str) -> None:
    if len(header) < 2:
        spaces = bool(header) and len(header[0].split()) > 1
        hint = "separate with commas, not spaces" if spaces else "expected a time stamp and numbers"
        raise ConfigError(f"{place}: fewer than two columns; {hint}")


def _check_names(header: Sequence[str], place: str) -> None:
    _check_width(header, place)
    for index, column in enumerate(header):
        if not column and index > 0:
            raise ConfigError(f"{place}: column {index + 1} has no name")
        if column in header[:index]:
            raise ConfigError(f"{place}: two columns are named {column!r}")


def _columns(records: Iterator[list[str]], width: int, most: int) -> tuple[TextColumn, ...] | None:
    """Read up to `most` rows, some at a time: as Python strings they would fill the memory.

    None where a row has another width.
    """
    columns = [np.empty(most, dtype=np.dtypes.StringDType()) for _ in range(width)]
    end = 0
    while some := list(islice(records, ROWS_AT_A_TIME)):
        cut = _cut(some)
        if cut is None or not _all_values(cut):  # blank lines and comments are rare
            some = list(filter(_is_row, some))
            cut = _cut(some)
        if cut is None or len(cut) not in (0, width):
            return None
        start, end = end, end + len(some)
        for column, cells in zip(columns, cut, strict=False):
            column[start:end] = cells
    return tuple(column[:end] for column in columns)


def _all_values(cut: list[tuple[str, ...]]) -> bool:
    return bool(cut) and all(cut[0]) and not any(cell[0] == COMMENT for cell in cut[0])


def _cut(rows: list[list[str]]) -> list[tuple[str, ...]] | None:
    """Turn rows into columns; None where they are not of one width."""
    try:
        return list(zip(*rows, strict=True))
    except ValueError:
        return None


def _refuse_ragged(text: Text, delimiter: str, header_line: int, width: int, name: str) -> NoReturn:
    line, cells = next(
        (line, cells)
        for line, cells in _Lines(text.content, delimiter)
        if line > header_line and _is_row(cells) and len(cells) != width
    )
    problem = f"{len(cells)} values, but the header names {width} columns"
    raise ConfigError(f"{name}, {text.place} {line}: {problem}")

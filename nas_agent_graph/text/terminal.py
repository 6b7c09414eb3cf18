"""What people read in a terminal: styled lines, tables that fit its width, durations, sparklines."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TextIO

from nas_system.files import finite
from nas_system.nas_agent.log_text import one_line

PLAIN_WIDTH = 80
"""Columns where there is no terminal to ask (COLUMNS overrules it)."""
_NARROWEST = 40
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Line:
    """One line of output; the style is rich's and shows only in a terminal with colours."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Column:
    """One column of a table. A column without `least` is never cut; one without `drop` never left out."""

    header: str
    cells: Sequence[str]
    align: Literal["<", ">"] = "<"
    least: int | None = None
    """May be cut down to this width."""
    drop: int = 0
    """In a narrow terminal columns are left out from the highest number on."""
    over: str = ""
    """A second header above the first, which may reach over the columns to its left."""
    gap: int = 2

    @property
    def natural(self) -> int:
        return max(map(len, (self.header, *self.cells)))


def table(columns: Sequence[Column], styles: Sequence[str], width: int) -> list[Line]:
    """Aligned lines, header first, none wider than `width`; `styles` has one entry per row of cells."""
    columns, widths = _fit(columns, width)

    def joined(cells: Iterable[str]) -> str:
        text = ""
        for index, (cell, column, room) in enumerate(zip(cells, columns, widths, strict=True)):
            text += " " * (column.gap if index else 0) + f"{cut(cell, room):{column.align}{room}}"
        return text.rstrip()

    lines = []
    if any(column.over for column in columns):
        over = ""
        for index, column in enumerate(columns):
            end = sum(widths[: index + 1]) + sum(c.gap for c in columns[1 : index + 1])
            over = over.ljust(end - len(column.over)) + column.over if column.over else over
        lines.append(Line(over[:width], "dim"))
    lines.append(Line(joined(column.header for column in columns), "bold"))
    rows = zip(*(column.cells for column in columns), strict=True)
    return lines + [Line(joined(row), style) for row, style in zip(rows, styles, strict=True)]


def _fit(columns: Sequence[Column], width: int) -> tuple[list[Column], list[int]]:
    """The columns that are shown and their widths."""
    kept = list(columns)
    while True:
        widths = [column.natural for column in kept]
        excess = sum(widths) + sum(column.gap for column in kept[1:]) - width
        for index in reversed(range(len(kept))):
            least = kept[index].least
            if excess > 0 and least is not None and widths[index] > least:
                cutting = min(excess, widths[index] - least)
                widths[index] -= cutting
                excess -= cutting
        droppable = [column for column in kept if column.drop]
        if excess <= 0 or not droppable:
            return kept, widths
        kept.remove(max(droppable, key=lambda column: column.drop))


def cut(text: str, width: int) -> str:
    """`text` in at most `width` characters; the ellipsis says that there was more."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def wrapped(text: str, width: int, *, style: str = "", indent: int = 0) -> list[Line]:
    """A paragraph; lines after the first are indented."""
    # An option such as --max-runs is one word.
    lines = textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)
    return [Line(line, style) for line in lines]


def printable(text: Any, limit: int = 300) -> str:
    """Text of any origin as one harmless line: no control character, no direction override."""
    return one_line(str(text), limit)


def format_changes(changes: Any, limit: int = 300) -> str:
    """`d_model=64, lr=0.0005`; takes proposal records as they stand on disk, whatever is in them."""
    words = []
    for change in changes if isinstance(changes, list | tuple) else ():
        if isinstance(change, dict) and "parameter" in change:
            name = str(change["parameter"]).rpartition(".")[2]
            words.append(f"{name}={format_value(change.get('value'))}")
    return printable(", ".join(words), limit)


def format_value(value: Any) -> str:
    """A parameter's value, with no more digits than anybody reads."""
    return f"{value:.4g}" if isinstance(value, float) else printable(value, 60)


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3.5 min`, `2.1 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def dollars(amount: float) -> str:
    """`$0.0042`, `$1.20`."""
    return f"${amount:.4f}" if amount < 0.1 else f"${amount:,.2f}"


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """The values as blocks, low to high; what is not a finite number is a gap.

    More values than `width` are thinned to the lowest of every group, so that no minimum gets lost.
    """
    if len(values) > width:
        borders = [index * len(values) // width for index in range(width + 1)]
        groups = [map(finite, values[a:b]) for a, b in pairwise(borders)]
        values = [min((v for v in group if v is not None), default=None) for group in groups]
    numbers = [finite(value) for value in values]
    known = [number for number in numbers if number is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    top = len(_BLOCKS) - 1
    return "".join(
        " " if number is None else _BLOCKS[round((number - low) / span * top) if span > 0 else 0]
        for number in numbers
    )


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody is looking, with a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int:
    """Columns of the terminal behind `stream`; 80 where there is none."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # a file, a pipe, or no descriptor at all
        columns = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns
    return max(columns, _NARROWEST) if columns else PLAIN_WIDTH


def write_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Print with colours into a terminal (NO_COLOR turns them off), as bare text elsewhere."""
    if not is_terminal(stream):
        stream.write("".join(f"{line.text}\n" for line in lines))
        stream.flush()
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream)
    for line in lines:
        # A Text is never read as markup, so a "[red]" in somebody's words stays what it is.
        console.print(Text(line.text, style=line.style), soft_wrap=True)

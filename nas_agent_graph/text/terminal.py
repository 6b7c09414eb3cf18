"""Text for a terminal: styled lines, tables that fit its width, durations, sparklines."""

from __future__ import annotations

import io
import os
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TextIO

from nas_system.files import finite
from nas_system.nas_agent.log_text import one_line
from nas_system.space.score import Direction

PLAIN_WIDTH = 80
"""Columns where there is no terminal to ask (COLUMNS overrules it)."""
_NARROWEST = 40
COLUMN_GAP = 2
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Line:
    """One line of output; the style is rich's and shows only in a terminal with colours."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Column:
    """One column of a table; a column without `least` is never cut, one without `drop` never left out."""

    header: str
    cells: Sequence[str]
    justify: Literal["left", "right"] = "left"
    least: int | None = None
    """May be cut down to about this width."""
    drop: int = 0
    """In a narrow terminal columns are left out from the highest number on."""

    @property
    def natural(self) -> int:
        from rich.cells import cell_len

        return max(map(cell_len, (self.header, *self.cells)))

    @property
    def narrowest(self) -> int:
        return self.natural if self.least is None else min(self.natural, self.least)


def table(columns: Sequence[Column], styles: Sequence[str], width: int) -> list[Line]:
    """Return aligned lines, header first, none wider than `width`; `styles` has one entry per row.

    Columns are dropped first, then cut, the rightmost first.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    kept = list(columns)
    while any(c.drop for c in kept) and sum(c.narrowest + COLUMN_GAP for c in kept) - COLUMN_GAP > width:
        kept.remove(max(kept, key=lambda column: column.drop))
    widths = [column.natural for column in kept]
    for index, column in reversed(list(enumerate(kept))):
        excess = sum(widths) + COLUMN_GAP * (len(kept) - 1) - width
        widths[index] -= min(max(excess, 0), column.natural - column.narrowest)
    grid = Table(box=None, padding=(0, COLUMN_GAP, 0, 0), pad_edge=False)
    for column, room in zip(kept, widths, strict=True):
        grid.add_column(Text(column.header), justify=column.justify, no_wrap=True, width=room)
    for cells in zip(*(column.cells for column in kept), strict=True):
        grid.add_row(*map(Text, cells))  # a Text is never read as markup
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(grid)
    texts = capture.get().splitlines()
    return [Line(text.rstrip(), style) for text, style in zip(texts, ("bold", *styles), strict=True)]


def wrapped(text: str, width: int, *, style: str = "", indent: int = 0) -> list[Line]:
    """Wrap a paragraph; lines after the first are indented."""
    # An option such as --max-runs is one word.
    lines = textwrap.wrap(text, width, subsequent_indent=" " * indent, break_on_hyphens=False)
    return [Line(line, style) for line in lines]


def printable(text: Any, limit: int = 300) -> str:
    """Return text of any origin as one harmless line: no control character, no direction override."""
    return one_line(str(text), limit)


def format_changes(changes: Any, limit: int = 300) -> str:
    """Return `d_model=64, lr=0.0005`; takes proposal records as they are on disk, valid or not."""
    parts = []
    for change in changes if isinstance(changes, list | tuple) else ():
        if isinstance(change, dict) and "parameter" in change:
            name = str(change["parameter"]).rpartition(".")[2]
            parts.append(f"{name}={format_value(change.get('value'))}")
    return printable(", ".join(parts), limit)


def format_value(value: Any) -> str:
    """Return a parameter's value with at most four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else printable(value, 60)


def duration(seconds: float) -> str:
    """Format seconds: `0.4 s`, `12 s`, `3.5 min`, `2.1 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def dollars(amount: float) -> str:
    """Format US dollars: `$0.0042`, `$1.20`."""
    return f"${amount:.4f}" if amount < 0.1 else f"${amount:,.2f}"


def sparkline(values: Sequence[float | None], width: int = 40, direction: Direction = "minimize") -> str:
    """Draw the values as blocks, low to high; what is not a finite number is a gap.

    More values than `width` are thinned to the best of every group, so that the best is never lost.
    """
    if len(values) > width:
        borders = [index * len(values) // width for index in range(width + 1)]
        groups = [map(finite, values[a:b]) for a, b in pairwise(borders)]
        best = min if direction == "minimize" else max
        values = [best((v for v in group if v is not None), default=None) for group in groups]
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
    """Return whether the stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int:
    """Return the columns of the terminal behind `stream`; 80 where there is none."""
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
        # A Text is never read as markup, so a "[red]" in untrusted text stays what it is.
        console.print(Text(line.text, style=line.style), soft_wrap=True)

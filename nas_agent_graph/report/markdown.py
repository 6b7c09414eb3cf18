"""Text of any origin (names of columns, files of a search) as Markdown that shows it and does no more."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nas_agent_graph.text.terminal import printable

_SPECIAL = re.compile(r"[\\`*\[\]<>|~#&!$]|(?<![^\W_])_|_(?![^\W_])")
_LIST_MARK = re.compile(r"^(?=[-+=])|^(\d+)(?=[.)](?:\s|$))")


def prose(text: object, limit: int = 600) -> str:
    """Return one line of plain text."""
    escaped = _SPECIAL.sub(lambda match: f"\\{match[0]}", printable(text, limit))
    return _LIST_MARK.sub(lambda match: f"{match[1]}\\" if match[1] else "\\", escaped)


def code(text: object, limit: int = 60) -> str:
    """Return a name as a code span; its back-quotes become apostrophes, since no span can hold any number."""
    shown = printable(text, limit).replace("`", "'")
    return f"`{shown}`" if shown else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Return the lines of a table, the columns behind the first `texts` to the right; nothing without rows.

    Cells are Markdown. A bar in one is escaped, which a table undoes also inside a code span.
    """
    if not rows:
        return []
    lines = [header, [*["---"] * texts, *["---:"] * (len(header) - texts)], *rows]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)

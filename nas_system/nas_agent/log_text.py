"""The training's output as plain text, safe to show to people and language models."""

from __future__ import annotations

import re
from pathlib import Path

from nas_system.files import open_regular_file
from nas_system.processes.run_files import RunPaths

_TAIL_BYTES = 64 * 1024
_LINE_CHARACTERS = 400

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS and the like: titles, links
    r"|\x1b[ -/]*[0-~]"  # the two-character ones
)


def log_tail(run_dir: Path, lines: int = 20) -> str:
    """Return the last lines of the training's output, without control characters and with long lines cut."""
    try:
        with open_regular_file(RunPaths(run_dir).log) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return ""
    printed = [_plain(line) for line in text.split("\n")]
    return "\n".join([line for line in printed if line][-lines:])


def one_line(text: str, limit: int) -> str:
    """Return text of any origin as one printable line of at most `limit` characters."""
    plain = " ".join(" ".join(_plain(line) for line in text.splitlines()).split())
    return plain if len(plain) <= limit else plain[: limit - 4] + " ..."


def _plain(line: str) -> str:
    """Return one line as a terminal would show it: of a progress bar (carriage returns), the last state."""
    states = [state for state in _ESCAPE_SEQUENCE.sub("", line).split("\r") if state.strip()]
    state = states[-1] if states else ""
    text = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in state).rstrip()
    if len(text) > _LINE_CHARACTERS:
        text = f"{text[: _LINE_CHARACTERS - 105]} ... {text[-100:]}"
    return text

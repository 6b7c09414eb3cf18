"""notes.md: what a person wishes of a search, in the words that the language model reads."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nas_system.errors import ConfigError, advice_on_limit
from nas_system.files import append_durably, is_disk_full, read_bounded

NOTES_FILE = "notes.md"
"""In the folder of the search."""
SHOWN_CHARACTERS = 4000
"""Of the notes, that the model reads: the newest, which are those at the end."""
LARGEST_NOTES_BYTES = 2**20
"""A larger file is none that a person wrote."""
NO_TEXT = "is not UTF-8 text"
LONGEST_LINE = 300
"""A longer line is read as several."""


class Notes(NamedTuple):
    """What notes.md holds; nothing where there is none."""

    text: str = ""
    """At most SHOWN_CHARACTERS, whole lines from the end."""
    left_out: int = 0
    """Lines before them that the model does not read."""
    problem: str | None = None
    """Why the file is not read."""


def read_notes(workspace: Path) -> Notes:
    """Read the notes, a line for each wish. Raises OSError where this process may open no file."""
    try:
        content = read_bounded(workspace / NOTES_FILE, LARGEST_NOTES_BYTES).decode("utf-8")
    except FileNotFoundError:
        return Notes()
    except UnicodeDecodeError:
        return Notes(problem=NO_TEXT)
    except ValueError as error:
        return Notes(problem=str(error))
    except OSError as error:
        if advice_on_limit(error.errno):
            raise
        return Notes(problem=f"cannot be read ({error.strerror})")
    lines = _lines_of(content)
    kept: list[str] = []
    room = SHOWN_CHARACTERS
    for line in reversed(lines):
        if len(line) + 1 > room:
            break
        kept.insert(0, line)
        room -= len(line) + 1
    return Notes("\n".join(kept), len(lines) - len(kept))


def _lines_of(text: str) -> list[str]:
    """Return the lines that hold something, printable and none longer than LONGEST_LINE."""
    plain = ["".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines()]
    return [part for line in plain for part in textwrap.wrap(line, LONGEST_LINE)]


class NotesReader:
    """Reads the notes for every proposal, and says once what is wrong with them."""

    def __init__(self) -> None:
        self._said: str | None = None

    def read(self, workspace: Path, say: Callable[[str], None]) -> str:
        """Return the text that the model reads; `say` is called about one that is not, or not whole."""
        notes = read_notes(workspace)
        problem = notes.problem and f"{notes.problem} and is not read"
        if problem is None and notes.left_out:
            problem = f"is longer than {SHOWN_CHARACTERS:,} characters: the model reads its last lines"
        if problem is not None and problem != self._said:
            say(f"{workspace / NOTES_FILE} {problem}")
        self._said = problem
        return notes.text


def append_note(path: Path, words: str) -> None:
    """Add the note at the end. Raises ConfigError for one that the model would not read, or no file."""
    lines = _lines_of(words)
    text = "\n".join(lines)
    if not text or len(text) >= SHOWN_CHARACTERS:
        most = f"has {len(text):,} characters; the model reads fewer than {SHOWN_CHARACTERS:,} of all notes"
        raise ConfigError(f"the note {most if text else 'holds no readable text'}")
    try:
        before = _readable(path)
        added = (b"" if before[-1:] in (b"", b"\n") else b"\n") + text.encode() + b"\n"
        if len(before) + len(added) > LARGEST_NOTES_BYTES:
            raise ValueError("is full")
        append_durably(path, added)
    except ValueError as error:
        raise ConfigError(f"{path} {error}; move it away, then the note can be kept there") from None
    except OSError as error:
        if is_disk_full(error) or advice_on_limit(error.errno):
            raise
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from None


def _readable(path: Path) -> bytes:
    """Return what the file holds, nothing if there is none. Raises ValueError for what is not read."""
    try:
        content = read_bounded(path, LARGEST_NOTES_BYTES)
        content.decode("utf-8")
    except FileNotFoundError:
        return b""
    except UnicodeDecodeError:
        raise ValueError(NO_TEXT) from None
    return content

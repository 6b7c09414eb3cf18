"""`nas note`: tell the language model a wish, or print what it has been told."""

from __future__ import annotations

import argparse
from pathlib import Path

from nas_agent_graph.show.pages import read_state
from nas_agent_graph.text.notes import NOTES_FILE, append_note, read_notes
from nas_system.errors import ConfigError
from nas_system.nas_agent.log_text import one_line


def note(arguments: argparse.Namespace) -> None:
    """Add a note for the language model, or print those that there are. Raises ConfigError or StateError.

    Takes no lock on the workspace: it may be called while a search runs.
    """
    workspace = arguments.workspace.absolute()
    read_state(workspace)
    words = " ".join(arguments.words)
    if not words.strip():
        _print(workspace)
        return
    append_note(workspace / NOTES_FILE, words)
    place = one_line(str(workspace / NOTES_FILE), 300)
    print(f"noted in {place}; the language model reads it with the next proposal")


def _print(workspace: Path) -> None:
    notes = read_notes(workspace)
    if notes.problem is not None:
        raise ConfigError(f"{workspace / NOTES_FILE} {notes.problem} and is not read")
    if notes.left_out:
        print(f"({notes.left_out} earlier lines of {NOTES_FILE} are too much for the model and not shown)")
    print(notes.text or 'no notes yet; add one with `nas note "try longer look-backs"`')

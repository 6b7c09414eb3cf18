"""How a replay leaves its recording: drifted, out of answers, restarted, or at its end."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from nas_system.errors import NasError


class Drift(NasError):
    """The search differs from the recording; `diff` shows how."""

    exit_code = 1

    def __init__(self, where: str, problem: str, diff: Sequence[str] = ()) -> None:
        super().__init__(f"drift at {where}: {problem}")
        self.diff = tuple(diff)


class AnswerMissing(NasError):
    """The search asks for what the recording does not hold."""

    exit_code = 3


class SearchRestarted(NasError):
    """Here the recorded search was ended (crash, stop, pause) and started again, at this attempt."""

    def __init__(self, run_id: str, attempt: int | None) -> None:
        super().__init__(f"{run_id}: the recorded search was started again here")
        self.run_id, self.attempt = run_id, attempt


class RecordingEnds(NasError):
    """Here the recorded search was when its folder was copied."""


def place(run_id: str, node: str, attempt: int) -> str:
    """Return the key of an answer, for people."""
    return f"{run_id}, node {node}, attempt {attempt}"


def diff_of_messages(recorded: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a unified diff of two conversations, one line of text a line."""
    return _diff(_lines_of(recorded), _lines_of(asked))


def diff_of_values(recorded: Any, replayed: Any) -> list[str]:
    """Return a unified diff of two JSON values."""
    before, after = (json.dumps(value, indent=1, sort_keys=True) for value in (recorded, replayed))
    return _diff(before.split("\n"), after.split("\n"))


def _lines_of(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for message in messages:
        lines += [f"[{message.get('role')}]", *str(message.get("content")).split("\n")]
    return lines


def _diff(before: list[str], after: list[str]) -> list[str]:
    return list(difflib.unified_diff(before, after, "recorded", "replayed", lineterm="", n=2))

"""How one server wants to be asked, learnt from its refusals: each costs no tokens, and is met once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nas_agent_graph.llm.answer import Message
from nas_agent_graph.settings import DEFAULT_MAX_TOKENS

LIMITS = ("max_tokens", "max_completion_tokens")
_FEWEST = 256
"""Tokens of an answer that a limit taken from a refusal must leave."""
_LONGEST_REFUSAL = 4000
"""Characters that are read of one."""
_REFUSALS = (400, 402, 404, 413, 422, 500, 501)
_ABOUT_LENGTH = re.compile(
    r"max_(completion_|new_|output_)?tokens|(completion|output) tokens|in the completion|max tokens"
)
_ABOUT_SYSTEM = re.compile(
    r"system'? (role|message|prompt|instruction)|role[^.]{0,40}\bsystem\b|developer instruction"
    r"|\bsystem\b[^.]{0,30}not (supported|allowed)|roles must alternate|only[^.]{0,30}user and assistant"
)
_ABOUT_STREAM = re.compile(
    r"stream\W{0,3}(parameter )?(must|should|has to|needs to|to be|=\s*true)|only[^.]{0,30}stream"
    r"|(enable|set|use|requires?)[^.]{0,30}stream|non-?stream[^.]{0,40}(not|un)"
)
_STATUS = re.compile(r"(code|status)\W{0,4}\d+")
_NUMBER = re.compile(r"(?<![\d.])\d{3,6}(?![\d.]*\d)")
_THINKING = "enable_thinking"
SHORTEST_KEPT = 4_000
"""Characters of a prefix that a server keeps; of about 1,024 tokens, Anthropic's least, or more."""


@dataclass(frozen=True)
class Dialect:
    """What a request says besides its messages, its model and the answer format."""

    max_tokens: int | None = DEFAULT_MAX_TOKENS
    """None leaves the length of an answer to the server."""
    limit: str = LIMITS[0]
    """The name that the server has for it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """NAS_LLM_EXTRA_BODY; it wins over what is learnt."""
    has_system_role: bool = True
    streams: bool = False
    counts_streams: bool = True
    """Whether a stream may be asked for its token counts."""
    thinks: bool = True
    """False sends `enable_thinking: false`."""
    marks_prefix: bool = False
    """Whether the server keeps only what it is asked to keep, as Anthropic's."""

    def fields(self) -> dict[str, Any]:
        """Return what is added to a request's body."""
        asked: dict[str, Any] = {}
        if self.max_tokens is not None and not any(name in self.extra for name in LIMITS):
            asked[self.limit] = self.max_tokens
        if self.streams:
            asked["stream"] = True
            if self.counts_streams:
                asked["stream_options"] = {"include_usage": True}
        if not self.thinks:
            asked[_THINKING] = False
        return asked | dict(self.extra)

    def spoken(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return the messages as they are sent: without a system role, its text begins the user's; what never
        changes is marked where it must be, if it is long enough to be kept."""
        plain: list[dict[str, Any]] = [
            {"role": str(message["role"]), "content": message["content"]} for message in messages
        ]
        if self.has_system_role:
            return [self._marked(message) for message in plain] if self.marks_prefix else plain
        system = [message["content"] for message in plain if message["role"] == "system"]
        rest = [message for message in plain if message["role"] != "system"]
        if system and rest and rest[0]["role"] == "user":
            rest[0] = {"role": "user", "content": "\n\n".join([*system, rest[0]["content"]])}
        elif system:
            rest.insert(0, {"role": "user", "content": "\n\n".join(system)})
        return rest

    @staticmethod
    def _marked(message: dict[str, Any]) -> dict[str, Any]:
        text = message["content"]
        if message["role"] != "system" or len(text) < SHORTEST_KEPT:
            return message
        return {
            **message,
            "content": [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}],
        }

    def after(self, status: int | None, param: object, message: str) -> Dialect | None:
        """Return how to ask after a refusal; None if it is about something else or nothing is left to do."""
        if status not in _REFUSALS:
            return None
        said = f"{param or ''} {message}"[:_LONGEST_REFUSAL].lower()
        for changed in (
            self._without_thinking(said),
            self._with_another_limit(said),
            self._without_counts(said),
            self._as_stream(said),
            self._without_system_role(said),
        ):
            if changed is not None:
                return changed
        return None

    def plainest(self) -> Dialect | None:
        """Return the way to ask that needs least, for a server that does not say what is wrong; None if this
        is it."""
        plain = replace(self, max_tokens=None)
        return None if plain == self or self.fields() == plain.fields() else plain

    def habits(self) -> tuple[str, ...]:
        """Return what was learnt about the server, one remark each."""
        learnt = {
            "has no system role": not self.has_system_role,
            "answers only as a stream": self.streams,
            "answers only with enable_thinking false": not self.thinks,
            f"wants the limit of an answer as {self.limit}": self.limit != LIMITS[0],
        }
        return tuple(habit for habit, is_so in learnt.items() if is_so)

    def _without_thinking(self, said: str) -> Dialect | None:
        wanted = _THINKING in said and "false" in said
        return replace(self, thinks=False) if wanted and self.thinks and _THINKING not in self.extra else None

    def _with_another_limit(self, said: str) -> Dialect | None:
        """Rename the limit, lower it to what the refusal names, or leave it out."""
        if self.max_tokens is None or not _ABOUT_LENGTH.search(said) or self.fields().get(self.limit) is None:
            return None
        if self.limit == "max_tokens" and "max_completion_tokens" in said and "max_tokens" in said:
            return replace(self, limit="max_completion_tokens")
        lower = [
            int(number)
            for number in _NUMBER.findall(_STATUS.sub("", said.replace(",", "")))
            if _FEWEST <= int(number) < self.max_tokens
        ]
        return replace(self, max_tokens=max(lower, default=None))

    def _without_counts(self, said: str) -> Dialect | None:
        refused = self.streams and self.counts_streams and "stream_options" in said
        return replace(self, counts_streams=False) if refused else None

    def _as_stream(self, said: str) -> Dialect | None:
        wanted = _ABOUT_STREAM.search(said) and not self.streams and "stream" not in self.extra
        return replace(self, streams=True) if wanted else None

    def _without_system_role(self, said: str) -> Dialect | None:
        refused = self.has_system_role and _ABOUT_SYSTEM.search(said)
        return replace(self, has_system_role=False) if refused else None

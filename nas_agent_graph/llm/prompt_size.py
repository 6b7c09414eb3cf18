"""Estimates a prompt's tokens, detects whether the server read all of them, and whether they are too many.

Some servers silently truncate a prompt that is longer than their context window; the number of
prompt tokens that they report reveals it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nas_agent_graph.llm.answer import Message

_PIECES = re.compile(r"(?P<word>[^\W\d_]+)|(?P<digits>\d+)|(?P<marks>[^\w\s]+|_+)|(?P<lines>\n+)")
_LENGTHS = {"word": 8, "digits": 3, "marks": 3, "lines": 8}
"""Characters that one token of a generous vocabulary may hold."""
_MUCH_LESS = 0.7
_USUAL_WINDOWS = (2048, 4096, 8192, 16384)
_NEARLY = 0.85
LEAST_CACHED = 1024
"""Tokens below which no service in use caches a prompt."""
MOST_UNCACHED = 3
"""Long prompts in a row, after a first one, of which a service that counts has cached nothing."""


def estimate_tokens(text: str) -> int:
    """Return a lower estimate: every known tokenizer needs about as many tokens or more."""
    tokens = 0
    for piece in _PIECES.finditer(text):
        length = _LENGTHS[piece.lastgroup or "word"]
        tokens += -(-len(piece.group()) // length)
    return tokens


def prompt_tokens(messages: Sequence[Message]) -> int:
    """Return the estimate for a whole prompt."""
    return sum(estimate_tokens(message["content"]) for message in messages)


def cut_short(estimate: int, reported: int) -> str | None:
    """Return a warning if the server evidently read less than it was sent. 0 reported means not known."""
    if reported <= 0:
        return None
    # A count of exactly a usual window, where about as many or more were sent, is no coincidence.
    fills_window = reported in _USUAL_WINDOWS and estimate > _NEARLY * reported
    if reported >= _MUCH_LESS * estimate and not fills_window:
        return None
    return (
        f"the server read {reported} prompt tokens of about {estimate} or more: it cuts prompts to its "
        "context window silently, so the model does not see all of the search. Enlarge the window "
        "(Ollama: OLLAMA_CONTEXT_LENGTH=16384, or num_ctx in the Modelfile)"
    )


class PromptForm:
    """Whether prompts are compact: as a person says, else as the server's answers demand.

    The whole space in every prompt is worth its tokens where the server keeps it from one to the next, and
    reads it. Once it shows that it does not, prompts stay compact.
    """

    def __init__(self, wanted: bool | None = None) -> None:
        """`wanted` is what a person says; None leaves it to the server."""
        self.compact = wanted is True
        self._is_open = wanted is None
        self._uncached = 0
        """Long prompts in a row of which nothing was cached."""

    def read(self, sent: int, cached: int | None, *, cut_short: bool = False) -> str | None:
        """Learn from an answer; return what a person should know if prompts are compact from now on.

        `sent` is how many tokens the prompt had; `cached` is None where the server does not count them.
        """
        if cut_short:
            return self._make_compact("the server cuts prompts short")
        if cached is not None and sent >= LEAST_CACHED:
            self._uncached = 0 if cached else self._uncached + 1
        if self._uncached > MOST_UNCACHED:
            return self._make_compact(f"the service has cached nothing of the last {self._uncached} prompts")
        return None

    def refused_as_too_long(self) -> str | None:
        """Learn that a prompt does not fit into the context window. Returns as `read` does."""
        return self._make_compact("the prompt does not fit into the model's context window")

    def _make_compact(self, why: str) -> str | None:
        if not self._is_open:
            return None
        self.compact, self._is_open = True, False
        return (
            f"{why}: from now on prompts spell out only the families that still matter "
            "(NAS_LLM_COMPACT_PROMPT=0: all of them, always)"
        )

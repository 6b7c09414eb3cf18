"""Estimates a prompt's tokens, and detects whether the server read all of them.

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
        "(Ollama: OLLAMA_CONTEXT_LENGTH=16384, or num_ctx in the Modelfile), or set NAS_LLM_COMPACT_PROMPT=1"
    )

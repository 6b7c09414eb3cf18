"""How many tokens a prompt has, roughly, and whether the server read all of it.

Some servers cut a prompt that is longer than their context window and say nothing; what gives
them away is the number of prompt tokens they report.
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
    """A count that is rather too low: every tokenizer we know of needs about as many or more."""
    tokens = 0
    for piece in _PIECES.finditer(text):
        length = _LENGTHS[piece.lastgroup or "word"]
        tokens += -(-len(piece.group()) // length)
    return tokens


def prompt_tokens(messages: Sequence[Message]) -> int:
    """The estimate for a whole prompt."""
    return sum(estimate_tokens(message["content"]) for message in messages)


def cut_short(estimate: int, reported: int) -> str | None:
    """A warning if the server has evidently read less than it was sent. 0 reported means not known."""
    if reported <= 0:
        return None
    # A count that is exactly a window, where about as many or more were sent, is no accident.
    at_the_wall = reported in _USUAL_WINDOWS and estimate > _NEARLY * reported
    if reported >= _MUCH_LESS * estimate and not at_the_wall:
        return None
    return (
        f"the server read {reported} prompt tokens of about {estimate} or more: it cuts prompts to its "
        "context window without a word, so the model does not see all of the search. Enlarge the window "
        "(Ollama: OLLAMA_CONTEXT_LENGTH=16384, or num_ctx in the Modelfile)"
    )

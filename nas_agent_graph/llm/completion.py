"""A chat completion as servers really send it, and the token counts that it reports.

Nearly compatible servers name another role, leave fields out or fill them with values of other
types. The SDKs and libraries believe all of it and fail later, so what is not needed is dropped
before they read it, and counts are taken only if they can be true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 10_000_000
"""No model reads or writes more in one call."""
_MESSAGE_FIELDS = ("content", "refusal")
_ANTHROPIC_CACHES = ("cache_read_input_tokens", "cache_creation_input_tokens")


@dataclass(frozen=True)
class TokenCounts:
    """What a service reports to have counted; 0 where it reports nothing that can be true."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


def read_completion(body: bytes) -> tuple[bytes, TokenCounts]:
    """Return the body as the SDK can read it, and its counts; a body that is no JSON object is unchanged."""
    try:
        reply = json.loads(body, parse_int=float)
        if not isinstance(reply, dict):
            return body, TokenCounts()
        return json.dumps(_corrected(reply)).encode(), _counts(reply.get("usage"))
    except (ValueError, RecursionError):
        return body, TokenCounts()


def _corrected(reply: dict[str, Any]) -> dict[str, Any]:
    choices = reply.get("choices")
    if not isinstance(choices, list):
        return {**reply, "usage": None}
    return {
        # One is asked for.
        "choices": [_choice(choice) for choice in choices[:1]],
        "model": _text(reply.get("model")),
        "usage": None,
        "error": reply.get("error"),
    }


def _choice(choice: Any) -> Any:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return choice
    known = {name: message[name] for name in _MESSAGE_FIELDS if name in message}
    return {
        "index": 0,
        "finish_reason": _text(choice.get("finish_reason")),
        # It is the answer, under any name: "model", "Assistant", none at all.
        "message": {"role": "assistant", **known},
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _counts(usage: Any) -> TokenCounts:
    if not isinstance(usage, Mapping):
        return TokenCounts()
    asked = _count(usage, "prompt_tokens")
    if not asked and (asked := _count(usage, "input_tokens")):
        # Anthropic counts apart what it takes from its cache; OpenAI's count includes it.
        asked += sum(_count(usage, name) for name in _ANTHROPIC_CACHES)
    answered = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    thoughts = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    thoughts = thoughts or _count(usage.get("output_tokens_details"), "thinking_tokens")
    return TokenCounts(asked, answered, thoughts)


def _count(counts: Any, name: str) -> int:
    """Return the count of this name if it is a number that can be true, else 0. NaN is none."""
    value = counts.get(name) if isinstance(counts, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return 0
    return math.ceil(value)

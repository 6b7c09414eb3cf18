"""One request's messages and the model's raw answer with its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

BROKEN_STREAM = "broken_stream"
"""The finish reason of an answer whose stream ended without one."""


class Message(TypedDict):
    """One message in the OpenAI chat format."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Answer:
    """The model's raw answer and its cost. Plain JSON values only: transcripts keep it."""

    text: str
    finish_reason: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    latency_s: float
    reasoning_tokens: int = 0
    """Of the output tokens, those spent on reasoning."""
    cached_tokens: int = 0
    """Of the input tokens, those that the service took from its cache; 0 where it reports none."""
    tokens_estimated: bool = False
    """The service reports no counts: these are lower estimates."""
    cost_usd: float | None = None
    """None if no price is known."""
    refusal: str | None = None
    """The model's refusal in the place of an answer."""
    answer_format: str = "prompt"
    """How the format was asked for: json_schema, json_object or prompt."""
    garbled: str | None = None
    """What is wrong with the service's reply, where it is no chat completion at all."""
    warning: str | None = None
    """What the user should know about this exchange."""
    habits: str | None = None
    """What the server does differently from others."""

    def to_event(self) -> dict[str, Any]:
        """Return the answer as a transcript keeps it."""
        usage: dict[str, object] = {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }
        if self.cached_tokens:
            usage["cached_tokens"] = self.cached_tokens
        if self.tokens_estimated:
            usage["tokens_estimated"] = True
        event: dict[str, object] = {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "model": self.model,
            "usage": usage,
            "latency_s": round(self.latency_s, 3),
            "answer_format": self.answer_format,
        }
        optional = {
            "cost_usd": self.cost_usd,
            "refusal": self.refusal,
            "garbled": self.garbled,
            "warning": self.warning,
            "habits": self.habits,
        }
        return event | {name: value for name, value in optional.items() if value is not None}

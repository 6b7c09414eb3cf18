"""One question, one answer: a thin client over ChatOpenAI that keeps all that came back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from nas_agent_graph.context import SearchPaused
from nas_agent_graph.settings import LLMSettings


class Message(TypedDict):
    """One message in the OpenAI chat format."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Answer:
    """What the model said, raw, and what it cost."""

    text: str
    finish_reason: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    latency_s: float


class ChatClient:
    """Sends chat messages to any OpenAI-compatible server."""

    def __init__(self, settings: LLMSettings) -> None:
        from langchain_openai import ChatOpenAI

        self.settings = settings
        options: dict[str, Any] = {}
        if settings.temperature is not None:
            options["temperature"] = settings.temperature
        # Every option is given: ChatOpenAI would otherwise look into the environment for its own.
        self._chat = ChatOpenAI(
            model=settings.model,
            base_url=settings.base_url,
            api_key=lambda: settings.api_key,
            timeout=settings.timeout_s,
            max_retries=settings.max_retries,
            **options,
        )

    def ask(self, messages: list[Message]) -> Answer:
        """The model's answer. Raises SearchPaused, saying what to do, if the service gives none."""
        import openai

        started = time.monotonic()
        try:
            reply = self._chat.invoke([dict(message) for message in messages])
        except openai.APIError as error:
            raise SearchPaused(self._explain(error)) from None
        usage = reply.usage_metadata or {}
        return Answer(
            text=reply.text if isinstance(reply.text, str) else str(reply.content),
            finish_reason=reply.response_metadata.get("finish_reason"),
            model=reply.response_metadata.get("model_name"),
            input_tokens=usage.get("input_tokens", 0),
            output_tokens=usage.get("output_tokens", 0),
            latency_s=time.monotonic() - started,
        )

    def _explain(self, error: Any) -> str:
        import openai

        where = f"{self.settings.model} at {self.settings.endpoint}"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            advice = "the key was refused: check NAS_LLM_API_KEY"
        elif isinstance(error, openai.NotFoundError):
            advice = "no such model or address: check NAS_LLM_MODEL, and that NAS_LLM_BASE_URL ends in /v1"
        elif isinstance(error, openai.RateLimitError):
            advice = "the service's limit or quota is reached: wait, or raise it"
        elif isinstance(error, openai.APITimeoutError):
            advice = f"no answer within {self.settings.timeout_s:g} s"
        elif isinstance(error, openai.APIConnectionError):
            advice = "the server cannot be reached: check NAS_LLM_BASE_URL and that it runs"
        else:
            advice = f"the service answered with an error: {str(error)[:200]}"
        return (
            f"{where}: {advice}. The search is paused with its state kept; run the same command to continue, "
            "or add --proposer tpe to go on without the model"
        )

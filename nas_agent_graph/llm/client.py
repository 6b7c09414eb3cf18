"""A thin client over a chat model: one request, one answer, with everything the service returned."""

from __future__ import annotations

import importlib
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nas_agent_graph.context import SearchPaused
from nas_agent_graph.llm.answer import Answer, Message
from nas_agent_graph.llm.answer_formats import DEFAULT_METRIC, FORMATS, concerns_format, request_fields
from nas_agent_graph.llm.failures import ServiceFailure, failure_of, misread, pause_message
from nas_agent_graph.llm.prices import price_of
from nas_agent_graph.llm.prompt_size import cut_short, estimate_tokens, prompt_tokens
from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.settings import PROVIDERS, LLMSettings
from nas_system.errors import ConfigError, NasError

__all__ = ["Answer", "ChatClient", "FormatRefused", "Message", "ServiceRefused"]

# What the library raises when a reply with a good status is no chat completion.
_MISREADINGS = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
_LONGEST_WAIT_S = 120.0
"""The SDK waits up to this long between two tries if the service asks for it."""


class FormatRefused(NasError):
    """The server does not support the answer format."""


class ServiceRefused(SearchPaused):
    """No answer came; `failure` says why."""

    def __init__(self, failure: ServiceFailure, settings: LLMSettings) -> None:
        super().__init__(pause_message(failure, settings))
        self.failure = failure


def _print_note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


class ChatClient:
    """Sends chat messages to any OpenAI-compatible server, or to a provider by name.

    The first answer format that the server accepts is remembered for the life of the client, so a
    server that supports a better one after an update is noticed at the next start.
    """

    def __init__(self, settings: LLMSettings, *, warn: Callable[[str], None] = _print_note) -> None:
        """Raises ConfigError if the provider's package is not installed."""
        self.settings = settings
        self._warn = warn
        self._warned = False
        # Only OpenAI-compatible APIs take a format; elsewhere the prompt asks for it.
        self._formats = list(FORMATS) if settings.provider in ("openai", "ollama") else ["prompt"]
        self._chat, self._sdk_error = _chat_model(settings)
        self.price = price_of(settings)
        """None if it is not known."""

    @property
    def answer_format(self) -> str:
        """The format of the next request."""
        return self._formats[0]

    def ask(
        self, messages: Sequence[Message], *, structured: bool = True, metric: str = DEFAULT_METRIC
    ) -> Answer:
        """Return the model's answer, in the strictest format that the server supports.

        The format requires a prediction of `metric`, the task's; without `structured` the answer is free
        text. Raises SearchPaused, which says what to do, if no answer comes.
        """
        if not structured:
            return self.ask_in(messages, "prompt", metric)
        candidates = list(self._formats)
        for answer_format in candidates[:-1]:
            try:
                answer = self.ask_in(messages, answer_format, metric)
            except FormatRefused:
                continue
            self._formats = candidates[candidates.index(answer_format) :]
            return answer
        answer = self.ask_in(messages, candidates[-1], metric)
        self._formats = candidates[-1:]
        return answer

    def ask_in(self, messages: Sequence[Message], answer_format: str, metric: str = DEFAULT_METRIC) -> Answer:
        """Return the answer in this format and no other. Raises FormatRefused or SearchPaused."""
        fields = request_fields(answer_format, metric)
        # In `extra_body` the format does not touch the library's own parsing, which loses the raw text.
        chat = self._chat.bind(extra_body=fields) if fields else self._chat
        started = time.monotonic()
        try:
            reply = self._invoke(chat, [dict(message) for message in messages])
        except (*self._sdk_error, TimeoutError) as error:
            self._raise_refusal(error, answer_format)
        except _MISREADINGS as error:
            return self._garbled(error, answer_format, time.monotonic() - started)
        answer = self._answer(messages, reply, answer_format, time.monotonic() - started)
        if answer.warning and not self._warned:
            self._warned = True
            self._warn(answer.warning)
        return answer

    def _invoke(self, chat: Any, messages: list[dict[str, Any]]) -> Any:
        """Call on a thread, with a deadline for the whole answer: the SDK's timeout restarts with every
        byte, and some services send blank lines while a request waits in their queue."""
        replies: list[Any] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                with warnings.catch_warnings():
                    # The library warns programmers about formats; we fall back by ourselves.
                    warnings.simplefilter("ignore", UserWarning)
                    replies.append(chat.invoke(messages))
            except (*self._sdk_error, *_MISREADINGS) as error:
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=work, name="ask the language model", daemon=True).start()
        tries = self.settings.max_retries + 1
        # The SDK's own timeouts come first; this one is for what they miss.
        if not done.wait(2 * tries * self.settings.timeout_s + (tries - 1) * _LONGEST_WAIT_S):
            raise TimeoutError("the answer does not end")
        if errors:
            raise errors[0]
        assert replies, "the thread that asks the language model died; its traceback is above"
        return replies[0]

    def _raise_refusal(self, error: BaseException, answer_format: str) -> NoReturn:
        failure = failure_of(error, self.settings)
        message = str(getattr(error, "message", "") or error)
        unspecific = failure.kind in ("request", "server")
        if (
            answer_format != "prompt"
            and unspecific
            and concerns_format(failure.status, getattr(error, "param", None), message)
        ):
            raise FormatRefused(failure.advice) from None
        raise ServiceRefused(failure, self.settings) from None

    def _garbled(self, error: BaseException, answer_format: str, latency_s: float) -> Answer:
        found = misread(error, self.settings)
        if isinstance(found, ServiceFailure):
            raise ServiceRefused(found, self.settings) from None
        return Answer("", None, None, 0, 0, latency_s, answer_format=answer_format, garbled=found)

    def _answer(
        self, messages: Sequence[Message], reply: Any, answer_format: str, latency_s: float
    ) -> Answer:
        """Convert the reply, without the key, which must not be stored or shown."""
        key, text = self.settings.api_key, str(reply.text)
        usage, metadata = reply.usage_metadata or {}, reply.response_metadata
        counted = usage.get("input_tokens") or 0
        estimate = prompt_tokens(messages)
        # A budget must hold even where the service reports no counts.
        asked = counted or estimate
        answered = usage.get("output_tokens") or 0 if counted else estimate_tokens(text)
        refusal = reply.additional_kwargs.get("refusal")
        return Answer(
            text=redacted(text, key),
            finish_reason=metadata.get("finish_reason") or metadata.get("stop_reason"),
            model=redacted(str(metadata["model_name"]), key) if metadata.get("model_name") else None,
            input_tokens=asked,
            output_tokens=answered,
            latency_s=latency_s,
            reasoning_tokens=(usage.get("output_token_details") or {}).get("reasoning") or 0,
            tokens_estimated=not counted,
            cost_usd=round(self.price.of(asked, answered), 9) if self.price else None,
            refusal=redacted(refusal, key) if isinstance(refusal, str) and refusal else None,
            answer_format=answer_format,
            warning=cut_short(estimate, counted),
        )


def _chat_model(settings: LLMSettings) -> tuple[Any, tuple[type[BaseException], ...]]:
    """Build the library's chat model; return it with the base classes of what its SDK raises."""
    # Every option is given: the libraries would otherwise read their own environment variables.
    options: dict[str, Any] = {
        "api_key": settings.api_key,
        "base_url": settings.base_url or PROVIDERS[settings.provider].base_url,
        "timeout": settings.timeout_s,
        "max_retries": settings.max_retries,
    }
    if settings.temperature is not None:
        options["temperature"] = settings.temperature
    extra = PROVIDERS[settings.provider].extra
    if extra is None:
        import openai
        from langchain_openai import ChatOpenAI

        options["use_responses_api"] = False
        return ChatOpenAI(model=settings.model, **options), (openai.APIError,)
    try:
        # An optional extra; its packages are imported when a model of that provider is named.
        sdk = importlib.import_module(settings.provider)
        models = importlib.import_module("langchain.chat_models")
        chat = models.init_chat_model(settings.model, model_provider=settings.provider, **options)
    except ImportError as error:
        raise ConfigError(
            f"{settings.provider}:{settings.model} needs packages that are not installed ({error.name}); "
            f"install them: pip install 'nas-agent[{extra}]'"
        ) from None
    return chat, (sdk.APIError,)

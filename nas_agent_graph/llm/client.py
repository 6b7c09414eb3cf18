"""A thin client over a chat model: one request, one answer, with everything the service returned."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, NoReturn

from nas_agent_graph.llm.answer import Answer, Message
from nas_agent_graph.llm.answer_formats import DEFAULT_METRIC, FORMATS, concerns_format, request_fields
from nas_agent_graph.llm.exchange import MAX_BODY_BYTES, Exchange
from nas_agent_graph.llm.failures import (
    ServiceFailure,
    failure_of,
    misread,
    pause_message,
    reason_of,
    shortage,
)
from nas_agent_graph.llm.parsing import MAX_ANSWER_CHARACTERS
from nas_agent_graph.llm.prices import price_of
from nas_agent_graph.llm.prompt_size import PromptForm, cut_short, estimate_tokens, prompt_tokens
from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.llm.transport.dialect import Dialect
from nas_agent_graph.settings import PROVIDERS, LLMSettings
from nas_system.errors import ConfigError, NasError, SearchPaused

__all__ = ["Answer", "ChatClient", "FormatRefused", "Message", "ServiceRefused"]

# What the library raises when a reply with a good status is no chat completion.
_MISREADINGS = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
_LONGEST_WAIT_S = 120.0
"""The SDK waits up to this long between two tries if the service asks for it."""
_SLACK_S = 5.0
_LONGEST_REMARK = 1000
_MOST_LESSONS = 10
"""Refusals that one question may learn from."""


class FormatRefused(NasError):
    """The server does not support the answer format."""


class _Learnt(Exception):
    """The server wants to be asked in another way; nothing was answered."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        self.dialect = dialect


class ServiceRefused(SearchPaused):
    """No answer came; `failure` says why, and `reason` the same where the search goes on."""

    def __init__(self, failure: ServiceFailure, settings: LLMSettings) -> None:
        super().__init__(pause_message(failure, settings))
        self.failure = failure
        self.reason = reason_of(failure, settings)


def _print_note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


class ChatClient:
    """Sends chat messages to any OpenAI-compatible server, or to a provider by name.

    The first answer format that the server accepts, and what else it demands, are remembered for the life
    of the client, so a server that supports more after an update is noticed at the next start.
    """

    def __init__(
        self,
        settings: LLMSettings,
        *,
        warn: Callable[[str], None] = _print_note,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """`environment` names proxies and certificates, as `https_proxy` and `SSL_CERT_FILE` do.

        Raises ConfigError if the provider's package is not installed.
        """
        self.settings = settings
        self._warn, self._environment = warn, environment
        self._warned = False
        # Only OpenAI-compatible APIs take a format; elsewhere the prompt asks for it.
        self._formats = list(FORMATS) if settings.provider in ("openai", "ollama") else ["prompt"]
        self._sdk, self._build_chat = _package(settings)
        self.dialect = Dialect(
            max_tokens=settings.max_tokens,
            extra=settings.extra_body,
            marks_prefix=settings.provider == "anthropic",
        )
        """How the server is asked, as far as that is known."""
        self.prompt_form = PromptForm(settings.compact_prompt)
        self.price = price_of(settings)
        """None if it is not known."""
        self.questions = 0
        """Requests sent, refused ones included; without the SDK's own further tries."""

    @property
    def answer_format(self) -> str:
        """The format of the next request."""
        return self._formats[0]

    def ask(
        self,
        messages: Sequence[Message],
        *,
        structured: bool = True,
        metric: str = DEFAULT_METRIC,
        may_repeat: bool = False,
        candidates: int = 1,
    ) -> Answer:
        """Return the model's answer, in the strictest format that the server supports.

        The format requires a prediction of `metric`, the task's, and with `may_repeat` allows a wish for a
        repeat; it holds one proposal, or up to `candidates` ranked ones. Without `structured` the answer is
        free text. Raises SearchPaused, which says what to do, if no answer comes.
        """
        if not structured:
            return self.ask_in(messages, "prompt", metric)
        formats = list(self._formats)
        asked: dict[str, Any] = {"metric": metric, "may_repeat": may_repeat, "candidates": candidates}
        for answer_format in formats[:-1]:
            try:
                answer = self.ask_in(messages, answer_format, **asked)
            except FormatRefused:
                continue
            self._formats = formats[formats.index(answer_format) :]
            return answer
        answer = self.ask_in(messages, formats[-1], **asked)
        self._formats = formats[-1:]
        return answer

    def reach(self) -> None:
        """Ask which models there are, once: it costs nothing. Who does not know the question is there, too.

        Raises SearchPaused where none can be reached, or the key is refused.
        """
        url = self.settings.base_url or PROVIDERS[self.settings.provider].base_url
        exchange = Exchange(self._sdk, self.settings.timeout_s, url, self._environment)
        try:
            with exchange.http_client() as http:
                chat = self._build_chat(http)
                client = getattr(chat, "root_client", None) or chat._client
                client.with_options(max_retries=0).models.list()
        except (self._sdk.AuthenticationError, self._sdk.APIConnectionError) as error:
            self._raise_refusal(error, exchange, "prompt")
        except (self._sdk.APIError, OSError, *_MISREADINGS):
            return

    def ask_in(
        self,
        messages: Sequence[Message],
        answer_format: str,
        metric: str = DEFAULT_METRIC,
        *,
        may_repeat: bool = False,
        candidates: int = 1,
    ) -> Answer:
        """Return the answer in this format and no other. Raises FormatRefused or SearchPaused."""
        fields = request_fields(answer_format, metric, may_repeat=may_repeat, candidates=candidates)
        for _ in range(_MOST_LESSONS):
            try:
                return self._ask_once(messages, answer_format, fields)
            except _Learnt as lesson:
                self.dialect = lesson.dialect
        return self._ask_once(messages, answer_format, fields)

    def _ask_once(
        self, messages: Sequence[Message], answer_format: str, fields: Mapping[str, object]
    ) -> Answer:
        url = self.settings.base_url or PROVIDERS[self.settings.provider].base_url
        exchange = Exchange(self._sdk, self.settings.timeout_s, url, self._environment)
        self.questions += 1
        started = time.monotonic()
        try:
            reply = self._invoke(exchange, messages, {**fields, **self.dialect.fields()})
            text = str(reply.text)
        except (self._sdk.APIError, OSError, MemoryError) as error:
            self._raise_refusal(error, exchange, answer_format)
        except _MISREADINGS as error:
            return self._garbled(error, exchange, messages, answer_format, time.monotonic() - started)
        except RuntimeError as error:
            if shortage(error) is None:
                raise
            self._raise_refusal(error, exchange, answer_format)
        metadata = reply.response_metadata
        answer = self._answer(
            messages,
            exchange,
            text,
            finish_reason=self._kept(metadata.get("finish_reason") or metadata.get("stop_reason")),
            model=self._kept(metadata.get("model_name")),
            refusal=self._kept(reply.additional_kwargs.get("refusal")),
            latency_s=time.monotonic() - started,
            answer_format=answer_format,
        )
        if answer.warning and not self._warned:
            self._warned = True
            self._warn(answer.warning)
        counts = exchange.counts
        cached = counts.cached_tokens if counts.counts_cached else None
        sent = max(counts.input_tokens, prompt_tokens(messages))
        if note := self.prompt_form.read(sent, cached, cut_short=answer.warning is not None):
            self._warn(note)
        return answer

    def _invoke(self, exchange: Exchange, messages: Sequence[Message], fields: Mapping[str, Any]) -> Any:
        """Ask on a thread, so that neither a signal nor the deadline waits for the network."""
        replies: list[Any] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                with warnings.catch_warnings(), exchange.http_client() as http:
                    # The library warns programmers about formats; we fall back by ourselves.
                    warnings.simplefilter("ignore", UserWarning)
                    chat = self._build_chat(http)
                    # In `extra_body` the format does not touch the library's own parsing, which loses the
                    # raw text.
                    chat = chat.bind(extra_body=dict(fields)) if fields else chat
                    replies.append(chat.invoke(self.dialect.spoken(messages)))
            except (self._sdk.APIError, OSError, MemoryError, RuntimeError, *_MISREADINGS) as error:
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=work, name="ask the language model", daemon=True).start()
        pauses = self.settings.max_retries * _LONGEST_WAIT_S
        # Every try has its own deadline; this one is for what no connection exists for yet, like a name
        # that is looked up.
        longest = (self.settings.max_retries + 1) * self.settings.timeout_s + pauses + _SLACK_S
        try:
            ended = done.wait(longest)
        finally:
            exchange.abandon()
        if not ended:
            raise TimeoutError("the answer does not end")
        if errors:
            raise errors[0]
        assert replies, "the thread that asks the language model died; its traceback is above"
        return replies[0]

    def _raise_refusal(self, error: BaseException, exchange: Exchange, answer_format: str) -> NoReturn:
        failure = failure_of(error, self.settings, proxy=exchange.proxy)
        if exchange.inside:
            failure = replace(failure, advice=f"{failure.advice} (inside a reply with a good status)")
        message = str(getattr(error, "message", "") or error)
        param = getattr(error, "param", None)
        # Some services name what they refuse where the SDK does not look.
        body = str(getattr(error, "body", None) or "")[:_LONGEST_REMARK]
        if (dialect := self.dialect.after(failure.status, param, f"{message} {body}")) is not None:
            raise _Learnt(dialect) from None
        unspecific = failure.kind in ("request", "server") and concerns_format(failure.status, param, message)
        if unspecific and answer_format != "prompt":
            raise FormatRefused(failure.advice) from None
        if unspecific and failure.kind == "request" and (dialect := self.dialect.plainest()) is not None:
            raise _Learnt(dialect) from None
        if failure.kind == "context" and (note := self.prompt_form.refused_as_too_long()):
            self._warn(note)
        raise ServiceRefused(failure, self.settings) from None

    def _garbled(
        self,
        error: BaseException,
        exchange: Exchange,
        messages: Sequence[Message],
        answer_format: str,
        latency_s: float,
    ) -> Answer:
        found = misread(error, self.settings)
        if isinstance(found, ServiceFailure):
            raise ServiceRefused(found, self.settings) from None
        if exchange.too_long:
            found = f"it is longer than {MAX_BODY_BYTES // 2**20} MiB, and the rest of it was not read"
        return self._answer(
            messages,
            exchange,
            "",
            finish_reason=None,
            model=None,
            latency_s=latency_s,
            answer_format=answer_format,
            garbled=found,
        )

    def _answer(self, messages: Sequence[Message], exchange: Exchange, text: str, **known: Any) -> Answer:
        """Build the answer, with estimates for what the service does not count."""
        counts = exchange.counts
        estimate = prompt_tokens(messages)
        # A budget must hold even where the service reports no counts.
        asked = counts.input_tokens or estimate
        answered = counts.output_tokens or estimate_tokens(text)
        return Answer(
            # A longer text is refused, so no more of it has to be kept.
            text=redacted(text, self.settings.api_key)[: MAX_ANSWER_CHARACTERS + 1],
            input_tokens=asked,
            output_tokens=answered,
            reasoning_tokens=counts.reasoning_tokens,
            cached_tokens=counts.cached_tokens,
            tokens_estimated=(asked, answered) != (counts.input_tokens, counts.output_tokens),
            cost_usd=round(self.price.of(asked, answered, counts.cached_tokens), 9) if self.price else None,
            warning=cut_short(estimate, counts.input_tokens),
            habits="; ".join(exchange.habits + self.dialect.habits()) or None,
            **known,
        )

    def _kept(self, value: Any) -> str | None:
        """Return what a service says about its answer, without the key, which must not be stored or shown."""
        if not isinstance(value, str):
            return None
        return redacted(value, self.settings.api_key)[:_LONGEST_REMARK] or None


def _package(settings: LLMSettings) -> tuple[ModuleType, Callable[[Any], Any]]:
    """Return the provider's SDK, and what builds the library's chat model over an HTTP client."""
    # Every option is given: the libraries would otherwise read their own environment variables.
    options: dict[str, Any] = {
        "model": settings.model,
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
        if "http_socket_options" in ChatOpenAI.model_fields:
            # Without it, newer versions warn that a client of ours ignores proxies, which it does not.
            options["http_socket_options"] = ()
        return openai, lambda http: ChatOpenAI(http_client=http, **options)
    try:
        # An optional extra; its packages are imported when a model of that provider is named.
        sdk = importlib.import_module(settings.provider)
        importlib.import_module(f"langchain_{settings.provider}")
        init_chat_model = importlib.import_module("langchain.chat_models").init_chat_model
    except ImportError as error:
        raise ConfigError(
            f"{settings.provider}:{settings.model} needs packages that are not installed ({error.name}); "
            f"install them: pip install 'nas-agent[{extra}]'"
        ) from None

    def build(http: Any) -> Any:
        chat = init_chat_model(model_provider=settings.provider, **options)
        # Its library has no option for the HTTP client.
        chat._client = chat._client.with_options(http_client=http)
        return chat

    return sdk, build

"""What a service's failure means: one defined behaviour for each way in which no answer comes.

| what happened | what the search does |
|---|---|
| 429 with a short Retry-After, 408, 409, 5xx, timeout, connection lost | the SDK tries again |
| the same after its last try | pause |
| 401, 403, 404, 402, quota, long Retry-After, unreachable | pause |
| a prompt longer than the context window, any other bad request | pause |
| 400 that concerns the answer format | ask again in a simpler format |
| a web page, or an error inside a good status | pause |
| garbage, refusal, content filter, cut off, empty, no JSON | repair twice, then the fallback sampler |

A pause keeps the state: the same command continues.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.settings import LLMSettings

_MESSAGE_CHARACTERS = 200
_WEB_PAGE = re.compile(r"<!doctype html|<html|<head|<body", re.IGNORECASE)
_QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")


@dataclass(frozen=True)
class ServiceFailure:
    """An error of any provider's SDK, reduced to what matters."""

    kind: str
    """key, forbidden, not_found, quota, rate_limit, context, content_filter, timeout, unreachable,
    server, web_page or request."""
    advice: str
    status: int | None = None


def failure_of(error: BaseException, settings: LLMSettings) -> ServiceFailure:
    """Classify an SDK's exception. SDKs made by the same generator share these attributes."""
    status = getattr(error, "status_code", None)
    if status is None:
        return _no_reply(error, settings)
    message = _message(error, settings)
    quoted = f"; it says: {message}" if message else ""
    kind, advice = _by_status(status, error, message, settings)
    return ServiceFailure(kind, advice + quoted, status)


def _by_status(status: int, error: BaseException, said: str, settings: LLMSettings) -> tuple[str, str]:
    code = str(getattr(error, "code", None) or getattr(error, "type", None) or "")
    if status == 401 and settings.sources.get("api_key") == "default":
        return "key", "the service wants a key: set NAS_LLM_API_KEY"
    if status == 401:
        return "key", f"the key was refused: check NAS_LLM_API_KEY{settings.source('api_key')}"
    if status == 403:
        return (
            "forbidden",
            f"the key was refused for this model or place: check NAS_LLM_API_KEY and what it "
            f"may use{settings.source('api_key')}",
        )
    if status == 404:
        if code == "model_not_found" or "model" in said.lower():
            return "not_found", f"the service knows no model {settings.model!r}: check NAS_LLM_MODEL"
        return (
            "not_found",
            "no such model or address: check NAS_LLM_MODEL, and that NAS_LLM_BASE_URL ends in /v1",
        )
    if status == 402 or code in _QUOTA_CODES:
        return "quota", "the account's limit or quota is used up: raise it, or name another model"
    if status == 429:
        wait = _retry_after(error)
        until = f" (it asks to wait {wait})" if wait else ""
        return "rate_limit", f"the service's limit or quota is reached{until}: wait, or raise it"
    if status in (400, 413, 422) and _is_context(code, said):
        return (
            "context",
            "the prompt is longer than the model's context window: name a model with a larger one",
        )
    if status == 400 and ("content_filter" in code or "content management policy" in said):
        return "content_filter", "the service's content filter refused the prompt"
    if status >= 500:
        return "server", f"the service answered with an error {status}"
    return "request", f"the service answered with an error {status}: it refused the request"


def _no_reply(error: BaseException, settings: LLMSettings) -> ServiceFailure:
    if "timeout" in type(error).__name__.lower() or isinstance(error, TimeoutError):
        return ServiceFailure("timeout", f"no answer within {settings.timeout_s:g} s (NAS_LLM_TIMEOUT)")
    if "connection" in type(error).__name__.lower():
        return ServiceFailure(
            "unreachable", "the server cannot be reached: check NAS_LLM_BASE_URL and that it runs"
        )
    return ServiceFailure("server", f"the service answered with an error: {_message(error, settings)}")


def misread(error: BaseException, settings: LLMSettings) -> ServiceFailure | str:
    """Classify a reply with a good status that is no chat completion: a failure, or text to be repaired."""
    text = str(error)
    if _WEB_PAGE.search(text):
        return ServiceFailure(
            "web_page", "the address answers with a web page: check that NAS_LLM_BASE_URL ends in /v1"
        )
    # The library passes the body's own `error` as the exception's argument.
    inside = error.args[0] if error.args else None
    if isinstance(inside, Mapping):
        said = _one_line(str(inside.get("message") or inside), settings)
        return ServiceFailure("server", f"the service answered with an error: {said}")
    return _one_line(text, settings) or type(error).__name__


def pause_message(failure: ServiceFailure, settings: LLMSettings) -> str:
    """Return the message to the user when the search is paused."""
    return (
        f"{settings.model} at {settings.endpoint}: {failure.advice}. The search is paused with its state "
        "kept; run the same command to continue, or add --proposer tpe to go on without the model"
    )


def _is_context(code: str, said: str) -> bool:
    terms = ("context length", "context window", "context size", "prompt is too long", "maximum context")
    return "context_length" in code or any(term in said.lower() for term in terms)


def _retry_after(error: BaseException) -> str | None:
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    value = headers.get("retry-after")
    if not value:
        return None
    return f"{value} s" if re.fullmatch(r"\d+(\.\d+)?", value) else _printable(value)[:60]


def _message(error: BaseException, settings: LLMSettings) -> str:
    """Return the service's own message, one short line, without the key."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    message = body.get("message") or body.get("detail") if isinstance(body, Mapping) else None
    response = getattr(error, "response", None)
    text = str(message or (error if response is None else response.text))
    return "a web page" if _WEB_PAGE.search(text) else _one_line(text, settings)


def _one_line(text: str, settings: LLMSettings) -> str:
    """Shorten to one line, without the key: a server may quote the key that it refuses."""
    return " ".join(_printable(redacted(text, settings.api_key)).split())[:_MESSAGE_CHARACTERS]


def _printable(text: str) -> str:
    """Replace control characters: they would control the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)

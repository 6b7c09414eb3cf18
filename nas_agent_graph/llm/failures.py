"""What a service's failure means: one defined behaviour for each way in which no answer comes.

| what happened | what the search does |
|---|---|
| 429 with a short Retry-After, 408, 409, 5xx, connection lost, no end within the timeout | another try |
| the same after the last try | pause |
| 401, 403, 404, 402, quota, long Retry-After, unreachable | pause |
| a prompt longer than the context window, any other bad request | pause |
| 400 that concerns the answer format | ask again in a simpler format |
| a refusal that says how the server wants to be asked | ask again so (`transport.dialect`) |
| an error inside a good status | as if it had the status of that error |
| a web page | pause |
| a proxy, a certificate or a name that is of no use | pause, and the cause with its remedy |
| a redirect to another host | pause: neither the prompt nor the key goes there |
| no file descriptor, memory or thread left on this machine | pause |
| garbage, refusal, content filter, cut off, empty, no JSON | repair twice, then the fallback sampler |
| more than MAX_BODY_BYTES, which are not read (of an error: its beginning counts) | the same |

A pause keeps the state: the same command continues. What is repaired counts against the budget.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.llm.transport.causes import cause_of, chain_of
from nas_agent_graph.llm.transport.proxies import Proxy
from nas_agent_graph.settings import PROVIDERS, LLMSettings

_MESSAGE_CHARACTERS = 200
_ADVICE_CHARACTERS = 500
_WEB_PAGE = re.compile(r"<!doctype html|<html|<head|<body", re.IGNORECASE)
_SPEAKS_TLS = re.compile(r"http request (was sent )?to (an )?https", re.IGNORECASE)
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_NO_MEMORY = (errno.ENOMEM, errno.ENOBUFS)
_QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")


@dataclass(frozen=True)
class ServiceFailure:
    """An error of any provider's SDK, reduced to what matters."""

    kind: str
    """key, forbidden, not_found, quota, rate_limit, context, content_filter, timeout, unreachable, dns,
    refused, tls, proxy, server, web_page, redirect, request, or machine: this one's fault and not the
    service's."""
    advice: str
    status: int | None = None


def failure_of(error: BaseException, settings: LLMSettings, proxy: Proxy | None = None) -> ServiceFailure:
    """Classify an SDK's exception. SDKs made by the same generator share these attributes.

    `proxy` is the one that the question went through.
    """
    status = getattr(error, "status_code", None)
    if status is None:
        return _no_reply(error, settings, proxy)
    message = _message(error, settings)
    quoted = f"; it says: {message}" if message else ""
    kind, advice = _by_status(status, error, message, settings)
    if status == 407:
        kind, advice = (
            "proxy",
            f"{proxy or 'a proxy'} wants a user and a password: write them into its address",
        )
    elif proxy is not None and status in (502, 503, 504):
        advice += f", through {proxy}"
    return ServiceFailure(kind, advice + quoted, status)


def _by_status(status: int, error: BaseException, said: str, settings: LLMSettings) -> tuple[str, str]:
    code = str(getattr(error, "code", None) or getattr(error, "type", None) or "")
    if 300 <= status < 400 and (target := _redirect_target(error)):
        return "redirect", _redirect_advice(error, target, settings)
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
    if _SPEAKS_TLS.search(said):
        return "request", "the address serves https: write https:// in NAS_LLM_BASE_URL"
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


def _redirect_target(error: BaseException) -> str | None:
    """Return the address that a response redirects to, None if it names none."""
    response: Any = getattr(error, "response", None)
    try:
        return urljoin(str(response.url), response.headers["location"])
    except (AttributeError, KeyError, ValueError):
        return None


def _redirect_advice(error: Any, target: str, settings: LLMSettings) -> str:
    asked = urlsplit(str(error.response.url))
    if urlsplit(target)[:2] == asked[:2]:
        return "the service redirects in a circle: check NAS_LLM_BASE_URL"
    address = _one_line(target.removesuffix("/chat/completions"), settings)
    return (
        f"the service redirects to another host, and the prompt was not sent there: set NAS_LLM_BASE_URL "
        f"to {address} if you trust it"
    )


def shortage(error: BaseException) -> str | None:
    """Return what this machine has none of left, if that is why an exception was raised."""
    for cause in chain_of(error):
        number = cause.errno if isinstance(cause, OSError) else None
        if number in _NO_DESCRIPTORS:
            return "file descriptor"
        if number in _NO_MEMORY or isinstance(cause, MemoryError):
            return "memory"
        if isinstance(cause, RuntimeError) and "start new thread" in str(cause):
            return "thread"
    return None


def _no_reply(error: BaseException, settings: LLMSettings, proxy: Proxy | None) -> ServiceFailure:
    if lacking := shortage(error):
        return ServiceFailure(
            "machine",
            f"this machine has no {lacking} left to ask the language model: end other programs, or raise "
            "the limit (ulimit -a shows it)",
        )
    if "timeout" in type(error).__name__.lower() or isinstance(error, TimeoutError):
        through = f", through {proxy}" if proxy else ""
        return ServiceFailure(
            "timeout", f"no answer within {settings.timeout_s:g} s (NAS_LLM_TIMEOUT){through}"
        )
    if "connection" in type(error).__name__.lower() or isinstance(error, OSError):
        url = settings.base_url or PROVIDERS[settings.provider].base_url
        cause = cause_of(error, url, proxy)
        return ServiceFailure(cause.kind, _one_line(cause.advice, settings, _ADVICE_CHARACTERS))
    return ServiceFailure("server", f"the service answered with an error: {_message(error, settings)}")


def misread(error: BaseException, settings: LLMSettings) -> ServiceFailure | str:
    """Classify a reply with a good status that is no chat completion: a failure, or text to be repaired."""
    text = str(error)
    if _WEB_PAGE.search(text):
        return ServiceFailure(
            "web_page", "the address answers with a web page: check that NAS_LLM_BASE_URL ends in /v1"
        )
    return _one_line(text, settings) or type(error).__name__


def pause_message(failure: ServiceFailure, settings: LLMSettings) -> str:
    """Return the message to the user when the search is paused."""
    paused = f"{reason_of(failure, settings)}. The search is paused with its state kept; run the same command"
    if failure.kind == "machine":
        return f"{paused} to continue"
    return f"{paused} to continue, or add --proposer tpe to go on without the model"


def reason_of(failure: ServiceFailure, settings: LLMSettings) -> str:
    """Return who gave no answer, and why."""
    if failure.kind == "machine":
        return failure.advice
    return f"{settings.model} at {settings.endpoint}: {failure.advice}"


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


def _one_line(text: str, settings: LLMSettings, longest: int = _MESSAGE_CHARACTERS) -> str:
    """Shorten to one line, without the key: a server may quote the key that it refuses."""
    return " ".join(_printable(redacted(text, settings.api_key)).split())[:longest]


def _printable(text: str) -> str:
    """Replace control characters: they would control the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)

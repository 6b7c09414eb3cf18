"""A chat completion as servers really send it, and the token counts that it reports.

Nearly compatible servers name another role, leave fields out, fill them with values of other types, put
the answer elsewhere, or report an error with a good status. The SDKs and libraries believe all of it and
fail later, so what is not needed is dropped before they read it, and counts are taken only if they can be
true.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nas_agent_graph.llm.transport.event_stream import is_event_stream, joined

MOST_TOKENS = 10_000_000
"""No model reads or writes more in one call."""
_ANTHROPIC_CACHES = ("cache_read_input_tokens", "cache_creation_input_tokens")
_REASONING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
_TEXT_PARTS = ("text", "output_text")
_CUT_OFF = ("length", "max_tokens", "model_length", "broken_stream")
_PROPOSES = ("changes", "candidates", "repeat")
_MESSAGES_OF_ERRORS = ("message", "detail", "msg", "error_msg", "error_message", "status_msg")
_CODES_OF_ERRORS = ("code", "status", "status_code", "error_code", "type")
_MADE_STATUSES = (
    (402, r"quota|billing|balance|credit|payment|arrears|insufficient_user"),
    (429, r"rate.?limit|too many|\btpm\b|\brpm\b|overloaded|throttl|requests per|busy"),
    (401, r"api.?key|unauthori[sz]ed|authentication|invalid.?token"),
    (404, r"model.{0,60}(not (found|exist)|does not exist)|no such model|unknown model"),
    (400, r"response_format|json_schema|invalid.?request|bad request|context length|must be|not support"),
)
"""The status that an error should have had, by what it says; 500 for anything else."""


@dataclass(frozen=True)
class TokenCounts:
    """What a service reports to have counted; 0 where it reports nothing that can be true."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    """Of the input tokens, those that the service has taken from its cache."""
    counts_cached: bool = False
    """Whether the service says how many these are, be it none."""


@dataclass(frozen=True)
class Reading:
    """A body with a good status, as the SDK can read it."""

    body: bytes
    counts: TokenCounts = TokenCounts()
    habits: tuple[str, ...] = ()
    """What the server does differently from others, one remark each."""
    status: int | None = None
    """That of an error inside a good status; None for an answer."""


def read_completion(body: bytes, content_type: str = "") -> Reading:
    """Read a body; one that is neither a JSON object nor a stream of events is unchanged."""
    habits: tuple[str, ...] = ()
    try:
        if is_event_stream(content_type, body):
            reply: Any = joined(body)
            habits = ("streams its answers",)
        else:
            reply = json.loads(body, parse_int=float)
        if not isinstance(reply, dict):
            return Reading(body)
        counts = _counts(reply)
        if (error := _error_in(reply)) is not None:
            status = _status_of(error)
            said = {"message": error.message, "code": error.code, "type": "error", "param": None}
            return Reading(json.dumps({"error": said}).encode(), counts, habits, status)
        corrected, more = _corrected(reply)
        return Reading(json.dumps(corrected).encode(), counts, habits + more)
    except (ValueError, RecursionError):
        return Reading(body)


# --- the answer -----------------------------------------------------------------------------


def _corrected(reply: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    choices = reply.get("choices")
    if choices is None and isinstance(reply.get("message"), dict):
        # Ollama's own format, from a proxy that does not translate it.
        choices = [{"message": reply["message"], "finish_reason": reply.get("done_reason")}]
    if not isinstance(choices, list):
        return {**reply, "usage": None}, ()
    # One is asked for.
    read = [_choice(choice) for choice in choices[:1]]
    model = _text(reply.get("model"))
    habits = tuple(habit for _, habit in read if habit is not None)
    return {"choices": [choice for choice, _ in read], "model": model, "usage": None}, habits


def _choice(choice: Any) -> tuple[Any, str | None]:
    """Return the choice with its answer as content, and where else that stood."""
    if not isinstance(choice, dict):
        return choice, None
    message = choice.get("message")
    if not isinstance(message, dict):
        if not isinstance(choice.get("text"), str):
            return choice, None
        message = {"content": choice["text"]}
    ended = _text(choice.get("finish_reason"))
    content, habit = _answer_in(message, cut_off=(ended or "").lower() in _CUT_OFF)
    known = {"content": content} if content is not None or "content" in message else {}
    if "refusal" in message:
        known["refusal"] = message["refusal"]
    # It is the answer, under any name: "model", "Assistant", none at all.
    return {"index": 0, "finish_reason": ended, "message": {"role": "assistant", **known}}, habit


def _answer_in(message: Mapping[str, Any], *, cut_off: bool) -> tuple[Any, str | None]:
    """Return the answer of a message: its content, else the arguments of a call, else its thoughts.

    Thoughts that were cut off hold drafts, and no answer.
    """
    content = message.get("content")
    if isinstance(content, list):
        content = _joined_parts(content)
    elif isinstance(content, dict) and any(name in content for name in _PROPOSES):
        return json.dumps(content), "sends its answer as an object in the place of a text"
    if isinstance(content, str) and "{" in content:
        return content, None
    if content is not None and not isinstance(content, str):
        return content, None
    if arguments := _arguments(message):
        return arguments, "answers only in the arguments of tool calls"
    if (content or "").strip() or _text(message.get("refusal")) or cut_off:
        return content, None
    for name in _REASONING:
        if thoughts := _thoughts(message.get(name)):
            return thoughts, f"answers only in {name}, with no content"
    return content, None


def _joined_parts(parts: list[Any]) -> Any:
    """Join the parts that are text; a list without any is returned unchanged."""
    texts = [
        part if isinstance(part, str) else part.get("text")
        for part in parts
        if isinstance(part, str) or (isinstance(part, dict) and part.get("type", "text") in _TEXT_PARTS)
    ]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found or not parts else parts


def _arguments(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls")
    listed = calls if isinstance(calls, list) else []
    functions = [call.get("function") for call in listed if isinstance(call, dict)]
    found: list[str] = []
    for function in [*functions, message.get("function_call")]:
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, dict):
            found.append(json.dumps(arguments))
        elif isinstance(arguments, str) and arguments.strip():
            found.append(arguments)
    return "\n".join(found)


def _thoughts(value: Any) -> str:
    if isinstance(value, list):
        texts = [item.get("text") if isinstance(item, dict) else item for item in value]
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# --- errors with a good status --------------------------------------------------------------


@dataclass(frozen=True)
class _Error:
    message: str
    code: str | None = None
    number: int | None = None
    """Its status, where it states one."""


def _error_in(reply: Mapping[str, Any]) -> _Error | None:
    """Return the error that a reply reports in the place of an answer."""
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if error := reply.get("error") or (first.get("error") if isinstance(first, dict) else None):
        return _error(error, reply)
    if first is not None or isinstance(reply.get("message"), dict) or "content" in reply:
        return None
    errors = reply.get("errors")
    for inside in (*(errors if isinstance(errors, list) else (errors,)), reply.get("base_resp"), reply):
        if isinstance(inside, dict) and any(inside.get(name) for name in _MESSAGES_OF_ERRORS):
            return _error(inside, reply)
    return None


def _error(error: Any, reply: Mapping[str, Any]) -> _Error:
    if not isinstance(error, Mapping):
        return replace(_error({}, reply), message=str(error))
    said = next((error[name] for name in _MESSAGES_OF_ERRORS if error.get(name)), None)
    codes = [error.get(name) for name in _CODES_OF_ERRORS] + [reply.get(name) for name in _CODES_OF_ERRORS]
    numbers = [code for code in map(_number, codes) if code is not None and 400 <= code < 600]
    code = next((code for code in codes if isinstance(code, str)), None)
    message = said if isinstance(said, str) else json.dumps(said or dict(error))
    return _Error(message, code, numbers[0] if numbers else None)


def _number(code: Any) -> int | None:
    """Return a code of three digits: statuses have as many."""
    spelled = re.fullmatch(r"(\d{3})(\.0)?", str(code))
    return int(spelled[1]) if spelled else None


def _status_of(error: _Error) -> int:
    if error.number is not None:
        return error.number
    said = f"{error.code or ''} {error.message[:2000]}".lower()
    return next((status for status, terms in _MADE_STATUSES if re.search(terms, said)), 500)


# --- counts ---------------------------------------------------------------------------------


def _counts(reply: Mapping[str, Any]) -> TokenCounts:
    usage = reply.get("usage")
    if not isinstance(usage, Mapping):
        # Ollama's own format has them at its top.
        return TokenCounts(_count(reply, "prompt_eval_count"), _count(reply, "eval_count"))
    asked = _count(usage, "prompt_tokens")
    cached = _cached(usage, reply.get("timings"))
    if not asked and (asked := _count(usage, "input_tokens")):
        # Anthropic counts apart what it takes from its cache; OpenAI's count includes it.
        asked += sum(_count(usage, name) for name in _ANTHROPIC_CACHES)
    answered = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    thoughts = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    thoughts = thoughts or _count(usage.get("output_tokens_details"), "thinking_tokens")
    return TokenCounts(asked, answered, thoughts, min(cached or 0, asked), counts_cached=cached is not None)


def _cached(usage: Mapping[str, Any], timings: Any) -> int | None:
    """Return how many tokens of the prompt came from a cache, under any of the names in use; None where it is
    not said."""
    said = (
        (usage.get("prompt_tokens_details"), "cached_tokens"),
        (usage.get("input_tokens_details"), "cached_tokens"),
        (usage, "prompt_cache_hit_tokens"),
        (usage, "cache_read_input_tokens"),
        (usage, "cached_tokens"),
        (timings, "cache_n"),
    )
    counts = [
        _count(place, name)
        for place, name in said
        if isinstance(place, Mapping) and place.get(name) is not None
    ]
    return max(counts, default=None)


def _count(counts: Any, name: str) -> int:
    """Return the count of this name if it is a number that can be true, else 0. NaN is none."""
    value = counts.get(name) if isinstance(counts, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return 0
    return math.ceil(value)

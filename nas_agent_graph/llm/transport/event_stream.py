"""Joins a streamed answer to the chat completion that it is a part-by-part copy of.

Some models can only be asked for a stream, and some proxies stream though nobody asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nas_agent_graph.llm.answer import BROKEN_STREAM

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "text")
_END = "[DONE]"


def is_event_stream(content_type: str, body: bytes) -> bool:
    """Return whether a body is a stream of events, by its type or, where that is wrong, by its beginning."""
    if content_type.partition(";")[0].strip().lower() == "text/event-stream":
        return True
    return body.lstrip(b"\xef\xbb\xbf \t\r\n")[:6].startswith((b"data:", b"event:", b": "))


def joined(body: bytes) -> dict[str, Any] | None:
    """Return the chat completion that the events make up; if none is part of one, the last event.

    A stream that ends without a finish reason and without `[DONE]` has broken off; it gets that as its
    finish reason. Raises ValueError or RecursionError for events that are no JSON.
    """
    texts: dict[str, list[str]] = {}
    arguments: dict[Any, list[str]] = {}
    whole: dict[str, Any] = {}
    reason: Any = None
    last: dict[str, Any] | None = None
    seen = ended = False
    for chunk in _chunks(body):
        if chunk == _END:
            ended = True
            break
        if not isinstance(chunk, dict):
            continue
        last = chunk
        whole |= {name: chunk[name] for name in ("model", "usage", "timings") if chunk.get(name) is not None}
        if error := chunk.get("error"):
            return {**whole, "error": error}
        choice = _first(chunk.get("choices"))
        if choice is None:
            seen = seen or isinstance(chunk.get("choices"), list)
            continue
        seen, reason = True, choice.get("finish_reason") or reason
        for part in (choice.get("delta"), choice.get("message"), choice):
            if isinstance(part, dict):
                _add(part, texts, arguments, repeats=part is choice.get("message"))
    if not seen:
        return last
    message: dict[str, Any] = {name: "".join(parts) for name, parts in texts.items()}
    if arguments:
        message["tool_calls"] = [{"function": {"arguments": "".join(a)}} for a in arguments.values()]
    if reason is None and not ended:
        reason = BROKEN_STREAM
    return {**whole, "choices": [{"message": message, "finish_reason": reason}]}


def _chunks(body: bytes) -> Iterator[Any]:
    """Yield the data of every event; an event of several lines is one value."""
    data: list[str] = []
    for line in [*body.decode("utf-8-sig", errors="replace").splitlines(), ""]:
        if line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line.strip() and data:
            yield from _values(data)
            data = []


def _values(data: list[str]) -> Iterator[Any]:
    # Servers forget the empty line between two events.
    for value in data if len(data) > 1 and all(_is_whole(line) for line in data) else ["\n".join(data)]:
        yield _END if value == _END else json.loads(value, parse_int=float)


def _is_whole(line: str) -> bool:
    return line == _END or (line.startswith("{") and line.endswith("}"))


def _first(choices: Any) -> dict[str, Any] | None:
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _add(
    part: Mapping[str, Any], texts: dict[str, list[str]], arguments: dict[Any, list[str]], *, repeats: bool
) -> None:
    """Add what a part says; a whole message at the end of a stream repeats the parts before it."""
    for name in _TEXTS:
        value = part.get(name)
        if isinstance(value, str) and value:
            if repeats:
                texts[name] = []
            texts.setdefault(name, []).append(value)
    calls = part.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        piece = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(piece, str):
            index = call.get("index", place)
            arguments.setdefault(index if isinstance(index, int | float) else place, []).append(piece)

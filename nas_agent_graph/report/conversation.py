"""A run's conversation with the language model, as a report shows it: each message once.

A request repeats everything before it, and every run begins with the same system prompt; both are
shown where they occurred first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from nas_agent_graph.llm.recording import counted, read_transcript
from nas_system.errors import ConfigError
from nas_system.files import finite
from nas_system.processes.run_files import RunPaths

_HEAD = ("v", "seq", "ts", "run", "node", "kind", "attempt", "request_hash")
"""Fields of an event that are not its content."""
_REASONS = ("reason", "refusal", "error", "message", "text")
_BAD = ("refus", "error", "invalid", "fail")
"""Parts of the kinds of events that tell of something that went wrong."""


class ShownMessage(TypedDict):
    """One message, with what is known of the call that it belongs to."""

    role: str
    """system, user, assistant, reasoning, refusal (by this program), declined (by the model) or event."""
    text: str
    ts: Any
    """When it was written, as the transcript has it."""
    kind: NotRequired[str]
    """Of an event or a refusal."""
    same_as: NotRequired[str]
    """The run that shows this system prompt in full."""
    left_out: NotRequired[int]
    """Characters that were cut."""
    model: NotRequired[Any]
    finish: NotRequired[Any]
    tokens_in: NotRequired[int]
    tokens_out: NotRequired[int]
    latency_s: NotRequired[float | None]
    format: NotRequired[Any]
    cost: NotRequired[float | None]


@dataclass
class Conversation:
    """Messages in order, and their total cost."""

    messages: list[ShownMessage] = field(default_factory=list)
    tokens: int = 0
    cost: float | None = None


def conversation_of(runs_dir: Path, run_id: str, prompts: dict[str, str]) -> Conversation:
    """Read a transcript. `prompts` remembers between calls which run had a system prompt first."""
    talk = Conversation()
    seen: list[tuple[str, str]] = []
    try:
        recorded = read_transcript(RunPaths(runs_dir / run_id).transcript)
    except ConfigError:
        return talk
    if recorded.damage is not None:
        text = f"transcript.jsonl: {recorded.damage}"
        talk.messages.append({"role": "event", "kind": "damaged", "text": text, "ts": None})
    for event in recorded.events:
        kind = str(event.get("kind"))
        if kind == "request":
            seen = _request(talk, event, seen, run_id, prompts)
        elif kind == "response":
            _response(talk, event)
        else:
            _other(talk, kind, event)
    return talk


def _request(
    talk: Conversation,
    event: Mapping[str, Any],
    seen: Sequence[tuple[str, str]],
    run_id: str,
    prompts: dict[str, str],
) -> list[tuple[str, str]]:
    """Add the messages that are new; return all messages of the request."""
    stated = event.get("messages")
    messages = [
        (str(message.get("role")), _plain(message.get("content")))
        for message in (stated if isinstance(stated, list) else ())
        if isinstance(message, dict)
    ]
    answered = False
    shown_already = bool(talk.messages) and talk.messages[-1]["role"] == "refusal"
    for role, text in messages:
        if role == "assistant":
            answered = True
        elif answered and shown_already:
            # The transcript has the reason as an event of its own.
            continue
        elif (role, text) not in seen:
            # What follows an answer inside a request is why that answer could not be used.
            shown = "refusal" if answered and role == "user" else role
            message = ShownMessage(role=shown, text=text, ts=event.get("ts"))
            if role == "system":
                first = prompts.setdefault(text, run_id)
                if first != run_id:
                    message["text"], message["same_as"] = "", first
            talk.messages.append(message)
    return messages


def _response(talk: Conversation, event: Mapping[str, Any]) -> None:
    usage = event.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = (counted(usage.get(name)) or 0 for name in ("input_tokens", "output_tokens"))
    cost, ts = finite(event.get("cost_usd")), event.get("ts")
    talk.tokens += tokens_in + tokens_out
    if cost is not None:
        talk.cost = (talk.cost or 0.0) + cost
    if event.get("reasoning"):
        talk.messages.append({"role": "reasoning", "text": _plain(event["reasoning"]), "ts": ts})
    talk.messages.append(
        {
            "role": "assistant",
            "text": _plain(event.get("text")),
            "ts": ts,
            "model": event.get("model"),
            "finish": event.get("finish_reason"),
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "latency_s": finite(event.get("latency_s")),
            "format": event.get("answer_format"),
            "cost": cost,
        }
    )
    if event.get("refusal"):
        talk.messages.append({"role": "declined", "text": _plain(event["refusal"]), "ts": ts})
    for name in ("garbled", "warning"):
        if event.get(name):
            talk.messages.append({"role": "event", "kind": name, "text": _plain(event[name]), "ts": ts})


def _other(talk: Conversation, kind: str, event: Mapping[str, Any]) -> None:
    """Add an event that is neither request nor response: its reason if it has one, else all of it."""
    if kind == "fallback" and isinstance(event.get("proposer"), str):
        text = f"{event['proposer']} stepped in for the model"
        talk.messages.append({"role": "event", "kind": kind, "text": text, "ts": event.get("ts")})
        return
    reason = next((event[name] for name in _REASONS if isinstance(event.get(name), str)), None)
    text = reason if reason is not None else _plain({k: v for k, v in event.items() if k not in _HEAD})
    role = "refusal" if any(part in kind for part in _BAD) else "event"
    talk.messages.append({"role": role, "kind": kind, "text": text, "ts": event.get("ts")})


def _plain(content: Any) -> str:
    if content is None:
        return ""
    return content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False)


def fair_cap(lengths: Sequence[int], budget: int) -> int:
    """Return the largest cap at which the lengths, each cut to it, fit into the budget.

    Short texts stay whole. At most the longest length; 0 if nothing may be shown.
    """
    left, waiting = budget, len(lengths)
    for length in sorted(lengths):
        if length * waiting > left:
            return max(left // waiting, 0)
        left -= length
        waiting -= 1
    return max(lengths, default=0)


def shortened(text: str, limit: int) -> tuple[str, int]:
    """Return beginning and end of the text in about `limit` characters, and how many were left out."""
    if len(text) <= limit:
        return text, 0
    head, tail = limit - limit // 3, limit // 3
    cut = len(text) - head - tail
    return f"{text[:head]}\n… {cut:,} characters left out …\n{text[len(text) - tail :]}", cut

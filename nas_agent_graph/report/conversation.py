"""A run's conversation with the language model, as a report shows it: who said what, each word once.

A request repeats everything said before it, and every run begins with the same system prompt; both
are shown where they were said first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_agent_graph.llm.recording import Transcript
from nas_system.errors import ConfigError
from nas_system.files import finite

_HEAD = ("v", "seq", "ts", "run", "node", "kind", "attempt", "request_hash")
"""Fields of an event that are not what was said."""
_REASONS = ("reason", "refusal", "error", "message", "text")
_BAD = ("refus", "error", "invalid", "fail")
"""Parts of the kinds of events that tell of something that went wrong."""


@dataclass
class Conversation:
    """Messages in order, each with `role`, `text` and what is known of the call; what it took in all."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    cost: float | None = None


def conversation_of(runs_dir: Path, run_id: str, prompts: dict[str, str]) -> Conversation:
    """What the transcript holds. `prompts` remembers between calls which run had a system prompt first."""
    talk = Conversation()
    heard: list[tuple[str, str]] = []
    try:
        events = Transcript(runs_dir).events(run_id)
    except ConfigError:
        return talk
    for event in events:
        kind = str(event.get("kind"))
        if kind == "request":
            heard = _request(talk, event, heard, run_id, prompts)
        elif kind == "response":
            _response(talk, event)
        else:
            _other(talk, kind, event)
    return talk


def _request(
    talk: Conversation,
    event: Mapping[str, Any],
    heard: Sequence[tuple[str, str]],
    run_id: str,
    prompts: dict[str, str],
) -> list[tuple[str, str]]:
    """Add what is said for the first time; returns everything the request held."""
    stated = event.get("messages")
    messages = [
        (str(message.get("role")), _plain(message.get("content")))
        for message in (stated if isinstance(stated, list) else ())
        if isinstance(message, dict)
    ]
    answered = False
    told = bool(talk.messages) and talk.messages[-1]["role"] == "refusal"
    for role, text in messages:
        if role == "assistant":
            answered = True
        elif answered and told:
            # The transcript has its reason as an event of its own.
            continue
        elif (role, text) not in heard:
            # What follows an answer inside a request is why that answer could not be used.
            shown = "refusal" if answered and role == "user" else role
            message = {"role": shown, "text": text, "ts": event.get("ts")}
            if role == "system":
                first = prompts.setdefault(text, run_id)
                if first != run_id:
                    message |= {"text": "", "same_as": first}
            talk.messages.append(message)
    return messages


def _response(talk: Conversation, event: Mapping[str, Any]) -> None:
    usage = event.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    spent = [_count(usage.get(name)) for name in ("input_tokens", "output_tokens")]
    cost = finite(event.get("cost_usd"))
    talk.tokens += sum(spent)
    if cost is not None:
        talk.cost = (talk.cost or 0.0) + cost
    facts = {
        "ts": event.get("ts"),
        "model": event.get("model"),
        "finish": event.get("finish_reason"),
        "tokens_in": spent[0],
        "tokens_out": spent[1],
        "latency_s": finite(event.get("latency_s")),
        "format": event.get("answer_format"),
        "cost": cost,
    }
    if event.get("reasoning"):
        talk.messages.append({"role": "reasoning", "text": _plain(event["reasoning"]), "ts": event.get("ts")})
    talk.messages.append({"role": "assistant", "text": _plain(event.get("text")), **facts})
    if event.get("refusal"):
        talk.messages.append({"role": "declined", "text": _plain(event["refusal"]), "ts": event.get("ts")})
    for name in ("garbled", "warning"):
        if event.get(name):
            text = _plain(event[name])
            talk.messages.append({"role": "event", "kind": name, "text": text, "ts": event.get("ts")})


def _other(talk: Conversation, kind: str, event: Mapping[str, Any]) -> None:
    """An event of a kind that is neither question nor answer: its reason if it has one, else all of it."""
    if kind == "fallback" and isinstance(event.get("proposer"), str):
        text = f"{event['proposer']} stepped in for the model"
        talk.messages.append({"role": "event", "kind": kind, "text": text, "ts": event.get("ts")})
        return
    said = next((event[name] for name in _REASONS if isinstance(event.get(name), str)), None)
    text = said if said is not None else _plain({k: v for k, v in event.items() if k not in _HEAD})
    role = "refusal" if any(part in kind for part in _BAD) else "event"
    talk.messages.append({"role": role, "kind": kind, "text": text, "ts": event.get("ts")})


def _plain(content: Any) -> str:
    if content is None:
        return ""
    return content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False)


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 10**12 else 0


def fair_cap(lengths: Sequence[int], budget: int) -> int:
    """The largest cap at which the lengths, each cut to it, fit into the budget: short texts stay whole.

    At most the longest length; 0 if nothing may be shown.
    """
    left, waiting = budget, len(lengths)
    for length in sorted(lengths):
        if length * waiting > left:
            return max(left // waiting, 0)
        left -= length
        waiting -= 1
    return max(lengths, default=0)


def shortened(text: str, limit: int) -> tuple[str, int]:
    """Beginning and end of the text in at most about `limit` characters, and how many were left out."""
    if len(text) <= limit:
        return text, 0
    head, tail = limit - limit // 3, limit // 3
    cut = len(text) - head - tail
    return f"{text[:head]}\n… {cut:,} characters left out …\n{text[len(text) - tail :]}", cut

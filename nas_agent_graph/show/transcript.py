"""A run's conversation with the language model on one page: every message once, and what every answer cost.

`record_of_transcript` reads the transcript with any content; `transcript_lines` formats the record.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_agent_graph.llm.recording import paid_in, read_transcript, tokens_in
from nas_agent_graph.text.terminal import Line, dollars, duration, printable, wrapped
from nas_system.files import finite
from nas_system.processes.run_files import RunPaths

_INDENT = 2
_STYLES = {"system": "magenta", "user": "cyan", "assistant": "green"}


def record_of_transcript(runs_dir: Path, run_id: str) -> dict[str, Any]:
    """Return all events of the run as its transcript has them, and their sums, as plain JSON."""
    recorded = read_transcript(RunPaths(runs_dir / run_id).transcript)
    events = recorded.events
    responses = [event for event in events if event["kind"] == "response"]
    return {
        "run_id": run_id,
        "requests": sum(event["kind"] == "request" for event in events),
        "responses": len(responses),
        "refused": sum(event["kind"] == "refused" for event in events),
        "fallback": any(event["kind"] == "fallback" for event in events),
        "input_tokens": sum(tokens_in(event.get("usage"), "input_tokens") or 0 for event in responses),
        "output_tokens": sum(tokens_in(event.get("usage"), "output_tokens") or 0 for event in responses),
        "damaged_lines": recorded.damaged_lines,
        "problem": recorded.problem,
        "cost_usd": paid_in(events).cost_usd,
        "latency_s": round(sum(finite(event.get("latency_s")) or 0.0 for event in responses), 3),
        "events": events,
    }


def transcript_lines(record: Mapping[str, Any], width: int) -> list[Line]:
    """Format the conversation for people; what a request repeats of the one before is not shown again."""
    run_id, events = record["run_id"], record["events"]
    damaged = []
    if record["damaged_lines"]:
        text = f"{_count(record['damaged_lines'], 'line')} of transcript.jsonl cannot be read"
        if record["problem"] is not None:
            text = f"transcript.jsonl {record['problem']} and is not read"
        damaged = wrapped(text, width, style="bold yellow", indent=_INDENT)
    if not events:
        return [Line(f"{run_id}: nothing was exchanged with a language model", "bold"), *damaged]
    lines = wrapped(f"{run_id}: {_format_totals(record)}", width, style="bold", indent=_INDENT) + damaged
    seen: list[Any] = []
    for event in events:
        kind = event["kind"]
        lines.append(Line(""))
        if kind == "request":
            lines += _request_lines(event, seen, width)
            seen = _messages(event)
        elif kind == "response":
            lines += _response_lines(event, width)
            # The next request repeats it as the assistant's message.
            seen = [*seen, {"role": "assistant", "content": event.get("text")}]
        else:
            lines += _other_lines(event, width)
    return lines


def _format_totals(record: Mapping[str, Any]) -> str:
    text = f"{_count(record['requests'], 'question')}, {_count(record['responses'], 'answer')}"
    if record["refused"]:
        text += f", {record['refused']} refused"
    if record["fallback"]:
        text += ", a classical sampler stepped in"
    text += f"; {record['input_tokens']} tokens in, {record['output_tokens']} out"
    text += "" if record["cost_usd"] is None else f", {dollars(record['cost_usd'])}"
    return f"{text}, {duration(record['latency_s'])}"


def _request_lines(event: Mapping[str, Any], seen: Sequence[Any], width: int) -> list[Line]:
    messages = _messages(event)
    known = 0
    while known < min(len(seen), len(messages)) and _same(seen[known], messages[known]):
        known += 1
    model = printable(event.get("model") or "a model", 80)
    lines = _head(event, f"asked {model}", width)
    if known == len(messages):
        return [*lines, Line(f"{'':{_INDENT}}(the same {_count(known, 'message')} again)", "dim")]
    if known:
        lines.append(Line(f"{'':{_INDENT}}(after the {_count(known, 'message')} above)", "dim"))
    for message in messages[known:]:
        role = printable(message.get("role"), 20)
        lines.append(Line(f"[{role}]", f"bold {_STYLES.get(role, 'white')}"))
        lines += _text_lines(message.get("content"), width)
    return lines


def _response_lines(event: Mapping[str, Any], width: int) -> list[Line]:
    lines = _head(event, f"answer of {printable(event.get('model') or 'the model', 80)}", width)
    known = [f"{count} {name}" for name, count in _usage(event)]
    cost, latency = finite(event.get("cost_usd")), finite(event.get("latency_s"))
    known += [dollars(cost)] if cost is not None else []
    known += [duration(latency)] if latency is not None else []
    known += [
        f"{name.replace('_', ' ')}: {printable(event[name], 80)}"
        for name in ("finish_reason", "answer_format", "format")
        if event.get(name)
    ]
    lines += (
        wrapped(f"{'':{_INDENT}}({', '.join(known)})", width, style="dim", indent=_INDENT) if known else []
    )
    for name, style in (("reasoning", "dim"), ("refusal", "bold red")):
        if event.get(name):
            lines += [Line(f"[{name}]", style), *_text_lines(event[name], width)]
    return [*lines, Line("[assistant]", "bold green"), *_text_lines(event.get("text"), width)]


def _other_lines(event: Mapping[str, Any], width: int) -> list[Line]:
    """Format refusals, fallbacks, and any other event under its own name."""
    kind = printable(event["kind"], 40)
    titles = {
        "refused": "the answer was refused",
        "fallback": "a classical sampler stepped in",
        "failed": "no answer came, and the search paused",
    }
    style = "bold yellow" if kind in titles else "bold"
    lines = _head(event, titles.get(kind, kind), width, style)
    for name, value in event.items():
        if name not in _HEAD and value not in (None, "", {}, []):
            lines += _text_lines(value if name == "reason" else f"{name}: {value}", width)
    return lines


_HEAD = ("v", "seq", "ts", "run", "node", "attempt", "kind", "request_hash")


def _head(event: Mapping[str, Any], what: str, width: int, style: str = "bold") -> list[Line]:
    attempt = event.get("attempt")
    where = f"attempt {attempt}" if isinstance(attempt, int) else "attempt unknown"
    node = event.get("node")
    if node not in (None, "propose_config"):
        where = f"{printable(node, 40)}, {where}"
    return wrapped(f"--- {where}: {what}", width, style=style, indent=4)


def _text_lines(text: Any, width: int) -> list[Line]:
    """Wrap untrusted text, its own line breaks and indentation kept."""
    lines = []
    # Only real line breaks: str.splitlines would break at exotic separators, which are no line of a prompt.
    for line in str("" if text is None else text).split("\n"):
        plain = "".join(c if c.isprintable() else " " if c == "\t" else "" for c in line)
        own = len(plain) - len(plain.lstrip())
        indent = " " * (_INDENT + min(own, width // 2))
        pieces = textwrap.wrap(
            plain.strip(), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        lines += [Line(piece) for piece in pieces or [""]]
    return lines


def _messages(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    messages = event.get("messages")
    found = messages if isinstance(messages, list) else []
    return [message for message in found if isinstance(message, dict)]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two messages are the same; an answer that was cut before it went back counts."""
    if one.get("role") != other.get("role"):
        return False
    before, after = str(one.get("content")), str(other.get("content"))
    return before == after or (one.get("role") == "assistant" and after != "" and before.startswith(after))


def _usage(event: Mapping[str, Any]) -> list[tuple[str, int]]:
    found = []
    for name, label in (("input_tokens", "tokens in"), ("output_tokens", "out")):
        count = tokens_in(event.get("usage"), name)
        if count is not None:
            found.append((label, count))
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)

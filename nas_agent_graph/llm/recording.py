"""transcript.jsonl: every exchange with the model, append-only, one typed event per line.

Every event has `v, seq, ts, run, node, attempt, kind`. The kinds:

- `request`: `messages` in the OpenAI chat format, `model`, `settings` (what changes the answer),
  `circumstances` (what the search knew from its command line and machine), `request_hash` over the
  first three
- `response`: `text`, `finish_reason`, `model`, `usage`, `latency_s` and whatever else came back
- `refused`: `reason`, why the answer could not be trained
- `fallback`: `proposer`, the classical sampler that stepped in
- `failed`: `reason`, why no answer came and what to do; the search has paused

The file is also the cassette a search is replayed from, see `nas_agent_graph.llm.cassette`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from nas_agent_graph.budget import Left
from nas_agent_graph.context import Proposal, Proposer, SearchView
from nas_agent_graph.terminal import finite
from nas_system.nas_agent.run_manager import RunPaths

SCHEMA_VERSION = 1
MASK = "[key]"
COUNTED = ("input_tokens", "output_tokens")
_SHORTEST_SECRET = 8
"""Shorter ones are placeholders such as "none", and ordinary words."""


class Paid(NamedTuple):
    """What a run's answers took."""

    tokens: int
    cost_usd: float | None
    """None if no price is known."""


class Transcript:
    """The transcripts of a search: one file in each run's folder. One process writes them."""

    def __init__(
        self, runs_dir: Path, *, secret: str = "", now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """`secret` is masked in whatever is written: a server may quote the key that it refuses."""
        self.runs_dir = runs_dir
        self.last_request: dict[str, Any] | None = None
        """The question that is waiting for its answer."""
        self._secret = secret if len(secret) >= _SHORTEST_SECRET else ""
        self._now = now
        # Where each file stands, so that an append reads nothing: a file is read once, at its first append.
        self._next_seq: dict[str, int] = {}
        self._attempt: dict[str, int] = {}

    def append(
        self,
        run_id: str,
        kind: str,
        *,
        node: str = "propose_config",
        attempt: int | None = None,
        **content: Any,
    ) -> dict[str, Any]:
        """Write one event durably, and return it. Without `attempt` it belongs to the latest one."""
        closing = b"" if run_id in self._next_seq else self._take_up(run_id)
        if attempt is not None:
            self._attempt[run_id] = attempt
        content = self._masked(content)
        if kind == "request":
            content["request_hash"] = request_hash(
                content["messages"], content.get("model"), content.get("settings")
            )
        event = {
            "v": SCHEMA_VERSION,
            "seq": self._next_seq[run_id],
            "ts": self._now().isoformat(timespec="milliseconds"),
            "run": run_id,
            "node": node,
            "attempt": self._attempt[run_id],
            "kind": kind,
            **content,
        }
        with open(self._path(run_id), "ab") as file:
            file.write(closing + json.dumps(event, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._next_seq[run_id] += 1
        if kind == "request":
            self.last_request = event
        return event

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """The readable events of a run, in order; damaged lines are skipped."""
        return read_events(self._path(run_id))

    def last_answer(self, run_id: str) -> str | None:
        """What the model said last about this run."""
        answers = [event for event in self.events(run_id) if event.get("kind") == "response"]
        return answers[-1].get("text") if answers else None

    def paid(self, run_id: str) -> Paid:
        """What all answers about a run took, refused ones included: they are paid for, too."""
        return paid_in(self.events(run_id))

    def refused(self, view: SearchView) -> None:
        """Write down why the previous proposal for this run was refused; nothing if none was."""
        if view.refused:
            self.append(view.run_id, "refused", attempt=max(view.attempt - 1, 0), reason=view.refused[-1])

    def _take_up(self, run_id: str) -> bytes:
        """Learn where the file stands; returns what closes off a torn last line."""
        events = self.events(run_id)
        last = events[-1] if events else {}
        self._next_seq[run_id] = last.get("seq", len(events) - 1) + 1
        self._attempt[run_id] = last.get("attempt", 0)
        path = self._path(run_id)
        # It stays as it is, on a line of its own, so that what follows can be read.
        return b"\n" if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n") else b""

    def _masked(self, content: dict[str, Any]) -> dict[str, Any]:
        if not self._secret:
            return content
        spelled = json.dumps(self._secret)[1:-1]
        return json.loads(json.dumps(content, allow_nan=False).replace(spelled, MASK))

    def _path(self, run_id: str) -> Path:
        return RunPaths(self.runs_dir / run_id).transcript


class RecordedFallback:
    """A classical sampler that steps in for the model, and says so in the run's transcript."""

    def __init__(self, proposer: Proposer, transcript: Transcript) -> None:
        self.proposer = proposer
        self.transcript = transcript
        self.name = proposer.name

    def propose(self, view: SearchView) -> Proposal:
        self.transcript.refused(view)
        self.transcript.append(view.run_id, "fallback", attempt=view.attempt, proposer=self.name)
        proposal = self.proposer.propose(view)
        paid = self.transcript.paid(view.run_id)
        return replace(proposal, tokens=paid.tokens, cost_usd=paid.cost_usd)


def read_events(path: Path) -> list[dict[str, Any]]:
    """The readable events of a transcript, in order; damaged lines are skipped, no file has none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("kind"), str):
            events.append(event)
    return events


def paid_in(events: Sequence[Mapping[str, Any]]) -> Paid:
    """The sums over the answers among these events."""
    responses = [event for event in events if event.get("kind") == "response"]
    usages = [event.get("usage") for event in responses]
    counts = [usage.get(name) for usage in usages if isinstance(usage, dict) for name in COUNTED]
    costs = [cost for event in responses if (cost := finite(event.get("cost_usd"))) is not None]
    return Paid(
        tokens=sum(count for count in counts if isinstance(count, int)),
        cost_usd=round(sum(costs), 9) if costs else None,
    )


def request_hash(
    messages: Sequence[Mapping[str, Any]], model: str | None, settings: Mapping[str, Any] | None
) -> str:
    """SHA-256 over what decides about an answer. Two equal requests have equal hashes, on any machine."""
    asked = {"messages": [dict(m) for m in messages], "model": model, "settings": dict(settings or {})}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def circumstances_of(view: SearchView, families: Sequence[str]) -> dict[str, Any]:
    """What a prompt shows and neither the state nor the run folders tell: flags, packages, the clock."""
    left = view.left.to_record()
    return {
        "max_runs": view.max_runs,
        "families": list(families),
        **({"left": left} if left else {}),
        **({"run_seconds": view.run_seconds} if view.run_seconds is not None else {}),
    }


def under(circumstances: Mapping[str, Any], view: SearchView) -> SearchView:
    """The view as it was under these circumstances; what they do not tell stays."""
    max_runs, families = circumstances.get("max_runs"), circumstances.get("families")
    return replace(
        view,
        max_runs=max_runs if isinstance(max_runs, int) else view.max_runs,
        families=tuple(map(str, families)) if isinstance(families, list) else view.families,
        left=Left.from_record(circumstances.get("left")),
        run_seconds=finite(circumstances.get("run_seconds")),
    )

"""transcript.jsonl: every exchange with the model, append-only, one typed event per line.

Every event has `v, seq, ts, run, node, attempt, kind`. The kinds:

- `request`: `messages` in the OpenAI chat format, `model`, `settings` (what changes the answer),
  `circumstances` (what the search knew from its command line and machine), `request_hash` over the
  first three
- `response`: `text`, `finish_reason`, `model`, `usage`, `latency_s` and anything else the answer has
- `refused`: `reason`, why the answer could not be trained
- `fallback`: `proposer`, the classical sampler that stepped in
- `failed`: `reason`, why no answer came and what to do; the search has paused

The file is also the cassette a search is replayed from, see `nas_agent_graph.replay.cassette`.
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
from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.search_view import Proposal, Proposer, SearchView
from nas_system.errors import ConfigError
from nas_system.files import append_durably, finite
from nas_system.processes.run_files import RunPaths

SCHEMA_VERSION = 1
COUNTED = ("input_tokens", "output_tokens")


class Paid(NamedTuple):
    """What a run's answers cost."""

    tokens: int
    cost_usd: float | None
    """None if no price is known."""


class Transcript:
    """The transcripts of a search: one file in each run's folder. One process writes them."""

    def __init__(
        self,
        runs_dir: Path,
        *,
        secret: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry_until_space: Callable[[Callable[[], None]], None] = lambda write: write(),
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`secret` is masked in everything that is written: a server may quote the key that it refuses.
        `retry_until_space` repeats a write while the disk is full: an answer has been paid for. `warn`
        is called about damage."""
        self.runs_dir = runs_dir
        self.last_request: dict[str, Any] | None = None
        """The request that is waiting for its answer."""
        self._secret = secret
        self._now = now
        self._retry_until_space, self._warn = retry_until_space, warn
        # Where each file ends, so that an append reads nothing: a file is read once, at its first append.
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
        if run_id not in self._next_seq:
            self._retry_until_space(lambda: self._take_up(run_id))
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
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        self._retry_until_space(lambda: append_durably(self._path(run_id), line))
        self._next_seq[run_id] += 1
        if kind == "request":
            self.last_request = event
        return event

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """Read the events of a run, in order; damaged lines are skipped."""
        return read_events(self._path(run_id))

    def last_answer(self, run_id: str) -> str | None:
        """Return the text of the model's last answer about this run."""
        answers = [event for event in self.events(run_id) if event.get("kind") == "response"]
        return answers[-1].get("text") if answers else None

    def paid(self, run_id: str) -> Paid:
        """Return what all answers about a run cost, refused ones included."""
        return paid_in(self.events(run_id))

    def refused(self, view: SearchView) -> None:
        """Record why the previous proposal for this run was refused; nothing if none was."""
        if view.refused:
            self.append(view.run_id, "refused", attempt=max(view.attempt - 1, 0), reason=view.refused[-1])

    def _take_up(self, run_id: str) -> None:
        """Find where the file ends, and repair a truncated last line."""
        path = self._path(run_id)
        if _cut_torn_end(path):
            self._warn(f"{path}: its last line was truncated; the rest of it is kept in {path.name}.torn")
        if damaged := damaged_lines(path):
            self._warn(f"{path}: {damaged} of its lines cannot be read and are skipped")
        events = self.events(run_id)
        last = events[-1] if events else {}
        seq, attempt = last.get("seq"), last.get("attempt")
        self._attempt[run_id] = attempt if isinstance(attempt, int) else 0
        self._next_seq[run_id] = (seq if isinstance(seq, int) else len(events) - 1) + 1

    def _masked(self, content: dict[str, Any]) -> dict[str, Any]:
        spelled = json.dumps(self._secret)[1:-1]
        return json.loads(redacted(json.dumps(content, allow_nan=False), spelled))

    def _path(self, run_id: str) -> Path:
        return RunPaths(self.runs_dir / run_id).transcript


class RecordedFallback:
    """A classical sampler that steps in for the model, and records it in the run's transcript."""

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
    """Read the events of a transcript, in order; damaged lines are skipped, a missing file has none."""
    return [event for line in _lines(path) if (event := _event_in(line)) is not None]


def damaged_lines(path: Path) -> int:
    """Count the lines of a transcript that `read_events` skips."""
    return sum(_event_in(line) is None for line in _lines(path))


def _lines(path: Path) -> list[bytes]:
    """Read the lines that are not blank. Raises ConfigError for a file that cannot be read."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    return [line for line in content.split(b"\n") if line.strip()]


def _event_in(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def _cut_torn_end(path: Path) -> bool:
    """Complete the last line if only its line break is missing; else move it to `transcript.jsonl.torn`,
    and return True.

    A process that is killed while it writes leaves such a line, and the next event would be appended to it.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False
    end = content.rfind(b"\n") + 1
    torn = content[end:]
    if not torn:
        return False
    if _event_in(torn) is not None:
        append_durably(path, b"\n")
        return False
    append_durably(path.with_name(path.name + ".torn"), torn + b"\n")
    os.truncate(path, end)
    return True


def paid_in(events: Sequence[Mapping[str, Any]]) -> Paid:
    """Sum over the answers among these events."""
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
    """Return the SHA-256 of what determines an answer: equal requests have equal hashes on any machine."""
    asked = {"messages": [dict(m) for m in messages], "model": model, "settings": dict(settings or {})}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def circumstances_of(view: SearchView, families: Sequence[str]) -> dict[str, Any]:
    """Return what a prompt shows that is not in the state or the run folders: flags, packages, the clock."""
    left = view.left.to_record()
    return {
        "max_runs": view.max_runs,
        "families": list(families),
        **({"left": left} if left else {}),
        **({"run_seconds": view.run_seconds} if view.run_seconds is not None else {}),
    }


def under(circumstances: Mapping[str, Any], view: SearchView) -> SearchView:
    """Return the view as it was under these circumstances; what they do not contain is kept."""
    max_runs, families = circumstances.get("max_runs"), circumstances.get("families")
    return replace(
        view,
        max_runs=max_runs if isinstance(max_runs, int) else view.max_runs,
        families=tuple(map(str, families)) if isinstance(families, list) else view.families,
        left=Left.from_record(circumstances.get("left")),
        run_seconds=finite(circumstances.get("run_seconds")),
    )

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from nas_agent_graph.budget import Left
from nas_agent_graph.llm.redaction import redacted
from nas_agent_graph.search_view import Proposal, Proposer, RunView, SearchView
from nas_system.errors import ConfigError, advice_on_limit
from nas_system.files import append_durably, finite, read_bounded, set_aside, write_atomic
from nas_system.processes.run_files import RunPaths

SCHEMA_VERSION = 1
LARGEST_TRANSCRIPT_BYTES = 64 * 2**20
"""A run's conversation, with every answer refused, takes less than one MiB."""
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
        """Find where the file ends, and repair a truncated last line; set aside what is no transcript."""
        path = self._path(run_id)
        recorded = read_transcript(path)
        if recorded.problem is not None:
            aside = set_aside(path)
            self._warn(f"{path} {recorded.problem}; it is set aside as {aside.name}")
        elif _cut_torn_end(path):
            self._warn(f"{path}: its last line was truncated; the rest of it is kept in {path.name}.torn")
            recorded = read_transcript(path)
        if recorded.problem is None and recorded.damage:
            self._warn(f"{path}: {recorded.damage}")
        events = recorded.events
        last = events[-1] if events else {}
        seq, attempt = counted(last.get("seq")), counted(last.get("attempt"))
        self._attempt[run_id] = attempt or 0
        self._next_seq[run_id] = (len(events) - 1 if seq is None else seq) + 1

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
        wasted = view.refused[-1] if view.refused and paid.tokens else ""
        return replace(proposal, tokens=paid.tokens, cost_usd=paid.cost_usd, wasted=wasted)


class Recorded(NamedTuple):
    """What can be read of a transcript."""

    events: list[dict[str, Any]]
    """In order."""
    damaged_lines: int = 0
    """Lines that are no events; a file that is not read at all counts as one."""
    problem: str | None = None
    """Why the file is not read at all: it is a link, no file, or larger than any transcript."""

    @property
    def damage(self) -> str | None:
        """Return what is wrong with the file, behind its name; None if nothing is."""
        if self.problem is not None:
            return f"{self.problem} and is not read"
        if self.damaged_lines:
            return f"{self.damaged_lines} of its lines cannot be read and are skipped"
        return None


def read_transcript(path: Path) -> Recorded:
    """Read a transcript that anybody may have written; a missing one has no events.

    Raises ConfigError where its owner or its disk does not let us, OSError where no file can be opened.
    """
    try:
        content = read_bounded(path, LARGEST_TRANSCRIPT_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return Recorded([])
    except ValueError as error:
        return Recorded([], 1, str(error))
    except OSError as error:
        if advice_on_limit(error.errno):
            raise
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    events = [_event_in(line) for line in content.split(b"\n") if line.strip()]
    return Recorded([event for event in events if event is not None], events.count(None))


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read the events of a transcript, in order; damaged lines are skipped, a missing file has none."""
    return read_transcript(path).events


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
        content = read_bounded(path, LARGEST_TRANSCRIPT_BYTES)
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
    write_atomic(path, content[:end])
    return True


def paid_in(events: Sequence[Mapping[str, Any]]) -> Paid:
    """Sum over the answers among these events."""
    responses = [event for event in events if event.get("kind") == "response"]
    usages = [event.get("usage") for event in responses]
    counts = [tokens_in(usage, name) for usage in usages for name in COUNTED]
    costs = [cost for event in responses if (cost := finite(event.get("cost_usd"))) is not None]
    return Paid(
        tokens=sum(count or 0 for count in counts),
        cost_usd=round(sum(costs), 9) if costs else None,
    )


def tokens_in(usage: object, name: str) -> int | None:
    """Return a number of tokens that a service has stated; None if there is none that can be."""
    return counted(usage.get(name)) if isinstance(usage, dict) else None


def counted(value: object) -> int | None:
    """Return a whole number as a file of ours may hold it; None for anything else."""
    return value if type(value) is int and 0 <= value < 10**12 else None


def request_hash(
    messages: Sequence[Mapping[str, Any]], model: str | None, settings: Mapping[str, Any] | None
) -> str:
    """Return the SHA-256 of what determines an answer: equal requests have equal hashes on any machine."""
    asked = {"messages": [dict(m) for m in messages], "model": model, "settings": dict(settings or {})}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def circumstances_of(view: SearchView, families: Sequence[str]) -> dict[str, Any]:
    """Return what a prompt shows that no file of a recording says later: flags, packages, the clock, the
    epochs so far, what the losses on single windows tell."""
    left = view.left.to_record()
    return {
        "max_runs": view.max_runs,
        "families": list(families),
        **({"left": left} if left else {}),
        **({"run_seconds": view.run_seconds} if view.run_seconds is not None else {}),
        **({"run_steps": view.run_steps} if view.run_steps is not None else {}),
        **({"running": {r.run_id: [r.epochs, r.best_so_far] for r in view.running}} if view.running else {}),
        **({"resolution": view.resolution} if view.resolution is not None else {}),
        **({"final": view.final} if view.final else {}),
        **({"repeats_left": view.repeats_left} if view.repeats_left else {}),
    }


def moment_in(circumstances: Mapping[str, Any]) -> dict[str, int]:
    """Return how far the search had come when the model was asked; empty where that was not written down."""
    found = circumstances.get("moment")
    return {
        name: number
        for name, value in (found if isinstance(found, dict) else {}).items()
        if (number := counted(value)) is not None
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
        run_steps=counted(circumstances.get("run_steps")),
        running=tuple(_as_far_as(circumstances.get("running"), run) for run in view.running),
        resolution=finite(circumstances.get("resolution")),
        final=counted(circumstances.get("final")) or 0,
        repeats_left=counted(circumstances.get("repeats_left")) or 0,
    )


def _as_far_as(recorded: object, run: RunView) -> RunView:
    """Return a run in progress as far as it had come, by what a prompt's circumstances say of it."""
    match recorded.get(run.run_id) if isinstance(recorded, dict) else None:
        case [int() as epochs, best]:
            return replace(run, epochs=epochs, best_so_far=finite(best))
    return run

"""transcript.jsonl: every exchange with the model, append-only, one typed event per line."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


class Transcript:
    """The transcripts of a search: one file in each run's folder."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir

    def append(self, run_id: str, kind: str, **content: Any) -> None:
        """Write one event durably. The caller keeps keys out of it."""
        events = self.events(run_id)
        event = {
            "v": SCHEMA_VERSION,
            "seq": len(events),
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": run_id,
            "node": "propose_config",
            "kind": kind,
            **content,
        }
        path = self._path(run_id)
        torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        with open(path, "ab") as file:
            # A torn last line stays as it is, closed off, so that what follows can be read.
            file.write((b"\n" if torn else b"") + json.dumps(event, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """The readable events of a run, in order; damaged lines are skipped."""
        try:
            lines = self._path(run_id).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def last_answer(self, run_id: str) -> str | None:
        """What the model said last about this run."""
        answers = [event for event in self.events(run_id) if event.get("kind") == "response"]
        return answers[-1].get("text") if answers else None

    def _path(self, run_id: str) -> Path:
        return self.runs_dir / run_id / "transcript.jsonl"

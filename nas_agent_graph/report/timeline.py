"""Which slot of a search trained what, and when: the data of the report's timeline.

Slots have no names: of trainings that overlap each gets a row of its own, and a row is used again as soon
as it is free. The times are those that supervisors and their files tell, which anybody may have edited.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from nas_system.files import finite, read_record
from nas_system.nas_agent.agent_state import AgentState
from nas_system.processes.run_files import RunPaths

MOST_REPEATS = 100
"""Repeats of one run that are looked at."""
MOST_ROWS = 64
"""Rows that are drawn; what trained next to so many others is counted."""
_LONGEST_PAUSE = 0.1
"""A pause of the whole search that is longer than this share of the time that it trained is cut out."""
_SHORTEST_CUT_S = 60.0
_YEAR_S = 366 * 86400.0


@dataclass(frozen=True)
class Span:
    """A training from its start to its end, in seconds."""

    run_id: str
    repeat: str | None
    """Name of the repeat's folder; None for the run's own training."""
    start: float
    end: float
    trained_s: float
    """What the supervisor measured; start and end are rounded."""
    purpose: str | None = None
    """Of a repeat, where the search's state knows it."""
    running: bool = False
    row: int = 0


class Bar(TypedDict):
    run: str
    repeat: str | None
    purpose: str | None
    row: int
    start: float
    """Seconds on the timeline, pauses left out, like `end`."""
    end: float
    seconds: float
    running: bool


class Pause(TypedDict):
    """A time in which nothing trained, and which is left out."""

    at: float
    seconds: float


class Timeline(TypedDict):
    began: str
    rows: int
    seconds: float
    """Length, pauses left out."""
    share: float
    """Share of the rows' time in which they trained."""
    bars: list[Bar]
    pauses: list[Pause]
    left_out: int
    """Trainings for which there was no row left."""


def timeline_of(runs_dir: Path, state: AgentState, now: datetime, *, live: bool) -> Timeline | None:
    """Return the timeline; None unless trainings of different runs overlapped."""
    spans = sorted(_spans(runs_dir, state, now, live=live), key=lambda span: (span.start, span.end))
    if not _overlap(spans):
        return None
    rowed = _in_rows(spans)
    drawn = [span for span in rowed if span.row < MOST_ROWS]
    breaks = _breaks(drawn)
    begin, end = drawn[0].start, max(span.end for span in drawn)
    rows = 1 + max(span.row for span in drawn)
    seconds = end - begin - sum(length for _, length in breaks)

    def place(moment: float) -> float:
        return round(moment - begin - sum(length for at, length in breaks if at < moment), 3)

    return Timeline(
        began=datetime.fromtimestamp(begin, UTC).isoformat(timespec="seconds"),
        rows=rows,
        seconds=round(seconds, 3),
        share=min(sum(span.trained_s for span in drawn) / (rows * max(seconds, 1e-3)), 1.0),
        bars=[
            Bar(
                run=span.run_id,
                repeat=span.repeat,
                purpose=span.purpose,
                row=span.row,
                start=place(span.start),
                end=place(span.end),
                seconds=round(span.trained_s, 3),
                running=span.running,
            )
            for span in drawn
        ],
        pauses=[Pause(at=place(at), seconds=round(length, 3)) for at, length in breaks],
        left_out=len(rowed) - len(drawn),
    )


def _spans(runs_dir: Path, state: AgentState, now: datetime, *, live: bool) -> Iterator[Span]:
    """Yield the last attempt of every training; earlier ones have left no times behind."""
    begun = {run.run_id for run in state.in_progress} if live else set()
    purposes = {repeat.training_id: repeat.purpose for repeat in state.repeats}
    purposes |= {run.run_id: run.purpose for run in state.in_progress if run.purpose}
    for run_id in state.run_ids:
        folder = runs_dir / run_id
        span = _span(folder, run_id, None, now, running=run_id in begun)
        if span is not None:
            yield span
        repeats = folder / "repeats"
        if repeats.is_dir() and not repeats.is_symlink():
            for path in itertools.islice(repeats.glob("seed_*"), MOST_REPEATS):
                name = f"{run_id}/repeats/{path.name}"
                # In a search that began before repeats were in the state, a run is begun until they ended.
                span = _span(path, run_id, path.name, now, running=bool(begun & {name, run_id}))
                if span is not None and not path.is_symlink():
                    yield replace(span, purpose=purposes.get(name))


def _span(folder: Path, run_id: str, repeat: str | None, now: datetime, *, running: bool) -> Span | None:
    """Read when a training began and ended; None if it does not say, or says what cannot be."""
    paths, now_s = RunPaths(folder), now.timestamp()
    exit_record = read_record(paths.exit)
    record = exit_record or (read_record(paths.process) if running else None) or {}
    start, end = _seconds(record.get("started_at")), _seconds(record.get("ended_at"))
    if exit_record is None:
        end = now_s
    # The clock of another machine may be ahead of this one.
    if start is None or end is None or not start <= end <= now_s + 86400 or end - start > _YEAR_S:
        return None
    wall_s = finite(record.get("wall_s"))
    trained_s = end - start
    if wall_s is not None and 0 <= wall_s <= trained_s + 1:
        trained_s = wall_s
    return Span(run_id, repeat, start, end, trained_s, running=exit_record is None)


def _seconds(stamp: Any) -> float | None:
    """Return the Unix time that an ISO 8601 stamp names; without a time zone it is in UTC."""
    if not isinstance(stamp, str) or len(stamp) > 40:
        return None
    try:
        moment = datetime.fromisoformat(stamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _overlap(spans: Sequence[Span]) -> bool:
    """Return whether trainings of different runs overlapped; `spans` are in the order of their starts."""
    latest: dict[str, float] = {}
    for span in spans:
        if any(end > span.start for run_id, end in latest.items() if run_id != span.run_id):
            return True
        latest = {run_id: end for run_id, end in latest.items() if end > span.start}
        latest[span.run_id] = max(latest.get(span.run_id, -math.inf), span.end)
    return False


def _in_rows(spans: Sequence[Span]) -> list[Span]:
    """Give each training the first row that is free when it starts."""
    free_from: list[float] = []
    placed = []
    for span in spans:
        row = next((row for row, end in enumerate(free_from) if end <= span.start), len(free_from))
        free_from[row:] = [span.end, *free_from[row + 1 :]]
        placed.append(replace(span, row=row))
    return placed


def _breaks(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """Return when a long pause of the whole search began, and how many seconds of it are left out."""
    pauses, trained_s, until = [], 0.0, spans[0].start
    for span in spans:
        if span.start > until:
            pauses.append((until, span.start - until))
        trained_s += max(0.0, span.end - max(span.start, until))
        until = max(until, span.end)
    longest = max(_SHORTEST_CUT_S, _LONGEST_PAUSE * trained_s)
    return [(at, length) for at, length in pauses if length > longest]

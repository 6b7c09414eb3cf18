"""Tells a person what a search is doing: plain lines for files and pipes, a live display for terminals.

`build_progress` chooses. Whatever others have written (a language model's hypothesis, an error
message) goes through `printable` before it is shown.
"""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Self, TextIO

from nas_agent_graph.acceptance import VerdictRecord
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Progress, Proposal
from nas_agent_graph.progress.tracker import ProgressTracker, format_noise, format_verdict
from nas_agent_graph.show.leaderboard import data_lines
from nas_agent_graph.text.task_labels import baselines_label
from nas_agent_graph.text.terminal import duration, is_terminal, printable
from nas_system.nas_agent.agent_state import AgentState, RunInfo
from nas_system.space import RunConfig

EPOCH_LINE_EVERY_S = 1.0
"""Epochs that come faster than this share a line."""
SIGN_OF_LIFE_EVERY_S = 60.0
"""A training that says nothing for so long gets a line nevertheless."""


def build_progress(stream: TextIO | None = None) -> Progress:
    """A live display if `stream` (default: stdout) is a terminal that can show one, else plain lines."""
    out: TextIO = sys.stdout if stream is None else stream
    if isinstance(out, io.TextIOWrapper):
        # What a stream cannot spell becomes a question mark; it must not end a search.
        out.reconfigure(errors="replace")
    if not is_terminal(out):
        return PlainProgress(out)
    from nas_agent_graph.progress.live import LiveProgress

    return LiveProgress(out)


class PlainProgress:
    """One or two lines an event, flushed at once; no carriage return, no colour."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._watch = ProgressTracker(clock)
        self._last_line_at = -math.inf
        self._unsaid = False
        """Whether there is an epoch that no line has told of."""

    def begin(self, state: AgentState, facts: dict[str, Any], limits: Limits) -> None:
        watch = self._watch
        watch.begin(state, facts, limits)
        for line in data_lines(state.data or facts.get("source"), 10_000):
            self._say(line.text)
        if watch.baselines:
            self._say(f"{watch.metric} of {baselines_label(state.task)}: {watch.format_baselines()}")
        best = watch.format_best()
        self._say(watch.format_totals() + (f"; {best}" if best else ""))

    def proposed(self, run_id: str, proposal: Proposal, config: RunConfig) -> None:
        watch = self._watch
        watch.proposed(run_id, proposal, config)
        self._unsaid = False
        self._say(f"{run_id} proposed by {watch.proposer}: {config.model.family}, {watch.changes}")
        if watch.hypothesis:
            self._say(f"{run_id} because: {watch.hypothesis}")

    def refused(self, run_id: str, reason: str, proposer: str) -> None:
        self._say(f"{run_id} proposal by {printable(proposer, 40)} refused: {printable(reason, 600)}")

    def training(self, run_id: str, label: str, history: dict[str, Any] | None) -> None:
        watch = self._watch
        started = label != watch.label
        self._unsaid |= watch.training(label, history)
        if started:
            self._say(f"{printable(label, 80)} training")
        silent_s = watch.clock() - self._last_line_at
        if not silent_s >= (EPOCH_LINE_EVERY_S if self._unsaid else SIGN_OF_LIFE_EVERY_S):
            return
        self._unsaid = False
        left, best = watch.run_seconds_left(), watch.format_best()
        text = f"{printable(label, 80)} {watch.format_epoch()}" + (f" ({best})" if best else "")
        self._say(text + (f" up to {duration(left)} left" if left is not None else ""))

    def finished(self, run: RunInfo, verdict: VerdictRecord) -> None:
        first = self._watch.done == 0
        self._watch.finished(run, verdict)
        said = format_verdict(run, verdict, self._watch.metric)
        self._say(f"{said}; {self._watch.format_totals()}")
        noise = format_noise(verdict)
        if first and noise:
            self._say(noise)

    def note(self, text: str) -> None:
        self._say(f"note: {printable(text, 1000)}")

    def close(self) -> None:
        """Nothing to restore."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _say(self, text: str) -> None:
        self._last_line_at = self._watch.clock()
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):
            # The reader is gone (`| head`), the disk is full or the stream closed: the search goes on unseen.
            self._stream = io.StringIO()

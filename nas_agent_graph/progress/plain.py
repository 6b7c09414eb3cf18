"""Reports what a search is doing: plain lines for files and pipes, a live display for terminals.

`build_progress` chooses. Untrusted text (a language model's hypothesis, an error message) goes
through `printable` before it is shown.
"""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Progress, Proposal
from nas_agent_graph.progress.tracker import ProgressTracker, format_noise, format_repeat, format_verdict
from nas_agent_graph.progress.training import Training
from nas_agent_graph.show.data_source import data_lines
from nas_agent_graph.text.terminal import duration, is_terminal, printable
from nas_system.nas_agent.agent_state import AgentState, RepeatInfo, RunInfo
from nas_system.space import RunConfig
from nas_system.space.task_info import TaskInfo

EPOCH_LINE_EVERY_S = 1.0
"""Epochs that end faster than this share a line."""
SIGN_OF_LIFE_EVERY_S = 60.0
"""A training without a finished epoch for so long gets a line nevertheless."""


def build_progress(stream: TextIO | None = None) -> Progress:
    """Build a live display if `stream` (default: stdout) is a terminal, else plain lines."""
    out: TextIO = sys.stdout if stream is None else stream
    if isinstance(out, io.TextIOWrapper):
        # What a stream cannot encode becomes a question mark; it must not end a search.
        out.reconfigure(errors="replace")
    if not is_terminal(out):
        return PlainProgress(out)
    from nas_agent_graph.progress.live import LiveProgress

    return LiveProgress(out)


class PlainProgress:
    """One or two lines an event, flushed at once; no carriage return, no colour."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._tracker = ProgressTracker(clock)
        self._last_line_at = -math.inf
        """When there was a line about the search; those about a training keep their own time."""

    def begin(self, state: AgentState, info: TaskInfo | None, limits: Limits) -> None:
        tracker = self._tracker
        tracker.begin(state, info, limits)
        for line in data_lines(state.data, 10_000):
            self._print(line.text)
        if tracker.baselines:
            self._print(f"{tracker.metric} of {state.labels.baselines}: {tracker.format_baselines()}")
        best = tracker.format_best()
        self._print(tracker.format_totals() + (f"; {best}" if best else ""))

    def proposed(self, run_id: str, proposal: Proposal, config: RunConfig) -> None:
        run = self._tracker.proposed(run_id, proposal, config)
        self._print(f"{run_id} proposed by {run.proposer}: {run.family}, {run.changes}")
        if run.hypothesis:
            self._print(f"{run_id} because: {run.hypothesis}")

    def refused(self, run_id: str, reason: str, proposer: str) -> None:
        self._print(f"{run_id} proposal by {printable(proposer, 40)} refused: {printable(reason, 600)}")

    def training(self, run_id: str, label: str, history: Mapping[str, object] | None) -> None:
        tracker = self._tracker
        training = tracker.training(label, history)
        now = tracker.clock()
        if training.told_at == -math.inf:
            self._print(f"{printable(label, 80)} training", training)
        silent_s = now - max(training.told_at, self._last_line_at)
        if not silent_s >= (EPOCH_LINE_EVERY_S if training.is_untold else SIGN_OF_LIFE_EVERY_S):
            return
        training.is_untold = False
        left, best = training.seconds_left(now), tracker.format_best()
        text = f"{printable(label, 80)} {training.format_epoch(tracker.metric)}" + (
            f" ({best})" if best else ""
        )
        self._print(text + (f" up to {duration(left)} left" if left is not None else ""), training)

    def finished(self, run: RunInfo, verdict: Mapping[str, object]) -> None:
        first = self._tracker.done == 0
        self._tracker.finished(run, verdict)
        line = format_verdict(run, verdict, self._tracker.metric)
        self._print(f"{line}; {self._tracker.format_totals()}")
        noise = format_noise(verdict)
        if first and noise:
            self._print(noise)
        if self._tracker.begins_draining():
            self._print(self._tracker.format_draining())

    def repeated(self, repeat: RepeatInfo, state: AgentState) -> None:
        self._tracker.repeated(repeat, state)
        self._print(format_repeat(repeat, state))

    def note(self, text: str) -> None:
        self._print(f"note: {printable(text, 1000)}")

    def close(self) -> None:
        """Nothing to restore."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _print(self, text: str, training: Training | None = None) -> None:
        """Print a line, about the search unless it is about one training: those do not silence each other."""
        now = self._tracker.clock()
        if training is None:
            self._last_line_at = now
        else:
            training.told_at = now
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):
            # The reader is gone (`| head`), the disk is full or the stream closed: the search goes on unseen.
            self._stream = io.StringIO()

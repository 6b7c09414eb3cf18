"""The live display of a search: the trainings that run, what it has to beat, and how far the search is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Proposal
from nas_agent_graph.progress.tracker import ProgressTracker, format_noise, format_repeat, format_verdict
from nas_agent_graph.progress.training import Training
from nas_agent_graph.progress.training_table import TrainingTable
from nas_agent_graph.show.data_source import data_lines
from nas_agent_graph.text.terminal import duration, printable, sparkline
from nas_system.nas_agent.agent_state import AgentState, RepeatInfo, RunInfo
from nas_system.space import RunConfig
from nas_system.space.task_info import TaskInfo

FRAMES_PER_SECOND = 4
LAST_RUNS = 4
MOST_TRAININGS = 8
"""Trainings with a line of their own."""
_SHORT_TERMINAL = 24
"""Rows; with fewer the last runs are left out."""


class LiveProgress:
    """Redraws itself in a thread of its own, so that `training` costs next to nothing."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._tracker = ProgressTracker(clock)
        self._activity = "starting"
        self._live: Live | None = None

    def begin(self, state: AgentState, info: TaskInfo | None, limits: Limits) -> None:
        self._tracker.begin(state, info, limits)
        for line in data_lines(state.data, self._console.width):
            self._above(line.text, line.style)
        self._live = Live(
            console=self._console, get_renderable=self.frame, refresh_per_second=FRAMES_PER_SECOND
        )
        self._live.start()

    def proposed(self, run_id: str, proposal: Proposal, config: RunConfig) -> None:
        self._tracker.proposed(run_id, proposal, config)
        self._activity = "starting the training"

    def refused(self, run_id: str, reason: str, proposer: str) -> None:
        who = printable(proposer, 40)
        self._above(f"{run_id} proposal by {who} refused: {printable(reason, 600)}", "yellow")
        self._activity = "asking for another proposal"

    def training(self, run_id: str, label: str, history: Mapping[str, object] | None) -> None:
        self._tracker.training(label, history)
        self._activity = "training"

    def finished(self, run: RunInfo, verdict: Mapping[str, object]) -> None:
        first = self._tracker.done == 0
        self._tracker.finished(run, verdict)
        self._activity = "asking for a proposal"
        if run.accepted or run.status != "OK":
            line = format_verdict(run, verdict, self._tracker.metric)
            self._above(line, "green" if run.accepted else "red")
        noise = format_noise(verdict)
        if first and noise:
            self._above(noise)
        if self._tracker.begins_draining():
            self._above(self._tracker.format_draining(), "yellow")

    def repeated(self, repeat: RepeatInfo, state: AgentState) -> None:
        self._tracker.repeated(repeat, state)
        self._above(format_repeat(repeat, state), "" if repeat.status == "OK" else "red")

    def note(self, text: str) -> None:
        self._above(f"note: {printable(text, 1000)}", "yellow")

    def close(self) -> None:
        """Keep the last frame and restore the terminal; may be called twice."""
        if self._live is not None:
            self._activity = "ended"
            self._live.stop()
            self._live = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _above(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def frame(self) -> RenderableType:
        """Return what the screen shows now. Markup is off on this console: nothing is read as such."""
        tracker = self._tracker
        is_tall = self._console.height >= _SHORT_TERMINAL
        title = Text(f" {tracker.format_totals()} ", style="bold")
        parts: list[RenderableType] = [Rule(title, style="dim", align="left")]
        # Where trainings have run side by side, there is a line for each, also while there is but one.
        if tracker.side_by_side > 1:
            parts += self._trainings(MOST_TRAININGS if is_tall else MOST_TRAININGS // 2)
        else:
            parts += self._only_run()
        parts.append(self._comparison())
        if is_tall:
            parts += self._last_runs()
        return Group(*parts)

    def _only_run(self) -> list[RenderableType]:
        run, training = self._tracker.latest, self._only_training()
        if run is None:
            return [Text(f"{self._activity} ...", style="dim")]
        head = Text.assemble((run.run_id, "bold"), f"  {run.family}  ", (f"by {run.proposer}", "dim"))
        lines: list[RenderableType] = [head, _cut(f"  {run.changes}")]
        if run.hypothesis:
            lines.append(_cut(f"  {run.hypothesis}", "dim italic"))
        lines.append(
            Text(f"  {self._activity} ...", style="dim") if training is None else self._bar(training)
        )
        return lines

    def _only_training(self) -> Training | None:
        return next(iter(self._tracker.running), None) if self._tracker.side_by_side <= 1 else None

    def _bar(self, training: Training) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        left = training.seconds_left(self._tracker.clock())
        text = training.format_epoch(self._tracker.metric)
        text += f"  up to {duration(left)} left" if left is not None else ""
        if training.repeat:
            text += f"  ({printable(training.repeat, 60)})"
        bar = ProgressBar(total=training.max_epochs or 1, completed=len(training.scores), width=20)
        row.add_row(Text(" "), bar, Text(text, overflow="ellipsis", no_wrap=True))
        return row

    def _trainings(self, most: int) -> list[RenderableType]:
        """Return a line per training, and one about what the search does meanwhile."""
        tracker = self._tracker
        running = tracker.running
        lines: list[RenderableType] = []
        if running:
            lines.append(
                TrainingTable(
                    running[:most], tracker.metric, tracker.direction, tracker.best_score, tracker.clock()
                )
            )
        if len(running) > most:
            lines.append(Text(f"  and {len(running) - most} more", style="dim"))
        if tracker.is_drained:
            status = tracker.format_draining()
        else:
            status = f"{len(running)} training"
            status += "" if self._activity == "training" else f", {self._activity} ..."
        return [*lines, _cut(f"  {status}", "dim")]

    def _comparison(self) -> RenderableType:
        """The scores that count: the only training's, the best run's, and the baselines'."""
        tracker, width = self._tracker, max(self._console.width - 52, 8)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        training = self._only_training()
        scores = training.scores if training is not None else []
        known = [score for score in scores if score is not None]
        if known:
            best, own = tracker.best_run.val_score if tracker.best_run else None, tracker.best_of(known)
            against = "" if best is None else f"  {own - best:+.5f} to the best"
            curve = Text(sparkline(scores, width, tracker.direction) + against, style="cyan")
            grid.add_row("  this run", f"{own:.5f}", curve)
        if tracker.best_run is not None and tracker.best_run.val_score is not None:
            name = f"  best, {tracker.best_run.run_id}"
            curve = Text(sparkline(tracker.curve, width, tracker.direction), style="green")
            grid.add_row(Text(name, style="green"), f"{tracker.best_run.val_score:.5f}", curve)
        for name, score in tracker.baselines:
            grid.add_row(Text(f"  {name}", style="dim"), Text(f"{score:.5f}", style="dim"), "")
        return grid

    def _last_runs(self) -> list[RenderableType]:
        runs = list(self._tracker.recent)[-LAST_RUNS:]
        if not runs:
            return []
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for header in ("last runs", self._tracker.metric, "family"):
            table.add_column(Text(header), no_wrap=True)
        table.add_column()
        for run in runs:
            score, verdict, style = _format_run(run)
            family = printable(run.family or "?", 20)
            table.add_row(f"  {run.run_id}", score, family, _cut(verdict), style=style)
        return [table]


def _cut(text: str, style: str = "") -> Text:
    """Return text that stays on one line: too much of it is cut."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _format_run(run: RunInfo) -> tuple[str, str, str]:
    """Return score, verdict and style of a finished run."""
    if run.status != "OK" or run.val_score is None:
        return printable(run.status, 20), printable(run.cause or ""), "red"
    verdict, style = ("accepted", "green") if run.accepted else ("not accepted", "")
    return f"{run.val_score:.5f}", verdict, style

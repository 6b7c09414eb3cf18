"""The live display of a search: the training under way, what it has to beat, and how far the search is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from nas_agent_graph.acceptance import VerdictRecord
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Proposal
from nas_agent_graph.progress.tracker import ProgressTracker, format_noise, format_verdict
from nas_agent_graph.show.leaderboard import data_lines
from nas_agent_graph.text.terminal import Column, cut, duration, printable, sparkline, table
from nas_system.nas_agent.agent_state import AgentState, RunInfo
from nas_system.space import RunConfig

FRAMES_PER_SECOND = 4
LAST_RUNS = 4
_SHORT_TERMINAL = 24
"""Rows; with fewer the last runs are left out."""


class LiveProgress:
    """Redraws itself in a thread of its own, so that `training` costs next to nothing."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._watch = ProgressTracker(clock)
        self._activity = "starting"
        self._live: Live | None = None

    def begin(self, state: AgentState, facts: dict[str, Any], limits: Limits) -> None:
        self._watch.begin(state, facts, limits)
        for line in data_lines(state.data or facts.get("source"), self._console.width):
            self._above(line.text, line.style)
        self._live = Live(
            console=self._console, get_renderable=self.frame, refresh_per_second=FRAMES_PER_SECOND
        )
        self._live.start()

    def proposed(self, run_id: str, proposal: Proposal, config: RunConfig) -> None:
        self._watch.proposed(run_id, proposal, config)
        self._activity = "starting the training"

    def refused(self, run_id: str, reason: str, proposer: str) -> None:
        who = printable(proposer, 40)
        self._above(f"{run_id} proposal by {who} refused: {printable(reason, 600)}", "yellow")
        self._activity = "asking for another proposal"

    def training(self, run_id: str, label: str, history: dict[str, Any] | None) -> None:
        self._watch.training(label, history)
        self._activity = "training"

    def finished(self, run: RunInfo, verdict: VerdictRecord) -> None:
        first = self._watch.done == 0
        self._watch.finished(run, verdict)
        self._activity = "asking for a proposal"
        if run.accepted or run.status != "OK":
            said = format_verdict(run, verdict, self._watch.metric)
            self._above(said, "green" if run.accepted else "red")
        noise = format_noise(verdict)
        if first and noise:
            self._above(noise)

    def note(self, text: str) -> None:
        self._above(f"note: {printable(text, 1000)}", "yellow")

    def close(self) -> None:
        """Leave the last frame standing and give the terminal back; may be called twice."""
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
        """What stands on the screen now. Every text is a `Text`: nothing in it is read as markup."""
        watch = self._watch
        title = Text(f" {watch.format_totals()} ", style="bold")
        parts: list[RenderableType] = [Rule(title, style="dim", align="left"), *self._run_lines()]
        parts.append(self._yardsticks())
        if self._console.height >= _SHORT_TERMINAL:
            parts += self._last_runs()
        return Group(*parts)

    def _run_lines(self) -> list[RenderableType]:
        watch = self._watch
        if not watch.run_id:
            return [Text(f"{self._activity} ...", style="dim")]
        width = self._console.width
        family = watch.config.model.family if watch.config else ""
        head = Text.assemble((watch.run_id, "bold"), f"  {family}  ", (f"by {watch.proposer}", "dim"))
        lines: list[RenderableType] = [head, Text(cut(f"  {watch.changes}", width))]
        if watch.hypothesis:
            lines.append(Text(cut(f"  {watch.hypothesis}", width), style="dim italic"))
        lines.append(self._bar())
        return lines

    def _bar(self) -> RenderableType:
        watch = self._watch
        if not watch.label:
            return Text(f"  {self._activity} ...", style="dim")
        row = Table.grid(padding=(0, 1))
        left = watch.run_seconds_left()
        words = watch.format_epoch() + (f"  up to {duration(left)} left" if left is not None else "")
        if watch.label != watch.run_id:
            words += f"  ({printable(watch.label, 60).removeprefix(watch.run_id).lstrip(', ')})"
        bar = ProgressBar(total=watch.max_epochs or 1, completed=len(watch.scores), width=20)
        row.add_row(Text(" "), bar, Text(words, overflow="ellipsis", no_wrap=True))
        return row

    def _yardsticks(self) -> RenderableType:
        """The scores that count: this run's, the best run's, and the baselines'."""
        watch, width = self._watch, max(self._console.width - 52, 8)
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        known = [score for score in watch.scores if score is not None]
        if known:
            best = watch.best_run.val_score if watch.best_run else None
            against = "" if best is None else f"  {min(known) - best:+.5f} to the best"
            curve = Text(sparkline(watch.scores, width) + against, style="cyan")
            grid.add_row("  this run", f"{min(known):.5f}", curve)
        if watch.best_run is not None and watch.best_run.val_score is not None:
            name = f"  best, {watch.best_run.run_id}"
            curve = Text(sparkline(watch.curve, width), style="green")
            grid.add_row(Text(name, style="green"), f"{watch.best_run.val_score:.5f}", curve)
        for name, score in watch.baselines:
            grid.add_row(Text(f"  {name}", style="dim"), Text(f"{score:.5f}", style="dim"), "")
        return grid

    def _last_runs(self) -> list[RenderableType]:
        runs = list(self._watch.recent)[-LAST_RUNS:]
        if not runs:
            return []
        rows = [_format_run(run) for run in runs]
        columns = [
            Column("last runs", [f"  {run.run_id}" for run in runs]),
            Column(self._watch.metric, [score for score, _, _ in rows]),
            Column("family", [printable(run.family or "?", 20) for run in runs]),
            Column("", [words for _, words, _ in rows], least=12),
        ]
        lines = table(columns, [style for _, _, style in rows], self._console.width)
        return [Text(line.text, style=line.style) for line in lines]


def _format_run(run: RunInfo) -> tuple[str, str, str]:
    """Score, verdict and style of a finished run."""
    if run.status != "OK" or run.val_score is None:
        return printable(run.status, 20), printable(run.cause or ""), "red"
    words, style = ("accepted", "green") if run.accepted else ("not accepted", "")
    return f"{run.val_score:.5f}", words, style

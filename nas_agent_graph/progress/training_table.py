"""The live display's table of trainings that run side by side: one line each, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas_agent_graph.progress.training import Training
from nas_agent_graph.text.terminal import duration, printable
from nas_system.space.score import Direction, is_better, loss_of

_GAP = 2
_WIDEST_BAR, _NARROWEST_BAR = 20, 3
_WIDEST_NAME, _NARROWEST_NAME = 22, 8
_MOST_PERCENT = 1000


@dataclass(frozen=True)
class TrainingTable:
    """Run id, family, epochs with a bar, best score, that against the best run's, and time left.

    What a narrow terminal has no room for is taken from the bar first, then from the family; then the last
    columns are left out.
    """

    running: Sequence[Training]
    metric: str
    direction: Direction
    best: float | None
    """The best run's score."""
    now: float
    """By the displays' clock."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._drawn(options.max_width)

    def _drawn(self, width: int) -> Table:
        ids = [f"  {printable(training.run_id, 40)}" for training in self.running]
        names = [printable(_name(training), 60) for training in self.running]
        columns = [
            ("epoch", [_format_epochs(training) for training in self.running]),
            (self.metric, [_format_score(self._score(training), training) for training in self.running]),
            ("to best", [self._format_difference(training) for training in self.running]),
            ("left", [_format_left(training, self.now) for training in self.running]),
        ]
        columns = [(header, cells) for header, cells in columns if any(cells)]
        name_width = min(_natural("family", names), _WIDEST_NAME)
        while columns and _width(ids, columns) + min(name_width, _NARROWEST_NAME) > width:
            columns.pop()
        room = width - _width(ids, columns)
        bar_width = min(room - name_width - _GAP, _WIDEST_BAR)
        if bar_width < _NARROWEST_BAR:
            name_width = max(name_width - _NARROWEST_BAR + bar_width, min(name_width, _NARROWEST_NAME))
            bar_width = room - name_width - _GAP
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("  run", no_wrap=True)
        table.add_column("family", no_wrap=True, overflow="ellipsis", width=name_width)
        if bar_width >= _NARROWEST_BAR:
            table.add_column(width=bar_width)
        for header, _ in columns:
            table.add_column(Text(header), justify="right", no_wrap=True)
        for index, training in enumerate(self.running):
            bar = ProgressBar(training.max_epochs or 1, len(training.scores), width=max(bar_width, 1))
            style = "green" if self._is_ahead(training) else ""
            table.add_row(
                Text(ids[index], style="bold"),
                Text(names[index]),
                *([bar] if bar_width >= _NARROWEST_BAR else []),
                *(Text(cells[index], style=style) for _, cells in columns),
            )
        return table

    def _score(self, training: Training) -> float | None:
        known = [score for score in training.scores if score is not None]
        return min(known, key=lambda score: loss_of(score, self.direction)) if known else None

    def _is_ahead(self, training: Training) -> bool:
        """Return whether the training is better already than the best run."""
        score = self._score(training)
        return self.best is not None and score is not None and is_better(score, self.best, self.direction)

    def _format_difference(self, training: Training) -> str:
        """Format the score minus the best run's, in percent of that: `+12 %`."""
        score = self._score(training)
        if not self.best or score is None:
            return ""
        percent = 100 * (score - self.best) / abs(self.best)
        if abs(percent) >= _MOST_PERCENT:
            return f"> +{_MOST_PERCENT} %" if percent > 0 else f"< -{_MOST_PERCENT} %"
        return f"{percent:+.1f} %" if abs(percent) < 9.95 else f"{percent:+.0f} %"


def _name(training: Training) -> str:
    """Return the family, or which repeat it is."""
    return training.repeat.partition(" with ")[0] or training.candidate.family


def _width(ids: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]]) -> int:
    """Return what all columns but the family and the bar take, with the gaps before them."""
    return _natural("  run", ids) + _GAP + sum(_natural(header, cells) + _GAP for header, cells in columns)


def _natural(header: str, cells: Sequence[str]) -> int:
    return max(map(cell_len, (header, *cells)))


def _format_epochs(training: Training) -> str:
    return str(len(training.scores)) + ("" if training.max_epochs is None else f"/{training.max_epochs}")


def _format_score(score: float | None, training: Training) -> str:
    if score is None:
        return "not finite" if training.scores else ""
    return f"{score:.5f}" if abs(score) < 1e5 else f"{score:.3g}"


def _format_left(training: Training, now: float) -> str:
    left = training.seconds_left(now)
    return "" if left is None else duration(left)

"""What is known of a search while it runs, and how it is formatted; both displays show this."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Proposal
from nas_agent_graph.text.terminal import duration, format_changes, printable
from nas_system.files import finite
from nas_system.nas_agent.agent_state import AgentState, RunInfo, get_best_run
from nas_system.nas_agent.outcome import Status
from nas_system.space import RunConfig
from nas_system.space.score import Direction, loss_of
from nas_system.space.task_info import TaskInfo

_RECENT = 10
"""Finished runs from which the search's remaining time is estimated."""


class ProgressTracker:
    """The state of a running search as the displays show it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began = self.changed = clock()
        self.limits: Limits | None = None
        self.metric = AgentState().metric
        self.direction: Direction = "minimize"
        self.noise: float | None = None
        self.baselines: list[tuple[str, float]] = []
        self.done = 0
        self.best_run: RunInfo | None = None
        self.curve: list[float] = []
        """Best score so far, one entry per finished run with a score."""
        self.recent: deque[RunInfo] = deque(maxlen=_RECENT)
        self.pace: deque[float] = deque(maxlen=_RECENT)
        """Seconds from one finished run to the next, latest last."""
        self.run_id = self.proposer = self.changes = ""
        self.hypothesis = ""
        self.config: RunConfig | None = None
        self.label = ""
        self.scores: list[float | None] = []
        """Validation scores of the running training's epochs."""
        self.epoch_seen = self.began
        self.epoch_s: float | None = None
        self.planned_epochs: int | None = None
        """Of the running training, once it has written what it plans."""

    def begin(self, state: AgentState, info: TaskInfo | None, limits: Limits) -> None:
        self.began = self.changed = self.clock()
        self.limits = limits
        self.noise, self.metric, self.direction = state.noise, state.metric, state.direction
        baselines = info.baselines if info else ()
        rows = [(printable(baseline.name, 40), baseline.on("val", state.metric)) for baseline in baselines]
        known = [(name, score) for name, score in rows if score is not None]
        self.baselines = sorted(known, key=lambda row: loss_of(row[1], self.direction))
        for run in state.runs:
            self._count(run)
            if run.seconds is not None:
                self.pace.append(run.seconds)
        self.best_run = get_best_run(state)

    def proposed(self, run_id: str, proposal: Proposal, config: RunConfig) -> None:
        parent = f", from {proposal.parent}" if proposal.parent else ""
        self.run_id, self.proposer = run_id, printable(proposal.proposer, 40) + parent
        changes = [{"parameter": change.parameter, "value": change.value} for change in proposal.changes]
        self.changes = format_changes(changes) or "no change"
        self.hypothesis = printable(proposal.hypothesis)
        self.config = config
        self.label, self.scores = "", []

    def training(self, label: str, history: Mapping[str, object] | None) -> bool:
        """Read what a training has written; return True if there is a new epoch."""
        now = self.clock()
        if label != self.label:
            self.label, self.scores, self.epoch_s, self.planned_epochs = label, [], None, None
            self.epoch_seen = now
        epochs = history.get("epochs") if history else None
        if not isinstance(epochs, list) or len(epochs) == len(self.scores):
            return False
        planned = finite(history.get("planned_epochs")) if history else None
        self.planned_epochs = None if planned is None else int(planned)
        entries = [epoch if isinstance(epoch, dict) else {} for epoch in epochs]
        self.scores = [finite(entry.get(self.metric)) for entry in entries]
        seconds = [s for entry in entries if (s := finite(entry.get("seconds"))) is not None]
        self.epoch_s = statistics.fmean(seconds) if seconds else None
        self.epoch_seen = now
        return bool(entries)

    def finished(self, run: RunInfo, verdict: Mapping[str, object]) -> None:
        now = self.clock()
        self.pace.append(now - self.changed)
        self.changed = now
        self._count(run)
        self.noise = finite(verdict.get("noise"))
        if run.accepted:
            self.best_run = run
        self.run_id = self.label = ""
        self.scores = []

    def _count(self, run: RunInfo) -> None:
        self.done += 1
        self.recent.append(run)
        if run.status == "OK" and run.val_score is not None:
            self.curve.append(self.best_of([run.val_score, *self.curve[-1:]]))

    def best_of(self, scores: Iterable[float]) -> float:
        """Return the best of the scores, of which there is at least one."""
        return min(scores, key=lambda score: loss_of(score, self.direction))

    @property
    def max_runs(self) -> int:
        return self.limits.max_runs if self.limits else 0

    @property
    def max_epochs(self) -> int | None:
        if (
            self.planned_epochs is not None
            or self.config is None
            or self.config.training.max_steps is not None
        ):
            return self.planned_epochs
        return self.config.training.max_epochs

    def run_seconds_left(self) -> float | None:
        """Return, by the clock, the rest of the planned epochs at the pace so far; None before the first and
        after the last. Early stopping may end a training before."""
        if self.epoch_s is None or self.max_epochs is None or len(self.scores) >= self.max_epochs:
            return None
        epochs = self.max_epochs - len(self.scores)
        return max(epochs * self.epoch_s - (self.clock() - self.epoch_seen), 0.0)

    def search_seconds_left(self) -> float | None:
        """Estimate from the median of the latest runs: the base config with its repeats takes longer."""
        if self.limits is None or not self.pace:
            return None
        now = self.clock()
        left = statistics.median(self.pace) * (self.max_runs - self.done) - (now - self.changed)
        if self.limits.max_seconds is not None:
            left = min(left, self.limits.max_seconds - (now - self.began))
        return max(left, 0.0)

    def format_epoch(self) -> str:
        """Format finished epochs of the most there can be: `epoch 4/10 val_mse 0.05310`."""
        of = f"/{self.max_epochs}" if self.max_epochs is not None else ""
        if not self.scores:
            return f"no epoch finished yet{f' (of {self.max_epochs})' if of else ''}"
        latest = self.scores[-1]
        score = "not finite" if latest is None else f"{latest:.5f}"
        return f"epoch {len(self.scores)}{of} {self.metric} {score}"

    def format_best(self) -> str:
        if self.best_run is None or self.best_run.val_score is None:
            return ""
        return f"best {self.best_run.val_score:.5f} {self.best_run.run_id}"

    def format_totals(self) -> str:
        """Format `4/100 runs done, about 12 min left`."""
        left = self.search_seconds_left() if self.done < self.max_runs else None
        about = f", about {duration(left)} left" if left is not None else ""
        return f"{self.done}/{self.max_runs} runs done{about}"

    def format_baselines(self) -> str:
        return ", ".join(f"{name} {score:.5f}" for name, score in self.baselines)


def format_verdict(run: RunInfo, verdict: Mapping[str, object], metric: str) -> str:
    """Format a finished run in one line; `metric` is the task's."""
    took = f" ({duration(run.seconds)})" if run.seconds is not None else ""
    if run.status == Status.PRUNED:
        return f"{run.run_id} {printable(run.cause or 'stopped early')}{took}"
    if run.status != "OK" or run.val_score is None:
        return f"{run.run_id} {printable(run.status, 20)}: {printable(run.cause or 'no finite score')}{took}"
    accepted = "ACCEPTED" if run.accepted else "not accepted"
    score = f"{metric} {run.val_score:.5f}"
    return f"{run.run_id} {score} {accepted}: {printable(verdict.get('reason', ''))}{took}"


def format_noise(verdict: Mapping[str, object]) -> str | None:
    noise = finite(verdict.get("noise"))
    return None if noise is None else f"noise {noise:.5f} over {verdict.get('noise_runs')} seeds"

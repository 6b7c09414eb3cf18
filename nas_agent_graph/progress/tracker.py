"""What is known of a search while it runs, and how it is formatted; both displays show this."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from nas_agent_graph.budget import Limits, Spent
from nas_agent_graph.context import Proposal
from nas_agent_graph.progress.training import Candidate, Training
from nas_agent_graph.text.terminal import duration, format_changes, printable
from nas_system.files import finite
from nas_system.nas_agent.agent_state import (
    AgentState,
    RepeatInfo,
    RunInfo,
    get_best_run,
    get_run,
    mean_score,
    scores_of,
)
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
        self.tokens, self.cost_usd = 0, 0.0
        self.best_run: RunInfo | None = None
        self.best_score: float | None = None
        """Mean of the best run over its seeds."""
        self.curve: list[float] = []
        """Best score so far, one entry per finished run with a score."""
        self.recent: deque[RunInfo] = deque(maxlen=_RECENT)
        self.pace: deque[float] = deque(maxlen=_RECENT)
        """Seconds from one finished run to the next, latest last."""
        self.candidates: dict[str, Candidate | None] = {}
        """Runs in progress; None for one that an earlier agent began and this one has not taken up yet."""
        self.trainings: dict[str, Training] = {}
        """Trainings of the runs in progress, by their labels."""
        self._of_run: dict[str, list[Training]] = {}
        """The same by their runs."""
        self.side_by_side = 0
        """Most trainings that were seen to run at once."""
        self.is_drained = False
        """Whether a limit is reached, and what still trains is waited for."""

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
        self._lead(state)
        self.candidates = {run.run_id: None for run in state.runs_in_progress}

    def proposed(self, run_id: str, proposal: Proposal, config: RunConfig) -> Candidate:
        parent = f", from {proposal.parent}" if proposal.parent else ""
        changes = [{"parameter": change.parameter, "value": change.value} for change in proposal.changes]
        candidate = Candidate(
            run_id,
            proposer=printable(proposal.proposer, 40) + parent,
            changes=format_changes(changes) or "no change",
            hypothesis=printable(proposal.hypothesis),
            config=config,
            tokens=proposal.tokens,
            cost_usd=proposal.cost_usd or 0.0,
        )
        self._forget(run_id)
        self.candidates[run_id] = candidate
        return candidate

    def training(self, label: str, history: Mapping[str, object] | None) -> Training:
        """Read what a training has written; return it as it stands."""
        now, run_id = self.clock(), label.partition(",")[0]
        training = self.trainings.get(label)
        siblings = [other for other in self._of_run.get(run_id, ()) if other is not training]
        if training is None:
            training = Training(label, self.candidates.get(run_id) or Candidate(run_id), now)
            # A repeat takes the place of the training before it, unless that is seen once more.
            for other in siblings:
                other.has_ended = True
            self.trainings = {**self.trainings, label: training}
            self._of_run.setdefault(run_id, []).append(training)
            is_more = True
        else:
            is_more = training.has_ended
        training.has_ended, training.missed = False, 0
        for other in siblings:
            other.missed += 1
            other.has_ended |= other.missed > 2 * len(siblings)
        training.is_untold |= training.read(history, self.metric, now)
        if is_more:
            self.side_by_side = max(self.side_by_side, len(self.running))
        return training

    @property
    def running(self) -> list[Training]:
        """Trainings that run, in the order of their runs."""
        running = [training for training in self.trainings.values() if not training.has_ended]
        return sorted(running, key=lambda training: (len(training.run_id), training.label))

    @property
    def latest(self) -> Candidate | None:
        """The run in progress that was proposed last."""
        return next((run for run in reversed(self.candidates.values()) if run is not None), None)

    def finished(self, run: RunInfo, verdict: Mapping[str, object]) -> None:
        now = self.clock()
        self.pace.append(now - self.changed)
        self.changed = now
        self._count(run)
        self.noise = finite(verdict.get("noise"))
        if run.accepted:
            self.best_run, self.best_score = run, _mean_with_repeats(run, verdict)
        self._forget(run.run_id)

    def repeated(self, repeat: RepeatInfo, state: AgentState) -> None:
        """Count a repeat that has ended."""
        self.changed = self.clock()
        self._lead(state)
        self._forget(repeat.run_id)

    def _lead(self, state: AgentState) -> None:
        self.best_run = get_best_run(state)
        self.best_score = None if self.best_run is None else mean_score(state, self.best_run)

    def begins_draining(self) -> bool:
        """Return whether, for the first time, a slot stays empty because a limit of the search is reached,
        while other runs are still training."""
        begun = list(self.candidates.values())
        if self.is_drained or self.limits is None or not begun or None in begun:
            return False
        spent = Spent(
            self.done + len(begun),
            self.clock() - self.began,
            self.tokens + sum(run.tokens for run in begun if run),
            self.cost_usd + sum(run.cost_usd for run in begun if run),
        )
        self.is_drained = self.limits.reached(spent) is not None
        return self.is_drained

    def _forget(self, run_id: str) -> None:
        """Drop a run that is no longer in progress. The live display's thread may read the old objects."""
        self.candidates = {name: run for name, run in self.candidates.items() if name != run_id}
        self._of_run.pop(run_id, None)
        self.trainings = {
            label: training for label, training in self.trainings.items() if training.run_id != run_id
        }

    def _count(self, run: RunInfo) -> None:
        self.done += 1
        self.tokens += run.tokens
        self.cost_usd += run.cost_usd or 0.0
        self.recent.append(run)
        if run.status == "OK" and run.val_score is not None:
            self.curve.append(self.best_of([run.val_score, *self.curve[-1:]]))

    def best_of(self, scores: Iterable[float]) -> float:
        """Return the best of the scores, of which there is at least one."""
        return min(scores, key=lambda score: loss_of(score, self.direction))

    @property
    def max_runs(self) -> int:
        return self.limits.max_runs if self.limits else 0

    def search_seconds_left(self) -> float | None:
        """Estimate from the median of the latest runs: the base config with its repeats takes longer."""
        pace_s = self._seconds_per_run()
        if self.limits is None or pace_s is None:
            return None
        now = self.clock()
        left = pace_s * (self.max_runs - self.done) - (now - self.changed)
        if self.limits.max_seconds is not None:
            left = min(left, self.limits.max_seconds - (now - self.began))
        return max(left, 0.0)

    def _seconds_per_run(self) -> float | None:
        """Return how often a run ends; side by side they end in bursts, so their own lengths tell."""
        if self.side_by_side <= 1:
            return statistics.median(self.pace) if self.pace else None
        seconds = [run.seconds for run in self.recent if run.seconds is not None]
        return statistics.median(seconds) / self.side_by_side if seconds else None

    def format_draining(self) -> str:
        """Format what is waited for at a limit."""
        count = len(self.candidates)
        runs = "1 run that is" if count == 1 else f"{count} runs that are"
        return f"limit reached: waiting for {runs} still training"

    def format_best(self) -> str:
        if self.best_run is None or self.best_score is None:
            return ""
        return f"best {self.best_score:.5f} {self.best_run.run_id}"

    def format_totals(self) -> str:
        """Format `4/100 runs done, about 12 min left`."""
        left = self.search_seconds_left() if self.done < self.max_runs else None
        about = f", about {duration(left)} left" if left is not None else ""
        return f"{self.done}/{self.max_runs} runs done{about}"

    def format_baselines(self) -> str:
        return ", ".join(f"{name} {score:.5f}" for name, score in self.baselines)


def _mean_with_repeats(run: RunInfo, verdict: Mapping[str, object]) -> float | None:
    """Return the mean of the run's score and of those of the repeats that ended with it."""
    repeats = verdict.get("repeats")
    scores = [run.val_score] + [
        finite(repeat.get("val_score"))
        for repeat in (repeats if isinstance(repeats, list) else ())
        if repeat.get("status") == "OK"
    ]
    known = [score for score in scores if score is not None]
    return statistics.fmean(known) if known else None


def format_repeat(repeat: RepeatInfo, state: AgentState) -> str:
    """Format a repeat that has ended in one line."""
    run = get_run(state, repeat.run_id)
    end = repeat.status
    if repeat.status == "OK" and repeat.val_score is not None:
        end = f"{state.metric} {repeat.val_score:.5f}"
    mean = None if run is None else mean_score(state, run)
    if run is not None and mean is not None:
        end += f", mean {mean:.5f} of {len(scores_of(state, run))}"
    leads = ", leads" if state.best_run_id == repeat.run_id else f", {state.best_run_id} leads"
    return f"{repeat.run_id} with seed {repeat.seed} ({repeat.purpose}): {end}{leads}"


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

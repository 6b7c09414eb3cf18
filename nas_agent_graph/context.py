"""What the nodes work with: the search's memory, proposer, launcher and limits.

Everything that must be swapped (proposer, launcher, clock, progress) is a parameter here,
described by a Protocol.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from nas_agent_graph.acceptance import VerdictRecord
from nas_agent_graph.analysis.resolution import resolution_of
from nas_agent_graph.analysis.standings import KnownCandidates, KnownOfSeeds, known_of_seeds
from nas_agent_graph.analysis.training_facts import training_facts
from nas_agent_graph.budget import Limits, Spent
from nas_agent_graph.host.clock import Clock as Clock
from nas_agent_graph.host.clock import SystemClock as SystemClock
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.host.signals import SearchInterrupted as SearchInterrupted
from nas_agent_graph.host.signals import StopRequest as StopRequest
from nas_agent_graph.pool.moments import moment_of
from nas_agent_graph.pool.slots import Slots as Slots
from nas_agent_graph.search_view import CONTINUED as CONTINUED
from nas_agent_graph.search_view import LONGEST_REASON as LONGEST_REASON
from nas_agent_graph.search_view import PRUNED, arm_in, run_in_progress, wasted_in
from nas_agent_graph.search_view import AnswerPending as AnswerPending
from nas_agent_graph.search_view import Proposal as Proposal
from nas_agent_graph.search_view import Proposer as Proposer
from nas_agent_graph.search_view import RunView as RunView
from nas_agent_graph.search_view import SearchView as SearchView
from nas_agent_graph.search_view import ThinkingProposer as ThinkingProposer
from nas_agent_graph.search_view import refuse_if_running as refuse_if_running
from nas_agent_graph.selection.candidates import Repeat
from nas_agent_graph.selection.circumstances import Circumstances
from nas_agent_graph.selection.rule import final_size
from nas_agent_graph.text.notes import NotesReader
from nas_system.errors import SearchPaused as SearchPaused
from nas_system.files import finite
from nas_system.nas_agent.agent_state import AgentState, RepeatInfo, RunInfo, parts_of_repeat
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.outcome import Outcome, read_outcome
from nas_system.nas_agent.pruned import read_pruned
from nas_system.processes.job import Job
from nas_system.space import RunConfig
from nas_system.space.series_defaults import SeriesFit
from nas_system.space.task_info import TaskInfo

RunState = Literal["absent", "queued", "running", "finished", "lost", "unknown"]
"""How a training stands: not started, waiting for a cluster's node, running, ended on record, ended without a
record; or nobody can tell for the moment."""
IN_PROGRESS: frozenset[RunState] = frozenset(("queued", "running", "unknown"))
"""States in which it may still train, or begin to."""

_TEST_METRIC = re.compile(r"(?<![a-z])(?:test|sealed|hold[-_ ]?out).*\d.*", re.IGNORECASE | re.DOTALL)


class Launcher(Protocol):
    """Starts and watches trainings, on this machine or elsewhere; a training's handle is its run directory.

    What only the machine that trains can tell (liveness, memory, devices) is asked of the launcher.
    """

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        """Start the attempt unless it has begun already. Raises RunError if it cannot be started."""
        ...

    def survey(self, run_dirs: Sequence[Path]) -> Mapping[Path, RunState]:
        """Return how each of these trainings stands, whoever started it."""
        ...

    def n_queued(self, run_dirs: Sequence[Path]) -> int:
        """Return how many of these trainings wait for a cluster's node."""
        ...

    def is_running(self, run_dir: Path) -> bool:
        """Return whether the training is alive and supervised: its files may still change."""
        ...

    def cancel(self, run_dir: Path, *, force: bool = False) -> None:
        """Ask the training to end, or kill it with `force`; idempotent."""
        ...

    def call(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        """Run `python -m module` to its end and return what it printed. Raises ConfigError or RunError."""
        ...

    def memory_limit_mb(self) -> int | None:
        """Return the MiB that a training may hold where it runs unless a person sets a limit; None: any."""
        ...

    def cores(self) -> int:
        """Return how many cores trainings may use together."""
        ...

    def cuda_devices(self, name: str) -> tuple[str, ...]:
        """Return the CUDA devices behind a device's name, as `CUDA_VISIBLE_DEVICES` names them."""
        ...

    def check_device(self, name: str) -> None:
        """Raise ConfigError for a device that trainings would not find."""
        ...

    def check_sandbox(self) -> str | None:
        """Return what the sandbox of trainings does not hold, for people; None if it holds everything.

        Raises ConfigError if it is required and does not hold.
        """
        ...


class SearchLauncher(Launcher, Protocol):
    """A launcher that may keep processes of its own while a search runs."""

    def warm_up(self, runs_dir: Path, modules: Sequence[str]) -> None:
        """Prepare for trainings, which need `modules`, so that each starts in less time. Does not wait."""
        ...

    def finish(self, runs_dir: Path) -> None:
        """Return once all is there that belongs to the finished runs. Raises RunError if it is not."""
        ...

    def close(self) -> None:
        """End what `warm_up` has started. Trainings go on."""
        ...


@dataclass(frozen=True)
class Recomputed:
    """What a run's best weights give on the validation part."""

    score: float | None
    """None if they give no score, for the reason in `problem`."""
    samples: int
    problem: str | None = None


class Verify(Protocol):
    """Computes validation scores again, from the weights that trainings left."""

    def __call__(self, run_dirs: Sequence[Path], *, timeout_s: float) -> Sequence[Recomputed | None]:
        """Return a score for each folder, None for one whose training is taken at its word.

        Raises SearchPaused if the machine is to blame.
        """
        ...


class Progress(Protocol):
    """Shows people what is going on."""

    def begin(self, state: AgentState, info: TaskInfo | None, limits: Limits) -> None: ...
    def proposed(self, run_id: str, proposal: Proposal, config: RunConfig) -> None: ...
    def refused(self, run_id: str, reason: str, proposer: str) -> None: ...
    def training(self, run_id: str, label: str, history: Mapping[str, Any] | None) -> None:
        """Show a training; called again and again while it runs. `label` is its name for people."""
        ...

    def finished(self, run: RunInfo, verdict: VerdictRecord) -> None: ...
    def repeated(self, repeat: RepeatInfo, state: AgentState) -> None:
        """Show a repeat that has ended; `state` is what the search knows with it."""
        ...

    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


class RepeatRule(Protocol):
    """Says which run is to be trained once more with another seed."""

    def due(self, ledger: Ledger, told: Circumstances) -> Repeat | None:
        """Return the run and the purpose; None if no repeat is due now."""
        ...


@dataclass(frozen=True)
class Context:
    """What every node gets next to the state."""

    ledger: Ledger
    base: RunConfig
    info: TaskInfo
    """The task's data: source, sizes of the parts, baselines."""
    proposer: Proposer
    fallback: Proposer
    launcher: Launcher
    progress: Progress
    limits: Limits
    train_command: tuple[str, ...]
    """Start of the training's command line; the nodes add config, tag and limits."""
    verify: Verify | None = None
    """None takes every training at its word, as those that a script stands in for."""
    continued: str | None = None
    """A run that was stopped early and is to be trained to its end before anything is proposed."""
    slots: Slots = field(default_factory=Slots)
    """How many trainings run at once."""
    repeat_rule: RepeatRule | None = None
    """Says which runs are trained again; None: only the base config, to measure its noise."""
    clock: Clock = field(default_factory=SystemClock)
    stop: StopRequest = field(default_factory=StopRequest)
    detaches: bool = False
    """Whether trainings go on when the search is stopped, for the next agent to adopt."""
    notes: NotesReader = field(default_factory=NotesReader)
    """Reads what a person wishes of the search, while it runs."""
    started: float = field(default_factory=time.monotonic)
    seen_runs: SeenRuns = field(default_factory=lambda: SeenRuns())
    """What proposers have seen of the runs already."""
    ended: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of runs in progress that were seen to have ended for good, the end on record then."""

    @property
    def max_seq_len(self) -> int | None:
        return self.info.max_seq_len

    @property
    def fit(self) -> SeriesFit | None:
        return SeriesFit.of(self.info.measured)

    @property
    def disk(self) -> DiskSpace:
        """Return what waits for space on a full disk."""
        return DiskSpace(
            workspace=self.ledger.workspace,
            clock=self.clock,
            stop=self.stop,
            say=self.progress.note,
            least_free_mb=self.limits.least_free_mb,
            longest_wait_s=self.limits.disk_wait_seconds,
        )

    @property
    def spent(self) -> Spent:
        """What the runs that have ended cost."""
        return Spent.by(self.ledger.state.runs, self.clock.monotonic() - self.started)

    @property
    def committed(self) -> Spent:
        """What all runs that have begun cost; what runs in progress will still cost is not known, and what
        their answers have cost counts where there is a limit on that."""
        return self._spent_without(None)

    def _spent_without(self, run_id: str | None) -> Spent:
        """What all runs but `run_id` cost."""
        others = [run for run in self.ledger.state.runs_in_progress if run.run_id != run_id]
        if not self.limits.on_answers:
            # Nobody asks what answers cost, which stands in a file of each run.
            return self.spent.plus([{}] * len(others))
        return self.spent.plus([self.ledger.proposal(run.run_id) for run in others])

    def outcome(self, run_dir: Path) -> Outcome:
        """Return how the training in `run_dir` ended. Raises StateError if it is still running."""
        return read_outcome(run_dir, self.ledger.state.metric, is_running=self.launcher.is_running)

    def view(self, run_id: str, refused: Sequence[str] = (), attempt: int = 0) -> SearchView:
        """Return what a proposer may know now."""
        return view_of(
            self.ledger,
            self.base,
            self.info,
            self.limits,
            self._spent_without(run_id),
            run_id=run_id,
            refused=tuple(refused),
            attempt=attempt,
            notes=self.notes.read(self.ledger.workspace, self.progress.note),
            seen=self.seen_runs,
        )

    def running_keys(self, run_id: str) -> dict[str, str | None]:
        """Return the canonical keys of what the runs in progress other than `run_id` train, by their ids."""
        others = [run.run_id for run in self.ledger.state.runs_in_progress if run.run_id != run_id]
        return {other: self.ledger.key(other) for other in others}


class SeenRuns:
    """Views of runs, each made again only when something has changed that it is made of."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], RunView]] = {}
        self.candidates = KnownCandidates()

    def view(self, run_id: str, made_of: tuple[object, ...], make: Callable[[], RunView]) -> RunView:
        """Return the run's view; `made_of` is all that `make` makes it of, and never changed in place."""
        known = self._known.get(run_id)
        if known is None or known[0] != made_of:
            known = self._known[run_id] = (made_of, make())
        return known[1]


def view_of(
    ledger: Ledger,
    base: RunConfig,
    info: TaskInfo,
    limits: Limits,
    spent: Spent,
    *,
    run_id: str,
    refused: tuple[str, ...] = (),
    attempt: int = 0,
    notes: str = "",
    seen: SeenRuns | None = None,
) -> SearchView:
    """Build the view: the only place where stored runs become visible to proposers."""
    state, seen = ledger.state, seen or SeenRuns()
    seeds = known_of_seeds(state, seen.candidates)
    runs = tuple(_run_view(run, ledger, seeds, seen) for run in state.runs)
    return SearchView(
        run_id=run_id,
        task=state.task or base.task,
        base=base,
        columns=info.columns,
        baselines=tuple(
            (baseline.name, score)
            for baseline in info.baselines
            if (score := baseline.on("val", base.task.metric)) is not None
        ),
        runs=runs,
        # A state that somebody has edited may name one without a score.
        best_run=next((run for run in runs if run.run_id == state.best_run_id and run.scores), None),
        noise=seeds.noise,
        seed=state.seed,
        max_runs=limits.max_runs,
        refused=refused,
        max_seq_len=info.max_seq_len,
        attempt=attempt,
        left=limits.left(spent),
        run_seconds=limits.run_seconds,
        run_steps=limits.run_steps,
        sizes={part: size for part, size in info.sizes.items() if part in ("train", "val")},
        measured=info.seen,
        running=running_views(ledger, other_than=run_id, seen=seen),
        leads_by=state.leads_by,
        noise_runs=seeds.noise_runs,
        luck=seeds.luck,
        resolution=resolution_of(state, ledger.runs_dir, ledger.config, info, seen.candidates),
        repeating=tuple(parts_of_repeat(run.run_id)[0] for run in state.in_progress if run.is_repeat),
        final=0 if state.leads_by == "margin" else final_size(limits.max_runs, limits.repeats),
        repeats_left=limits.repeats_left(state),
        notes=notes,
        moment=moment_of(ledger),
    )


def running_views(ledger: Ledger, *, other_than: str, seen: SeenRuns | None = None) -> tuple[RunView, ...]:
    """Return the runs in progress that train a configuration, other than `other_than`."""
    views, seen = [], seen or SeenRuns()
    for run in ledger.state.runs_in_progress:
        config = None if run.run_id == other_than else ledger.config(run.run_id)
        if config is not None:
            proposal = ledger.proposal(run.run_id)
            history = ledger.history(ledger.paths(run.run_id)) or {}
            made_of = (config, proposal, history)
            views.append(seen.view(run.run_id, made_of, partial(_running_view, run.run_id, *made_of)))
    return tuple(views)


def _running_view(
    run_id: str, config: RunConfig, proposal: Mapping[str, Any], history: Mapping[str, Any]
) -> RunView:
    parent = proposal.get("parent")
    return run_in_progress(
        run_id,
        config,
        history,
        parent=parent if isinstance(parent, str) else None,
        proposer=str(proposal.get("proposer", "")),
        arm=arm_in(proposal),
        wasted=wasted_in(proposal),
    )


def run_views(ledger: Ledger) -> tuple[RunView, ...]:
    """Return the finished runs."""
    seeds = known_of_seeds(ledger.state)
    return tuple(_run_view(run, ledger, seeds, SeenRuns()) for run in ledger.state.runs)


def _run_view(run: RunInfo, ledger: Ledger, seeds: KnownOfSeeds, seen: SeenRuns) -> RunView:
    scores, failed = seeds.scores.get(run.run_id, ()), seeds.failed.get(run.run_id, 0)
    made_of = (run, ledger.config(run.run_id), ledger.proposal(run.run_id), scores, failed)
    return seen.view(run.run_id, made_of, partial(_ended_view, ledger, *made_of))


def _ended_view(
    ledger: Ledger,
    run: RunInfo,
    config: RunConfig | None,
    proposal: Mapping[str, Any],
    scores: tuple[float, ...],
    failed_repeats: int,
) -> RunView:
    expected = proposal.get(f"expected_{ledger.state.metric}")
    folder = ledger.paths(run.run_id).folder
    pruned = read_pruned(folder, run.attempt) if run.status == PRUNED else None
    return RunView(
        run_id=run.run_id,
        status=run.status,
        cause=None if run.cause is None else without_test_metrics(run.cause),
        config=config,
        family=run.family,
        key=run.key,
        val_score=statistics.fmean(scores) if scores else None,
        accepted=run.accepted,
        parent=run.parent,
        summary=without_test_metrics(run.history_summary),
        proposer=run.proposer or "",
        hypothesis=without_test_metrics(str(proposal.get("hypothesis") or "")),
        expected_score=finite(expected),
        epochs=0 if pruned is None else pruned.epoch,
        best_so_far=None if pruned is None else pruned.score,
        scores=scores,
        failed_repeats=failed_repeats,
        training=training_facts(folder, ledger.state.metric, run.attempt),
        arm=arm_in(proposal),
        wasted=wasted_in(proposal),
    )


def without_test_metrics(text: str) -> str:
    """Return `text` up to where it names the test part or the hold-out set and a number follows.

    The cause of a crash can be the last line of a log, and a training prints its test score there.
    """
    return _TEST_METRIC.sub("(test metrics withheld)", text)

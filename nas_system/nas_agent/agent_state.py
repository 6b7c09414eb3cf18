"""agent_state.json: what the search knows, in one file that is always whole.

The file has the fields of the original format (`max_runs`, `best_run_id`, `runs`) and what
the search needs to go on after any crash. What a run *was* stands in its folder.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from nas_system.errors import StateError, advice_on_limit
from nas_system.files import read_object, write_atomic
from nas_system.nas_agent.log_text import one_line
from nas_system.nas_agent.run_entries import ASKED as ASKED
from nas_system.nas_agent.run_entries import BASE_PROPOSER as BASE_PROPOSER
from nas_system.nas_agent.run_entries import BASE_REPEAT as BASE_REPEAT
from nas_system.nas_agent.run_entries import CAUSE_CHARACTERS as CAUSE_CHARACTERS
from nas_system.nas_agent.run_entries import CHALLENGE as CHALLENGE
from nas_system.nas_agent.run_entries import FINAL as FINAL
from nas_system.nas_agent.run_entries import METRIC_NAMES as METRIC_NAMES
from nas_system.nas_agent.run_entries import OLD_BASE_PROPOSER as OLD_BASE_PROPOSER
from nas_system.nas_agent.run_entries import PURPOSES as PURPOSES
from nas_system.nas_agent.run_entries import RepeatInfo as RepeatInfo
from nas_system.nas_agent.run_entries import RunInfo as RunInfo
from nas_system.nas_agent.run_entries import RunInProgress as RunInProgress
from nas_system.nas_agent.run_entries import Score, Stored
from nas_system.nas_agent.run_entries import is_repeat as is_repeat
from nas_system.nas_agent.run_entries import parts_of_repeat as parts_of_repeat
from nas_system.nas_agent.run_entries import repeat_id as repeat_id
from nas_system.space.score import Direction, loss_of
from nas_system.space.tasks import ForecastingTask, TaskConfig
from nas_system.space.tasks.task import TaskLabels

STATE_FILE = "agent_state.json"
LARGEST_STATE_BYTES = 64 * 2**20
"""A search of 1,000 runs writes half a MiB."""


class AgentState(Stored):
    """The whole of agent_state.json. Values are replaced, never changed in place."""

    schema_version: int = Field(default_factory=lambda: SCHEMA_VERSION)
    max_runs: int = Field(default=100, ge=1)
    best_run_id: str | None = None
    seed: int = 42
    task: TaskConfig | None = None
    data: dict[str, Any] | None = None
    """Which data the search is about: name, kind, sha256. One search never mixes two."""
    noise: float | None = None
    """Standard deviation of the base config's score over seeds; None while it is unknown."""
    noise_runs: int = 0
    leads_by: Literal["mean", "margin"] = "margin"
    """How a run comes to lead: by the lowest mean over its seeds; or because it was accepted, which in a
    search that began before version 6 took a score better than the best run's by more than the noise."""
    in_progress: tuple[RunInProgress, ...] = ()
    """Runs and repeats, in the order in which they began."""
    hold_out: dict[str, Score] = Field(default_factory=dict)
    """Score on the hold-out rows, per run that was best run when a search ended."""
    runs: tuple[RunInfo, ...] = ()
    repeats: tuple[RepeatInfo, ...] = ()
    """In the order in which they ended."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """What cannot be written again is no state: half a character (U+D800) can be read from JSON."""
        self.model_dump_json()
        return self

    @property
    def metric(self) -> str:
        """Return the metric that runs are compared by, as the files call it."""
        return ForecastingTask().metric if self.task is None else self.task.metric

    @property
    def labels(self) -> TaskLabels:
        """The task in words."""
        return (self.task or ForecastingTask()).labels

    @property
    def direction(self) -> Direction:
        """Which way the metric is better."""
        return ForecastingTask.direction if self.task is None else self.task.direction

    @property
    def run_ids(self) -> list[str]:
        """The runs as they ended, then those in progress; no repeats."""
        return [run.run_id for run in (*self.runs, *self.runs_in_progress)]

    @property
    def runs_in_progress(self) -> tuple[RunInProgress, ...]:
        """What is in progress and no repeat."""
        return tuple(run for run in self.in_progress if not run.is_repeat)

    def replace(self, **changes: Any) -> AgentState:
        """A copy with some fields replaced."""
        return self.model_copy(update=changes)


def load_agent_state(path: str | Path = STATE_FILE) -> AgentState:
    """Read the state; a file that does not exist is a search that has not begun.

    Raises StateError for anything truncated, foreign or newer, and leaves the file alone; OSError where
    this process may open no file at all.
    """
    path = Path(path)
    try:
        values = read_object(path, largest_bytes=LARGEST_STATE_BYTES, of_pairs=_without_doubles)
        state = AgentState.model_validate(_migrated(values, path))
    except FileNotFoundError:
        return AgentState()
    except OSError as error:
        if advice_on_limit(error.errno):
            raise
        raise UnreadableState(
            f"{path}: cannot be read ({error.strerror}); fix its permissions or its disk"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The name of a field that we do not know can be anything.
        where = one_line(".".join(str(part) for part in first["loc"]), 100) or "the file"
        raise StateError(
            f"{path}: not a valid search state ({where}: {one_line(first['msg'], 300)})"
        ) from None
    except ValueError as error:
        raise StateError(f"{path}: not a valid search state ({error})") from None
    known = [*state.run_ids, *(repeat.training_id for repeat in state.repeats)]
    known += [run.run_id for run in state.in_progress if run.is_repeat]
    if len(set(known)) != len(known):
        raise StateError(f"{path}: not a valid search state (a run id stands twice)")
    return state


class NewerState(StateError):
    """The file was written by a newer version of this program; it is left untouched."""


class UnreadableState(StateError):
    """The file may be whole, but we may not or cannot read it; it is left untouched."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON readers take the last one and say nothing: half a search could vanish.
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise ValueError(f"holds {twice!a:.60} twice in one object")
    return values


def _from_original_format(values: dict[str, Any]) -> dict[str, Any]:
    """Version 0 had no version: three fields, five of a run, and summaries of any length."""
    if set(values) != {"max_runs", "best_run_id", "runs"}:
        raise ValueError("no schema_version, and not the fields of the original format")
    runs = values["runs"]
    if isinstance(runs, list):
        runs = [_with_short_summary(run) if isinstance(run, dict) else run for run in runs]
    return {**values, "runs": runs}


def _with_short_summary(run: dict[str, Any]) -> dict[str, Any]:
    summary = run.get("history_summary")
    return {**run, "history_summary": summary[:300]} if isinstance(summary, str) else run


Migration = Callable[[dict[str, Any]], dict[str, Any]]


def _with_costs(values: dict[str, Any]) -> dict[str, Any]:
    """Version 2 added what a run's answers cost, which may be unknown: nothing has to be changed."""
    return values


def _with_other_tasks(values: dict[str, Any]) -> dict[str, Any]:
    """Version 3 added tasks on graphs and their scores: nothing has to be changed."""
    return values


def _with_hold_out(values: dict[str, Any]) -> dict[str, Any]:
    """Version 4 calls the hold-out set by its name; runs have `val_score`, see `RunInfo`."""
    return {("hold_out" if name == "sealed" else name): value for name, value in values.items()}


def _with_several_in_progress(values: dict[str, Any]) -> dict[str, Any]:
    """Version 5 knows any number of runs in progress, where there was one `current` run."""
    current = values.get("current")
    others = {name: value for name, value in values.items() if name != "current"}
    return others | {"in_progress": [] if current is None else [current]}


def _with_repeats(values: dict[str, Any]) -> dict[str, Any]:
    """Version 6 lets the lowest mean over seeds lead, in searches that begin with it: nothing has to be
    changed."""
    return values


MIGRATIONS: tuple[Migration, ...] = (
    _from_original_format,
    _with_costs,
    _with_other_tasks,
    _with_hold_out,
    _with_several_in_progress,
    _with_repeats,
)
"""From version i to version i + 1, on plain JSON. Append only: files of every version lie on disks."""

SCHEMA_VERSION = len(MIGRATIONS)


def _migrated(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """In the latest version. Raises NewerState, or ValueError for what is no version of ours."""
    version = values.get("schema_version", 0)
    if type(version) is not int or version < 0:
        raise ValueError(f"schema_version is {version!r:.40}")
    if version > SCHEMA_VERSION:
        raise NewerState(
            f"{path}: written by a newer version (schema {version}, this program knows {SCHEMA_VERSION}); "
            "update the program, the file is left as it is"
        )
    for migrate in MIGRATIONS[version:]:
        values = migrate(values)
    return {**values, "schema_version": SCHEMA_VERSION}


def save_agent_state(state: AgentState, path: str | Path = STATE_FILE, texts: RunTexts | None = None) -> None:
    """Write the whole state, atomically and durably; `texts` are those of the writes before, by which it is
    faster."""
    text = state.model_dump_json(indent=1) if texts is None else texts.state_text(state)
    write_atomic(Path(path), text.encode() + b"\n")


class RunTexts:
    """Keeps the runs of a state as text: a run that has ended hardly ever changes, and each write has all."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[RunInfo, str]] = {}

    def state_text(self, state: AgentState) -> str:
        """Return what `state.model_dump_json(indent=1)` does."""
        text = state.replace(runs=()).model_dump_json(indent=1)
        if not state.runs:
            return text
        # A line break within a value is escaped, and the same name further in has more spaces before it.
        before, after = text.split('\n "runs": []')
        runs = ",\n  ".join(map(self._text_of, state.runs))
        return f'{before}\n "runs": [\n  {runs}\n ]{after}'

    def _text_of(self, run: RunInfo) -> str:
        known = self._known.get(run.run_id)
        if known is None or known[0] is not run:
            text = run.model_dump_json(indent=1).replace("\n", "\n  ")
            known = self._known[run.run_id] = (run, text)
        return known[1]


def add_run(state: AgentState, run: RunInfo) -> AgentState:
    """The state with one more run; `best_run_id` is the leader.

    Raises StateError if the run is already there.
    """
    if get_run(state, run.run_id) is not None:
        raise StateError(f"{run.run_id} is already in the state; a run is added once")
    return with_leader(state.replace(runs=(*state.runs, run)))


def add_repeat(state: AgentState, repeat: RepeatInfo) -> AgentState:
    """The state with one more repeat, which may change the leader.

    Raises StateError if the repeat is already there, or its run is not.
    """
    if repeat in state.repeats or get_run(state, repeat.run_id) is None:
        raise StateError(f"{repeat.training_id} is already in the state, or its run is not")
    return with_leader(state.replace(repeats=(*state.repeats, repeat)))


def without_scores(state: AgentState, run_ids: Container[str]) -> AgentState:
    """The state in which these runs have no score."""
    runs = (
        run.model_copy(update={"status": "BAD_RESULT", "val_score": None, "test_score": None})
        if run.run_id in run_ids
        else run
        for run in state.runs
    )
    return state.replace(runs=tuple(runs))


def with_leader(state: AgentState) -> AgentState:
    """The state with `best_run_id` chosen again."""
    best = get_best_run(state.replace(best_run_id=None))
    return state.replace(best_run_id=best.run_id if best else None)


def get_run(state: AgentState, run_id: str) -> RunInfo | None:
    """The run with this id, if the state has it."""
    return next((run for run in state.runs if run.run_id == run_id), None)


def get_run_in_progress(state: AgentState, run_id: str) -> RunInProgress | None:
    """The run with this id, if it is in progress."""
    return next((run for run in state.in_progress if run.run_id == run_id), None)


def get_best_run(state: AgentState) -> RunInfo | None:
    """Return the leader: the run with the best mean over its seeds, None before there is one.

    Once a final has begun, only its three finalists compete: their means have lost what was luck in them,
    that of another run has not. In a search that leads by a margin it is the accepted run with the best
    score.
    """
    if state.best_run_id is not None:
        return get_run(state, state.best_run_id)
    if state.leads_by == "margin":
        return _lowest([(run.val_score, run) for run in state.runs if run.accepted], state)
    scored = [run for run in state.runs if run.status == "OK" and run.val_score is not None]
    if any(is_fresh(repeat, state) for repeat in state.repeats):
        before = [repeat for repeat in state.repeats if not is_fresh(repeat, state)]
        then = state.replace(repeats=tuple(before))
        scored = sorted(scored, key=lambda run: _mean_loss(run, then))[:FINALISTS]
    return _lowest([(mean_score(state, run), run) for run in scored], state)


FINALISTS = 3
"""As `nas_agent_graph.selection.rule` has it."""


def _lowest(scored: Sequence[tuple[float | None, RunInfo]], state: AgentState) -> RunInfo | None:
    known = [(loss_of(score, state.direction), run) for score, run in scored if score is not None]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def _mean_loss(run: RunInfo, state: AgentState) -> float:
    mean = mean_score(state, run)
    return math.inf if mean is None else loss_of(mean, state.direction)


def is_fresh(repeat: RepeatInfo, state: AgentState) -> bool:
    """Return whether it is of the present final and has a score: no choice among many has seen that. Once
    another run has ended, a final is an earlier one."""
    scored = repeat.status == "OK" and repeat.val_score is not None
    return scored and repeat.purpose == FINAL and repeat.after == len(state.runs)


def scores_of(state: AgentState, run: RunInfo) -> list[float]:
    """Return the run's validation scores: its own first, then those of its repeats as they ended."""
    own = [] if run.val_score is None else [run.val_score]
    return own + [
        repeat.val_score
        for repeat in state.repeats
        if repeat.run_id == run.run_id and repeat.status == "OK" and repeat.val_score is not None
    ]


def mean_score(state: AgentState, run: RunInfo) -> float | None:
    """Return the mean of the run's validation scores over its seeds; None for a run without its own.

    In a search that leads by a margin it is the run's own score.
    """
    if run.val_score is None or state.leads_by == "margin":
        return run.val_score
    return statistics.fmean(scores_of(state, run))


def get_recent_runs(state: AgentState, k: int = 5) -> list[RunInfo]:
    """The last `k` runs, oldest first."""
    return list(state.runs[-k:]) if k > 0 else []

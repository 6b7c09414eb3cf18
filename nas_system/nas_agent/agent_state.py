"""agent_state.json: what the search knows, in one file that is always whole.

The file has the fields of the original format (`max_runs`, `best_run_id`, `runs`) and what
the search needs to go on after any crash. What a run *was* stands in its folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from nas_system.errors import StateError, advice_on_limit
from nas_system.files import read_object, write_atomic
from nas_system.nas_agent.log_text import one_line
from nas_system.space.score import Direction, loss_of
from nas_system.space.tasks import ForecastingTask, TaskConfig
from nas_system.space.tasks.task import TaskLabels, metric_on

STATE_FILE = "agent_state.json"
LARGEST_STATE_BYTES = 64 * 2**20
"""A search of 1,000 runs writes half a MiB."""


def _finite_or_none(value: Any) -> Any:
    """JSON has no NaN: a score that is not finite is no score."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Score = Annotated[float | None, BeforeValidator(_finite_or_none)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RunInfo(_Stored):
    """One finished run, in under 600 bytes."""

    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    metric: str = Field(default="val_mse", pattern=r"^val_[a-z0-9_]{1,40}$")
    """The task's metric on the validation part, under which the original format knows the score."""
    val_score: Score = None
    """What the run is evaluated by."""
    test_score: Score = None
    """The same metric on the test part, for people: no proposer, prompt or acceptance rule may read it."""
    history_summary: str = Field(default="", max_length=300)
    accepted: bool = False
    status: str = "OK"
    cause: str | None = Field(default=None, max_length=200)
    parent: str | None = None
    family: str | None = None
    proposer: str | None = None
    key: str | None = None
    """Canonical key of the configuration: equal keys mean the same training."""
    seconds: float | None = None
    tokens: int = 0
    cost_usd: float | None = None
    """What the language model's answers about the run cost; None if no price is known."""
    attempt: int = 1

    @property
    def val_mse(self) -> float | None:
        """The original format's name of `val_score`, where the task's metric is the squared error."""
        return self.val_score if self.metric == "val_mse" else None

    @property
    def test_mse(self) -> float | None:
        """The original format's name of `test_score`, where the task's metric is the squared error."""
        return self.test_score if self.metric == "val_mse" else None

    @property
    def val_mae(self) -> float | None:
        """`val_score`, where the task's metric is the absolute error."""
        return self.val_score if self.metric == "val_mae" else None

    @property
    def test_mae(self) -> float | None:
        """`test_score`, where the task's metric is the absolute error."""
        return self.test_score if self.metric == "val_mae" else None

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        """Accept scores under the metric's own name, which is all that older versions and scripts write."""
        if not isinstance(values, dict):
            return values
        metric = values.get("metric")
        copies = {metric, metric_on("test", metric)} if isinstance(metric, str) else set()
        plain = {name: value for name, value in values.items() if name not in METRIC_NAMES | copies}
        if plain.get("proposer") == OLD_BASE_PROPOSER:
            plain["proposer"] = BASE_PROPOSER
        if "val_score" in plain or "test_score" in plain:
            return plain
        metric = "val_mae" if values.get("val_mae") is not None else "val_mse"
        metric = plain.get("metric", metric)
        return plain | {
            "metric": metric,
            "val_score": values.get(metric),
            "test_score": values.get(metric_on("test", metric)),
        }

    @model_serializer(mode="wrap")
    def _write_metric_names(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the scores under the metric's own name as well: the one place where both names stand."""
        values = write(self)
        if self.metric == "val_mse":
            del values["metric"]  # the default
        copies = {self.metric: self.val_score, metric_on("test", self.metric): self.test_score}
        return {"run_id": self.run_id, **copies, **values}


BASE_PROPOSER, OLD_BASE_PROPOSER = "base config", "baseline"
"""Who proposes the first run, now and before version 4."""
METRIC_NAMES = frozenset({"val_mse", "test_mse", "val_mae", "test_mae"})
"""Names of scores in versions before 4."""


class RunInProgress(_Stored):
    """A run that has begun and has no verdict yet, and the last node that has acted on it."""

    run_id: str
    step: str
    device: str | None = None
    """The CUDA device that is leased to its training, None for all that there are."""
    alone: bool = False
    """Whether it needs all of the device: a share of it was too little."""


class AgentState(_Stored):
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
    in_progress: tuple[RunInProgress, ...] = ()
    """In the order in which they began."""
    hold_out: dict[str, Score] = {}
    """Score on the hold-out rows, per run that was best run when a search ended."""
    runs: tuple[RunInfo, ...] = ()

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
        """The runs as they ended, then those in progress."""
        return [run.run_id for run in (*self.runs, *self.in_progress)]

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
    if len(set(state.run_ids)) != len(state.run_ids):
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


MIGRATIONS: tuple[Migration, ...] = (
    _from_original_format,
    _with_costs,
    _with_other_tasks,
    _with_hold_out,
    _with_several_in_progress,
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


def save_agent_state(state: AgentState, path: str | Path = STATE_FILE) -> None:
    """Write the whole state, atomically and durably."""
    write_atomic(Path(path), state.model_dump_json(indent=1).encode() + b"\n")


def add_run(state: AgentState, run: RunInfo) -> AgentState:
    """The state with one more run; `best_run_id` is the accepted run with the best score.

    Raises StateError if the run is already there.
    """
    if get_run(state, run.run_id) is not None:
        raise StateError(f"{run.run_id} is already in the state; a run is added once")
    state = state.replace(runs=(*state.runs, run))
    best = get_best_run(state.replace(best_run_id=None))
    return state.replace(best_run_id=best.run_id if best else None)


def get_run(state: AgentState, run_id: str) -> RunInfo | None:
    """The run with this id, if the state has it."""
    return next((run for run in state.runs if run.run_id == run_id), None)


def get_run_in_progress(state: AgentState, run_id: str) -> RunInProgress | None:
    """The run with this id, if it is in progress."""
    return next((run for run in state.in_progress if run.run_id == run_id), None)


def get_best_run(state: AgentState) -> RunInfo | None:
    """Return the accepted run with the best score, None before there is one."""
    if state.best_run_id is not None:
        return get_run(state, state.best_run_id)
    scored = [
        (loss_of(run.val_score, state.direction), run)
        for run in state.runs
        if run.accepted and run.val_score is not None
    ]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None


def get_recent_runs(state: AgentState, k: int = 5) -> list[RunInfo]:
    """The last `k` runs, oldest first."""
    return list(state.runs[-k:]) if k > 0 else []

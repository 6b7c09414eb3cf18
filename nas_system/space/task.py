"""What a search is about. Fixed for its whole life; no proposal can change it."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, TypeAdapter, field_validator, model_validator

from nas_system.space.fields import ConfigModel
from nas_system.space.score import Direction
from nas_system.space.time_steps import normalised_date, normalised_step

ALL = "all"
"""As the only target: every column. Which columns these are is known where the data is read."""


Kind = Literal["forecasting", "graph regression"]
"""What a family of models can be made for."""


def error_of(metric: str) -> str:
    """The error behind a task's metric: `mae` of `val_mae`."""
    return metric.removeprefix("val_")


def on_part(part: str, metric: str) -> str:
    """The task's metric as files call it on another part: `on_part("test", "val_mae")` is `test_mae`."""
    return f"{part}_{error_of(metric)}"


class _Task(ConfigModel):
    """What all tasks have in common."""

    kind: ClassVar[Kind]
    error: ClassVar[str]
    """The error that is measured, as figures are called: `mse`, `mae`."""
    direction: ClassVar[Direction] = "minimize"
    """Whether a lower or a higher score is better."""

    @property
    def metric(self) -> str:
        """The score that selection uses: the error on the validation part."""
        return f"val_{self.error}"


class GraphTask(_Task):
    """One number for every graph of a data set that brings its own parts; the absolute error counts."""

    kind = "graph regression"
    error = "mae"

    name: Literal["zinc", "zinc_synth"] = "zinc_synth"
    """The data set: ZINC, whose files have to be there, or the generated one that is like it."""

    train_graphs: int | None = Field(default=None, ge=2)
    """The first so many graphs of the training part; None takes all."""

    val_graphs: int | None = Field(default=None, ge=1)
    """The first so many graphs of the validation part; None takes all."""

    test_graphs: int | None = Field(default=None, ge=1)
    """The first so many graphs of the test part; None takes all."""

    @property
    def dataset(self) -> str:
        """The data set's name, as every task has one."""
        return self.name


class ForecastingTask(_Task):
    """Dataset, targets, horizon, split and metric: what is measured, never how it is modelled."""

    kind = "forecasting"
    error = "mse"

    name: Literal["forecasting"] = "forecasting"
    """Forecast a time series."""

    dataset: str = "etth1"
    """`etth1`, `synthetic`, or the path of a CSV file whose first column is the time stamp."""

    targets: tuple[str, ...] = Field(default=("OT",), min_length=1)
    """Columns to forecast; `all` alone means every column."""

    pred_len: int = Field(default=24, ge=1, le=10_000)
    """Horizon: how many steps ahead are forecast."""

    freq: str | None = None
    """Step between rows, as pandas writes it (15min, h, D, MS); None reads it from the time stamps."""

    missing: Literal["refuse", "ffill"] = "refuse"
    """Empty cells: refuse the file, or carry the last known value forward (then scored like any other)."""

    split: tuple[float, ...] | tuple[str, ...] | None = None
    """Shares of train, val and test (the rest is held out), or the dates when val, test and hold-out begin."""

    train_rows: int | None = Field(default=None, ge=1)
    """Rows of the training part; None takes the data set's own split."""

    val_rows: int | None = Field(default=None, ge=1)
    """Rows of the validation part; None takes the data set's own split."""

    test_rows: int | None = Field(default=None, ge=1)
    """Rows of the test part; None takes the data set's own split."""

    @field_validator("targets", mode="before")
    @classmethod
    def _list_to_tuple(cls, value: Any) -> Any:
        # JSON and YAML have no tuples; strict validation wants one.
        return tuple(value) if isinstance(value, list) else value

    @field_validator("targets")
    @classmethod
    def _check_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(targets)) != len(targets):
            raise ValueError(f"targets name a column twice: {', '.join(targets)}")
        return targets

    @field_validator("freq")
    @classmethod
    def _normalise_freq(cls, freq: str | None) -> str | None:
        return None if freq is None else normalised_step(freq)

    @field_validator("split", mode="before")
    @classmethod
    def _check_split(cls, value: Any) -> Any:
        if value is None:
            return None
        parts = tuple(value) if isinstance(value, list | tuple) else ()
        if parts and all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts):
            return _checked_shares(parts)
        if parts and all(isinstance(part, str) for part in parts):
            return _checked_dates(parts)
        raise ValueError(
            f"the split {value!r:.60} is neither three shares (0.6, 0.15, 0.15) nor two or three dates "
            "(2017-07-01, 2017-11-01)"
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = (self.train_rows, self.val_rows, self.test_rows)
        if any(parts) and not all(parts):
            raise ValueError("train_rows, val_rows and test_rows are given together or not at all")
        if any(parts) and self.split is not None:
            raise ValueError(
                f"the split {spelled_split(self.split)} and train_rows, val_rows and test_rows are two "
                "answers to one question; keep one of them"
            )
        return self

    @property
    def forecasts_all(self) -> bool:
        """Whether every column is a target, so that no covariates are left."""
        return self.targets == (ALL,)

    @property
    def has_several_targets(self) -> bool:
        """Whether more than one column is forecast."""
        return len(self.targets) > 1 or self.forecasts_all


_TASKS: dict[str, type[ForecastingTask | GraphTask]] = {
    name: task
    for task in (ForecastingTask, GraphTask)
    for name in get_args(task.model_fields["name"].annotation)
}
TASK_NAMES = tuple(_TASKS)
"""Every task that a search can be about."""
TASK_CLASSES = frozenset(task.__name__ for task in _TASKS.values())
TASK_FIELDS = tuple(dict.fromkeys(name for task in _TASKS.values() for name in task.model_fields))
"""The fields of all tasks."""


NO_SUCH_TASK = "no_such_task"
"""The type of the error about a name that no task has: our own, which pydantic does not know."""


def class_of(name: Any) -> type[ForecastingTask | GraphTask] | None:
    """The class of the task called `name`."""
    return _TASKS.get(name) if isinstance(name, str) else None


def fields_of(task: Any) -> tuple[str, ...]:
    """The fields of the task that plain values describe; without a known name those of a forecast."""
    kind = class_of(task.get("name")) if isinstance(task, dict) else None
    return tuple((kind or ForecastingTask).model_fields)


def _tag_of(value: Any) -> str | None:
    """Which class a task is of; without a name it is a series to forecast."""
    name = value.get("name", "forecasting") if isinstance(value, dict) else getattr(value, "name", None)
    found = class_of(name)
    return None if found is None else found.__name__


TaskConfig = Annotated[
    Annotated[ForecastingTask, Tag("ForecastingTask")] | Annotated[GraphTask, Tag("GraphTask")],
    Discriminator(
        _tag_of,
        custom_error_type=NO_SUCH_TASK,
        custom_error_message=f"there is no such task; choose from: {', '.join(TASK_NAMES)}",
    ),
]
"""What a search is about, told apart by `name`."""

task_adapter: TypeAdapter[ForecastingTask | GraphTask] = TypeAdapter(TaskConfig)
"""Reads a task from plain values or JSON."""


def spelled_split(split: tuple[Any, ...]) -> str:
    """As people write it: `0.6,0.15,0.15`."""
    return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in split)


def _checked_shares(shares: tuple[float, ...]) -> tuple[float, ...]:
    said = f"the split {spelled_split(shares)}"
    for share in shares:
        if not 0 < share < 1:
            raise ValueError(
                f"{said}: {spelled_split((share,))} is no share between 0 and 1; write, for example, "
                "0.6,0.15,0.15 (a date as 2017-07-01)"
            )
    if len(shares) != 3:
        raise ValueError(
            f"{said} has {len(shares)} shares, but there are three: train, val and test; the rest is hold-out"
        )
    total = math.fsum(shares)
    if total > 1 + 1e-9:
        raise ValueError(f"{said}: the shares add up to {total:g}, but 1 is all there is; lower them")
    return shares


def _checked_dates(dates: tuple[str, ...]) -> tuple[str, ...]:
    said = f"the split {','.join(dates)}"
    try:
        starts = tuple(normalised_date(date) for date in dates)
    except ValueError as problem:
        raise ValueError(f"{said}: {problem}") from None
    if len(starts) not in (2, 3):
        raise ValueError(
            f"{said} has {len(starts)} of two or three dates: the starts of val and test, and of hold-out if "
            "rows are to be kept back"
        )
    for before, after in itertools.pairwise(starts):
        if after <= before:
            raise ValueError(
                f"{said}: {after} is not after {before}; val comes first, then test, then hold-out"
            )
    return starts

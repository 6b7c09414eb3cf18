"""A series to forecast: data set, targets, horizon and split."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from nas_system.space.tasks.task import Task, TaskLabels, ValueOf
from nas_system.space.time_steps import checked_format, normalised_date, normalised_step

if TYPE_CHECKING:
    from nas_system.space.families.family import FamilyConfig

BENDING = ("time_warp", "window_slice")
"""Augmentations that move what happened to other steps."""

ALL = "all"
"""As the only target: every column. Which columns these are is known where the data is read."""

Missing = Literal["refuse", "ffill", "interpolate"]

LATER_FIELDS = ("scaling", "origins", "date_format", "series_columns", "future", "holidays")
"""Left out of a task's serialisation where they have their defaults."""

MOST_ORIGINS = 10
"""As many files of weights can a run have (see `nas_system.processes.run_files`)."""


class ForecastingTask(Task):
    """Dataset, targets, horizon, split and metric: what is measured, never how it is modelled."""

    kind = "forecasting"
    metric_name = "mse"
    default_config = "default"
    is_series = True
    describe_timeout_s = 1800.0
    left_out = ("origins",)

    name: Literal["forecasting"] = "forecasting"
    """Forecast a time series."""

    dataset: str = "etth1"
    """`etth1`, `synthetic`, or the path of a CSV file whose first column is the time stamp."""

    targets: tuple[str, ...] = Field(default=("OT",), min_length=1)
    """Columns to forecast; `all` alone means every column."""

    pred_len: int = Field(default=24, ge=1, le=10_000)
    """Horizon: how many steps ahead are forecast."""

    freq: str | None = None
    """Step between rows, as pandas writes it: 15min, h, D, MS (default: read from the time stamps)."""

    missing: Missing = "refuse"
    """Empty cells and missing rows: refuse the file, carry the last value forward, or draw a line across."""

    date_format: str | None = None
    """How time stamps are written, as strptime spells it: %d/%m/%Y %H:%M (default: told from the column)."""

    series_columns: tuple[str, ...] = ()
    """Columns that tell the series of the file apart, as `shop`: one model is trained on all of them."""

    future: tuple[str, ...] = ()
    """Columns whose future is known, as `promo`: a forecast reads their values at its own steps, too."""

    holidays: tuple[str, ...] = ()
    """Countries, as `DE` or `DE-BY`, whose public holidays are added as columns whose future is known."""

    scaling: Literal["standard", "robust"] = "standard"
    """Scale by mean and standard deviation of the training rows, or by median and IQR / 1.349."""

    split: tuple[float, ...] | tuple[str, ...] | None = None
    """Shares of train, val and test (the rest is held out), or the dates when val, test, hold-out begin."""

    train_rows: int | None = Field(default=None, ge=1)
    """Rows of the training part (default: the data set's own split)."""

    val_rows: int | None = Field(default=None, ge=1)
    """Rows of the validation part (default: the data set's own split)."""

    test_rows: int | None = Field(default=None, ge=1)
    """Rows of the test part (default: the data set's own split)."""

    origins: int = Field(default=1, ge=0, le=MOST_ORIGINS)
    """Rolling origins: the validation score is the mean over so many blocks of rows, each with a model of its
    own, trained on the rows before it. 0 (auto): decided by the length of the series when a search begins."""

    @field_validator("targets", "series_columns", "future", "holidays", mode="before")
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

    @field_validator("date_format")
    @classmethod
    def _check_date_format(cls, text: str | None) -> str | None:
        return None if text is None else checked_format(text)

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

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A search that began before there was a choice keeps its keys and fingerprints.
        plain = write(self)  # without some of them, where None is left out
        for name in LATER_FIELDS:
            # The value itself: as JSON an empty tuple is a list.
            if name in plain and getattr(self, name) == type(self).model_fields[name].default:
                del plain[name]
        return plain

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        for flag, names in (("series-column", self.series_columns), ("future", self.future)):
            if len(set(names)) != len(names) or "" in names:
                raise ValueError(f"--{flag} names a column twice, or none: {', '.join(names)}")
            if both := set(names).intersection(self.targets):
                raise ValueError(
                    f"{min(both)!r} is a target and stands in --{flag} as well; keep it in one of them"
                )
        if both := set(self.future).intersection(self.series_columns):
            raise ValueError(
                f"{min(both)!r} stands in --future and in --series-column; keep it in one of them"
            )
        return self

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
    def labels(self) -> TaskLabels:
        targets = ", ".join(self.targets)
        # Names of columns come from outside, and may be long.
        shown = "".join(c if c.isprintable() else " " for c in targets)
        shown = shown if len(shown) <= 60 else f"{shown[:56]} ..."
        scaled = "scaled" if self.scaling == "standard" else "robustly scaled"
        return TaskLabels(
            goal=f"forecast {shown}, {self.pred_len} steps ahead",
            field="time-series forecasting",
            samples="rows",
            baselines="simple forecasts",
            metric=f"mean squared error on {scaled} values",
            scale_note=f" on {scaled} data",
        )

    @property
    def trainings(self) -> int:
        return max(self.origins, 1)

    def decided_by(self, found: Task) -> Task:
        return self if self.origins else self.model_copy(update={"origins": found.trainings})

    @property
    def outside_names(self) -> tuple[str, ...]:
        return self.dataset, *self.targets, *self.series_columns, *self.future, *self.holidays

    @property
    def told_apart_by(self) -> tuple[str, ...]:
        return self.series_columns

    @property
    def asked_ahead(self) -> tuple[str, ...]:
        return self.future

    @property
    def is_exportable(self) -> bool:
        return not (self.series_columns or self.future or self.holidays)

    def has(self, where: str) -> bool:
        return where != "several targets" or self.has_several_targets

    def inactive_because(self, where: str | None, family: type[FamilyConfig], value: ValueOf) -> str | None:
        if where == "several targets" and not self.has_several_targets:
            return "only one column is forecast"
        return self.no_covariates_because(family, value) if where == "covariates" else None

    def no_covariates_because(self, family: type[FamilyConfig], value: ValueOf) -> str | None:
        """Say why the model reads no other columns than the targets; None if it can."""
        if self.forecasts_all:
            return "every column is forecast, so no other is left to read"
        if not family.reads_covariates:
            return f"the family {value('model.family')} reads the targets alone"
        one_by_one = "channel_independence" in family.model_fields and value("model.channel_independence")
        if one_by_one and self.has_several_targets:
            return "with model.channel_independence = true every target is forecast from its own past alone"
        return None

    @property
    def horizon(self) -> int:
        """Return `pred_len`."""
        return self.pred_len

    def check(self, config: Any) -> None:
        config.model.check_window(config.data.seq_len, self.pred_len)
        covariates = config.reads_covariates and config.data.features == "MS"
        if config.training.augmentation == "channel_dropout" and not covariates:
            raise ValueError(
                "training.augmentation=channel_dropout drops inputs that are no targets, and there are none; "
                "choose another augmentation, or a family and data.features=MS that read them"
            )
        if config.training.augmentation in BENDING and (self.future or self.holidays):
            raise ValueError(
                f"training.augmentation={config.training.augmentation} bends the time of a window, in which "
                "columns that are known for the future stand at their own steps; choose another augmentation"
            )

    @property
    def forecasts_all(self) -> bool:
        """Whether every column is a target, so that no covariates are left."""
        return self.targets == (ALL,)

    @property
    def has_several_targets(self) -> bool:
        """Whether more than one column is forecast."""
        return len(self.targets) > 1 or self.forecasts_all


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
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from None
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

"""A task about several series of one file: one calendar, parts that begin on the same dates for all of them.

If each series had its own dates, one could be trained on days on which another, which moves with it, is
scored. Windows never cross from one series into the next, and each has a scale of its own, that of its
training rows. On one model for all: Montero-Manso and Hyndman 2021, "Principles and algorithms for
forecasting groups of time series: Locality and globality", IJF 37.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas_system.data.open_task import OpenTask
from nas_system.data.scaling import Scaler
from nas_system.data.series import Series
from nas_system.data.source import DataSource
from nas_system.data.splits import SHORTEST_LOOK_BACK, Dates, Split, SplitName, rolling_origins, split_for
from nas_system.errors import ConfigError
from nas_system.space.tasks import ForecastingTask

Array = NDArray[np.float64]

SHORTEST_SHARE = 0.25
"""Of the most training rows that a series has: one with fewer would bound the look-back of all the others."""
SERIES_NAMED = 4


@dataclass(frozen=True, eq=False)
class OpenPanel:
    """A task with everything about the data of its series that does not depend on the model."""

    task: ForecastingTask
    dates: Dates
    """(rows,): every time stamp at which a series has a row."""
    split: Split
    """Of `dates`."""
    members: tuple[OpenTask, ...]
    """Those that are learned from and scored; the rows of each one's split are its own."""
    source: DataSource | None = None
    left_out: tuple[str, ...] = ()
    """Why other series are not: a sentence each."""

    @classmethod
    def of_series(
        cls, task: ForecastingTask, series: Sequence[Series], source: DataSource | None = None
    ) -> Self:
        """Split the series as the task says, by the dates of all, and scale each by its training rows.

        Raises ConfigError where all are too short, or one cannot be scaled.
        """
        dates = np.unique(np.concatenate([each.dates for each in series]))
        split = split_for(task, len(dates), dates)
        members, left_out = _members(task, series, dates, split, source)
        return cls(task, dates, split, members, source, left_out)

    def with_origins(self, count: int) -> Self:
        """Return the task with so many rolling origins."""
        task = self.task.model_copy(update={"origins": count})
        members = tuple(replace(member, task=task) for member in self.members)
        return replace(self, task=task, members=members)

    def origins(self) -> tuple[Self, ...]:
        """Return the task at each of its rolling origins, the earliest first; the last is this one.

        The series of an earlier origin end with its validation part: later rows are not there at all.
        Raises ConfigError for more origins than the rows allow, or where one cannot be scaled.
        """
        splits = rolling_origins(self.split, self.task.pred_len, self.task.origins)
        return (*map(self._at, splits[:-1]), self)

    def trained_through(self, part: SplitName) -> Self:
        """Return the task with all rows to the end of `part` as training rows, which then give the scaling.

        Raises ConfigError where they cannot be scaled.
        """
        return self._at(self.split.trained_through(part))

    def ended_at(self, row: int) -> Self:
        """Return the task as it was when `row` of the calendar had not come yet: the rows before it are all
        training rows. Later ones are not there at all.

        Raises ConfigError for a row outside the calendar, or where those before it cannot be scaled.
        """
        if not 0 < row <= len(self.dates):
            raise ConfigError(
                f"there is no row {row:,} in {len(self.dates):,} to end before; name another one"
            )
        return self._at(self.split.ended_at(row))

    def _at(self, split: Split) -> Self:
        dates = self.dates[: split.rows]
        series = []
        for member in self.members:
            rows = int(np.searchsorted(member.series.dates, dates[-1], side="right"))
            if rows:
                series.append(member.series.ended_at(rows))
        members, left_out = _members(self.task, series, dates, split, self.source)
        return replace(self, dates=dates, split=split, members=members, left_out=left_out)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Return which row of the calendar the first one of each member is."""
        firsts = [member.series.dates[0] for member in self.members]
        return tuple(np.searchsorted(self.dates, np.array(firsts)).tolist())


OpenData = OpenTask | OpenPanel
"""A task with its data: one series, or several. `members` has them in both."""


def mean_of_dates(values: Array, dates: NDArray[np.integer[Any]]) -> Array:
    """Return the means of windows, (windows, ...), that forecast from the same date, in order of time.

    Series that move together err together, so dates and not windows say how far chance goes in a score. A
    date of fewer windows counts for less: the mean of the result is that of `values`.
    """
    numbers, places = np.unique(dates, return_inverse=True)
    sums = np.zeros((len(numbers), *values.shape[1:]))
    np.add.at(sums, places, values)
    return sums * (len(numbers) / len(values))


def _members(
    task: ForecastingTask, series: Sequence[Series], dates: Dates, split: Split, source: DataSource | None
) -> tuple[tuple[OpenTask, ...], tuple[str, ...]]:
    """Return the series that can be learned from and scored, and why others cannot."""
    splits = [_local(split, each, dates) for each in series]
    most = max((each.train_end for each in splits), default=0)
    least = max(task.pred_len + SHORTEST_LOOK_BACK, math.ceil(SHORTEST_SHARE * most))
    members, left_out = [], []
    for each, local in zip(series, splits, strict=True):
        train = each.values[: local.train_end, list(each.column_indices(task.targets))]
        if local.train_end < least:
            left_out.append(
                f"series {each.name!r} has {local.train_end} training rows, and not {least}: it is not "
                "trained on"
            )
        elif (train == train[0]).all(axis=0).any():
            left_out.append(f"series {each.name!r} never changes in its training rows: it is not trained on")
        else:
            try:
                scaler = Scaler.fit(each, local, task.scaling)
            except ConfigError as error:
                raise ConfigError(f"series {each.name!r}: {error}") from None
            members.append(OpenTask(task, each, local, scaler, source))
    if not members:
        raise ConfigError(
            f"none of the {len(series)} series can be trained on: {'; '.join(left_out[:SERIES_NAMED])}; "
            "shorten pred_len, bring longer series, or divide them otherwise with --split (task.split)"
        )
    return tuple(members), tuple(left_out)


def _local(split: Split, series: Series, dates: Dates) -> Split:
    """Return the split of the calendar in rows of the series."""
    first, rows = int(np.searchsorted(dates, series.dates[0])), len(series)
    train, val, test = (
        min(max(end - first, 0), rows) for end in (split.train_end, split.val_end, split.test_end)
    )
    return Split(train, val, test, rows)

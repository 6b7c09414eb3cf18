"""A task with its series, split and scaler. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from nas_system.data.scaling import Scaler
from nas_system.data.series import Series
from nas_system.data.splits import Dates, Split, SplitName, rolling_origins, split_for
from nas_system.errors import ConfigError
from nas_system.space.task_info import DataSource
from nas_system.space.tasks import ForecastingTask


@dataclass(frozen=True, eq=False)
class OpenTask:
    """A task with everything about its data that does not depend on the model."""

    task: ForecastingTask
    series: Series
    split: Split
    scaler: Scaler
    source: DataSource | None = None
    """Where the series was read from; None for one that was made in memory."""

    @classmethod
    def of_series(cls, task: ForecastingTask, series: Series, source: DataSource | None = None) -> Self:
        """Split `series` as the task says and scale it by its training rows.

        Raises ConfigError for a series that is too short, or whose values cannot be scaled.
        """
        split = split_for(task, len(series), series.dates)
        return cls(task, series, split, Scaler.fit(series, split, task.scaling), source)

    @property
    def members(self) -> tuple[Self]:
        """Return the task itself, as the only one of its series."""
        return (self,)

    @property
    def dates(self) -> Dates:
        """Return (rows,) time stamps, which the rows of `split` count."""
        return self.series.dates

    @property
    def label(self) -> str:
        """Name the series as the beginning of a message, where its file holds several."""
        return f"series {self.series.name!r}: " if self.series.name else ""

    def with_origins(self, count: int) -> Self:
        """Return the task with so many rolling origins."""
        return replace(self, task=self.task.model_copy(update={"origins": count}))

    def origins(self) -> tuple[Self, ...]:
        """Return the task at each of its rolling origins, the earliest first; the last is this one.

        The series of an earlier origin ends with its validation part: later rows are not there at all.
        Raises ConfigError for more origins than the rows allow, or where one cannot be scaled.
        """
        splits = rolling_origins(self.split, self.task.pred_len, self.task.origins)
        return (*map(self._at, splits[:-1]), self)

    def trained_through(self, part: SplitName) -> Self:
        """Return the task with all rows to the end of `part` as training rows, which then give the scaling.

        Raises ConfigError where they cannot be scaled.
        """
        split = self.split.trained_through(part)
        return replace(self, split=split, scaler=Scaler.fit(self.series, split, self.task.scaling))

    def ended_at(self, row: int) -> Self:
        """Return the task as it was when `row` had not come yet: the rows before it are all training rows.
        Later ones are not there at all.

        Raises ConfigError for a row outside the series, or where those before it cannot be scaled.
        """
        if not 0 < row <= len(self.series):
            raise ConfigError(
                f"there is no row {row:,} in {len(self.series):,} to end before; name another one"
            )
        return self._at(self.split.ended_at(row))

    def _at(self, split: Split) -> Self:
        series = self.series.ended_at(split.rows)
        scaler = Scaler.fit(series, split, self.task.scaling)
        return replace(self, series=series, split=split, scaler=scaler)

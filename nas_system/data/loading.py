"""From a task to its series, split and scaler. Torch-free."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from nas_system.data.reading.reader import read_series
from nas_system.data.scaling import Scaler
from nas_system.data.series import Series
from nas_system.data.source import DataSource, locate
from nas_system.data.splits import Split, SplitName, rolling_origins, split_for
from nas_system.data.synthetic import checksum_of, synthetic_series
from nas_system.errors import ConfigError
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
        series = replace(
            self.series, values=self.series.values[: split.rows], dates=self.series.dates[: split.rows]
        )
        scaler = Scaler.fit(series, split, self.task.scaling)
        return replace(self, series=series, split=split, scaler=scaler)


def open_task(
    task: ForecastingTask, source: DataSource | None = None, *, data_dir: Path | None = None
) -> OpenTask:
    """Read the task's data: from `source` where a search has fixed one, else from where it is found.

    Raises ConfigError for a missing, changed or unusable file. Print `source.notice` if there is one.
    """
    source = source or locate(task, data_dir)
    return OpenTask.of_series(task, load_series(source, task), source)


def load_series(source: DataSource, task: ForecastingTask) -> Series:
    """Read the series behind `source`, its checksum verified, the task's targets and step found in it.

    Raises ConfigError for a missing, changed or unusable file.
    """
    series = _generate(source) if source.path is None else _read(source, source.path, task)
    series.column_indices(task.targets)
    if task.freq not in (None, series.freq):
        raise ConfigError(
            f"{source.path or source.name}: the step of the time stamps is {series.freq}, but --freq "
            f"(task.freq) says {task.freq}; write {series.freq}, leave it out, or resample the file"
        )
    return series


def _generate(source: DataSource) -> Series:
    series = synthetic_series()
    checksum, _ = checksum_of(series.values)
    if checksum != source.sha256:
        raise ConfigError(
            "the generated series differs from the one this search began with; continue with the version of "
            "the program that began it, or start a new search"
        )
    return series


def _read(source: DataSource, path: Path, task: ForecastingTask) -> Series:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ConfigError(
            f"{path} has changed since the search began, so scores would not be comparable; put the old "
            "file back, or start a new search"
        )
    return read_series(content, str(path), freq=task.freq, missing=task.missing, date_format=task.date_format)

"""From a task to its series, split and scaled. Torch-free."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import replace
from pathlib import Path

from nas_system.data.known_future.holidays import with_holidays
from nas_system.data.open_task import OpenTask as OpenTask
from nas_system.data.panel import OpenData, OpenPanel
from nas_system.data.reading.reader import read_all
from nas_system.data.series import Series
from nas_system.data.source import DataSource, locate
from nas_system.data.synthetic import checksum_of, synthetic_series
from nas_system.errors import ConfigError
from nas_system.space.tasks import ForecastingTask


def open_data(
    task: ForecastingTask, source: DataSource | None = None, *, data_dir: Path | None = None
) -> OpenData:
    """Read the task's data: from `source` where a search has fixed one, else from where it is found.

    Raises ConfigError for a missing, changed or unusable file. Print `source.notice` if there is one.
    """
    source = source or locate(task, data_dir)
    series = load_all(source, task)
    if task.series_columns:
        return OpenPanel.of_series(task, series, source)
    return OpenTask.of_series(task, series[0], source)


def open_task(
    task: ForecastingTask, source: DataSource | None = None, *, data_dir: Path | None = None
) -> OpenTask:
    """Read the data of a task about one series. Raises ConfigError as `open_data`, and for several series."""
    data = open_data(task, source, data_dir=data_dir)
    if isinstance(data, OpenPanel):
        raise ConfigError(
            f"{task.dataset} is read as several series (--series-column), and this is for one; give it a "
            "file of its own"
        )
    return data


def load_series(source: DataSource, task: ForecastingTask) -> Series:
    """Read the only series behind `source`; see `load_all`."""
    series, *_ = load_all(source, task)
    return series


def load_all(source: DataSource, task: ForecastingTask) -> tuple[Series, ...]:
    """Read the series behind `source`, its checksum verified, the task's columns and step found in it.

    Raises ConfigError for a missing, changed or unusable file.
    """
    if source.path is None:
        found: tuple[Series, ...] = (with_holidays(_generated(source, task), task.holidays),)
    else:
        found = read_for(task, _checked(source, source.path), str(source.path))
    series = found[0]
    series.column_indices(task.targets)
    if task.freq not in (None, series.freq):
        raise ConfigError(
            f"{source.path or source.name}: the step of the time stamps is {series.freq}, but --freq "
            f"(task.freq) says {task.freq}; write {series.freq}, leave it out, or resample the file"
        )
    return found


def read_for(task: ForecastingTask, content: bytes, name: str) -> tuple[Series, ...]:
    """Read a file's series as the task says, with the holidays that it asks for. Raises ConfigError, which
    begins with `name`."""
    found = read_all(
        content,
        name,
        freq=task.freq,
        missing=task.missing,
        date_format=task.date_format,
        series_columns=task.series_columns,
        future=task.future,
    )
    return tuple(with_holidays(series, task.holidays) for series in found)


def _generated(source: DataSource, task: ForecastingTask) -> Series:
    series = synthetic_series()
    checksum, _ = checksum_of(series.values)
    if checksum != source.sha256:
        raise ConfigError(
            "the generated series differs from the one this search began with; continue with the version of "
            "the program that began it, or start a new search"
        )
    if task.series_columns:
        raise ConfigError(
            f"--series-column {','.join(task.series_columns)}: the generated series is one; leave it out"
        )
    for name in task.future:
        if name not in series.columns:
            close = difflib.get_close_matches(name, series.columns, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"its columns are {', '.join(series.columns)}"
            raise ConfigError(f"--future {name}: the generated series has no such column; {hint}")
    return replace(series, known=tuple(name for name in series.columns if name in task.future))


def _checked(source: DataSource, path: Path) -> bytes:
    """Return the content of the file. Raises ConfigError for another one than the search began with."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ConfigError(
            f"{path} has changed since the search began, so scores would not be comparable; put the old "
            "file back, or start a new search"
        )
    return content

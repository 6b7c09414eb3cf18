"""What is known of a task's data, measured once before a search: `runs/task_facts.json`, typed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ValidationError

from nas_system.errors import ConfigError
from nas_system.space.accuracy import Accuracy, accuracies_from
from nas_system.space.tasks import Task, task_adapter
from nas_system.space.tasks.task import metric_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA_VERSION = 2
HOLD_OUT = "hold_out"
"""The part that no training and no selection looks at."""
UNSEEN = "unseen"
"""What `TaskInfo.measured` knows of parts that no proposer may know of."""
_OLD_WORDS = {"sealed": HOLD_OUT}

SourceKind = Literal["file", "cache", "download", "csv", "synthetic"]


@dataclass(frozen=True)
class DataSource:
    """The data of a task, pinned: whoever reads them later reads the same numbers or gets an error."""

    name: str
    kind: SourceKind
    path: Path | None
    """None for generated data."""
    sha256: str
    """Of the file; of the values for generated data."""
    bytes: int
    notice: str | None = None
    """One line a person has to see: something else than what was asked for is used."""
    files: tuple[str, ...] = ()
    """Where `path` is a folder: the files in it that are the data; the checksum is over all of them."""

    def to_json(self) -> dict[str, Any]:
        plain = asdict(self) | {"path": None if self.path is None else str(self.path)}
        files = plain.pop("files")
        return plain | {"files": list(files)} if files else plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises KeyError or TypeError for anything else."""
        path, files = value["path"], value.get("files", ())
        return cls(**{**value, "path": None if path is None else Path(path), "files": tuple(files)})


@dataclass(frozen=True)
class Baseline:
    """A prediction that takes no search, and its score on every part: `val_mse`, `test_mse`, ..."""

    name: str
    scores: Mapping[str, float]
    windows: str = ""
    """`40 of 96`: scored on a part of the validation windows only; empty for all of them."""
    errors: NDArray[np.floating[Any]] | None = field(default=None, compare=False, repr=False)
    """On every validation window, NaN where it was not scored; None where that is not known. No part of the
    JSON."""
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    """In the units of the data, by part; nothing where the task has none."""

    def on(self, part: str, metric: str) -> float | None:
        """Return the score on a part of the data; `metric` is the task's, for example `val_mse`."""
        return self.scores.get(metric_on(part, metric))

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"name": self.name, **self.scores}
        if self.windows:
            plain["windows"] = self.windows
        if self.accuracy:
            plain["accuracy"] = {part: figures.to_json() for part, figures in self.accuracy.items()}
        return plain


@dataclass(frozen=True)
class TaskInfo:
    """A task with its data as `python -m nas_system.describe` measured them."""

    task: Task
    source: DataSource
    baselines: tuple[Baseline, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Samples of every part. For a series: windows, those of the training part at the default look-back."""
    columns: tuple[str, ...] = ()
    max_seq_len: int | None = None
    """The longest look-back that leaves a training window; None where there is no series."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of data of this kind; only this kind's own module and prompt know the names."""

    @property
    def has_hold_out(self) -> bool:
        """Whether a part of the data is kept for scoring the winner once; unknown counts as yes."""
        return self.sizes.get(HOLD_OUT) != 0

    @property
    def seen(self) -> Mapping[str, Any]:
        """Return what a proposer may know of `measured`."""
        return {name: value for name, value in self.measured.items() if name != UNSEEN}

    def number(self, name: str) -> float | None:
        """Return a measured number; None if the file has none under this name."""
        return _finite(self.measured.get(name))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA_VERSION,
            "task": self.task.model_dump(mode="json"),
            "source": self.source.to_json(),
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "sizes": dict(self.sizes),
            "columns": list(self.columns),
            "max_seq_len": self.max_seq_len,
            "measured": dict(self.measured),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read what `to_json` of this or an older version wrote; anybody may have edited the file.

        Baselines without a name and values that are no numbers are left out. Raises ConfigError where
        task or source are unusable.
        """
        source = source_from(record)
        try:
            task = task_adapter.validate_python(record["task"])
        except (KeyError, ValidationError) as error:
            raise ConfigError(f"the task info of the search names no task ({error})") from None
        if "baselines" in record or "references" not in record:
            sizes, measured = record.get("sizes"), record.get("measured")
            max_seq_len = record.get("max_seq_len")
        else:  # schema 1
            windows = record.get("windows")
            windows = windows if isinstance(windows, Mapping) else {}
            sizes = record.get("graphs", windows)
            max_seq_len = windows.get("max_seq_len")
            known = {"schema", "task", "source", "references", "columns", "windows", "graphs"}
            measured = {name: value for name, value in record.items() if name not in known}
        return cls(
            task=task,
            source=source,
            baselines=baselines_from(record),
            sizes=_sizes(sizes),
            columns=tuple(name for name in _list(record.get("columns")) if isinstance(name, str)),
            max_seq_len=max_seq_len if type(max_seq_len) is int else None,
            measured=measured if isinstance(measured, Mapping) else {},
        )


def source_from(record: Mapping[str, Any]) -> DataSource:
    """Read the data source of a task's info, ignoring the rest. Raises ConfigError."""
    try:
        return DataSource.from_json(record["source"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"the task info of the search names no data source ({error})") from None


def baselines_from(record: Mapping[str, Any]) -> tuple[Baseline, ...]:
    """Read the baselines of a record of ours, also under the name that older versions gave them."""
    rows = record.get("baselines", record.get("references"))
    return tuple(
        Baseline(
            row["name"],
            {_renamed(name): score for name, score in _numbers(row).items()},
            row["windows"] if isinstance(row.get("windows"), str) else "",
            accuracy=accuracies_from(row.get("accuracy")),
        )
        for row in _list(rows)
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    )


def _renamed(name: str) -> str:
    """`hold_out_mse` for `sealed_mse`."""
    part, _, metric = name.partition("_")
    return f"{_OLD_WORDS[part]}_{metric}" if part in _OLD_WORDS else name


def _sizes(sizes: Any) -> dict[str, int]:
    known = sizes if isinstance(sizes, Mapping) else {}
    parts = ("train", "val", "test", "sealed", HOLD_OUT)
    return {_OLD_WORDS.get(part, part): known[part] for part in parts if type(known.get(part)) is int}


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: number for name, value in row.items() if (number := _finite(value)) is not None}


def _finite(value: Any) -> float | None:
    return (
        float(value)
        if type(value) in (int, float) and -1e300 < value < 1e300 and math.isfinite(value)
        else None
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

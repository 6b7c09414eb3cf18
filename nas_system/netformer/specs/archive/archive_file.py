"""The archive: which configuration reached which score on which data set. What the proposer learns from.

One gzip'd file of JSON lines: a header, then every task (its meta-features, horizon and longest
look-back), then every row (a task, the values of a configuration that have an effect, a score). Scores
are validation errors; no test figure is ever in it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from nas_system.errors import ConfigError, StateError
from nas_system.files import write_atomic
from nas_system.space import ForecastingTask, RunConfig, canonical_key

SCHEMA = 1
DIGITS = 5
"""Significant digits of a score: more than its noise leaves."""
LAST_VALUE = "last-value"
"""The reference whose validation error anchors predicted scores."""
HELD_OUT = "held_out"
TRAIN = "train"


@dataclass(frozen=True)
class ArchivedTask:
    """A data set with a horizon: what is known of it before anything is trained."""

    name: str
    part: str
    """`train`, or `held_out`: never learned from, kept to judge proposers."""
    task: ForecastingTask
    max_seq_len: int
    features: tuple[float, ...]
    baselines: dict[str, float] = field(default_factory=dict)
    """val_mse of simple forecasts."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """What a synthetic task is made of."""

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "task",
            "name": self.name,
            "part": self.part,
            "task": self.task.model_dump(mode="json", exclude_defaults=True),
            "max_seq_len": self.max_seq_len,
            "features": [float(f"{value:.6g}") for value in self.features],
            "references": {name: rounded(score) for name, score in self.baselines.items()},
            "recipe": self.recipe,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(
            name=record["name"],
            part=record["part"],
            task=ForecastingTask.model_validate(record["task"]),
            max_seq_len=int(record["max_seq_len"]),
            features=tuple(map(float, record["features"])),
            baselines=record["references"],
            recipe=record["recipe"],
        )


@dataclass(frozen=True)
class Row:
    """One training."""

    task: str
    values: dict[str, Any]
    """`path -> value` of the family and every parameter that has an effect."""
    score: float | None
    """val_mse; None if the training gave none."""
    status: str = "OK"
    """OK, DIVERGED, TIMEOUT or FAILED."""
    seconds: float = 0.0

    @property
    def family(self) -> str:
        return self.values["model.family"]

    def to_json(self) -> dict[str, Any]:
        record = {"kind": "row", "task": self.task, "values": self.values, "score": rounded(self.score)}
        return record | {"status": self.status, "seconds": round(self.seconds, 2)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        score = None if record["score"] is None else float(record["score"])
        return cls(record["task"], record["values"], score, record["status"], float(record["seconds"]))


def rounded(score: float | None) -> float | None:
    return None if score is None else float(f"{score:.{DIGITS}g}")


def config_of(values: dict[str, Any], task: ForecastingTask, *, seed: int = 42) -> RunConfig:
    """The configuration behind a row's values. Raises ConfigError if the space no longer has it."""
    plain: dict[str, Any] = {"task": task.model_dump(), "model": {}, "data": {}, "training": {}, "seed": seed}
    try:
        for path, value in values.items():
            group, name = path.split(".", 1)
            plain[group][name] = value
        return RunConfig.model_validate(plain)
    except (KeyError, ValueError, ValidationError) as error:
        raise ConfigError(f"a row of the archive is not of this search space: {error}") from None


@dataclass(frozen=True)
class Archive:
    """Tasks and rows. A name of a task stands in it once."""

    tasks: dict[str, ArchivedTask]
    rows: tuple[Row, ...]
    space: str = ""
    """A hash of the search space that older programs wrote; part of the checksum."""
    made_by: str = ""
    """The command, and how long it took."""

    def of(self, part: str) -> Archive:
        """The tasks of one part, with their rows."""
        tasks = {name: task for name, task in self.tasks.items() if task.part == part}
        return Archive(tasks, tuple(r for r in self.rows if r.task in tasks), self.space, self.made_by)

    def rows_of(self, task: str) -> list[Row]:
        return [row for row in self.rows if row.task == task]

    def with_rows_of(self, other: Archive) -> Archive:
        """Both; a row of the same task and configuration counts once."""
        tasks = {**self.tasks, **other.tasks}
        rows = {_row_key(row): row for row in (*self.rows, *other.rows)}
        return Archive(tasks, tuple(rows.values()), self.space, self.made_by)

    def to_bytes(self) -> bytes:
        header = {"kind": "header", "schema": SCHEMA, "space": self.space, "made_by": self.made_by}
        lines = [header, *(t.to_json() for t in self.tasks.values()), *(r.to_json() for r in self.rows)]
        text = "".join(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines)
        # Without a time stamp: the same archive is the same bytes.
        return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def _row_key(row: Row) -> str:
    return row.task + json.dumps(row.values, sort_keys=True)


def write_archive(path: Path, archive: Archive) -> None:
    """Replace `path` by the archive; a reader sees the old or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, archive.to_bytes())


def read_archive(path: Path) -> Archive:
    """Raises StateError for a missing, torn, foreign or newer file."""
    try:
        return archive_from(path.read_bytes())
    except OSError as error:
        raise StateError(f"{path}: the archive cannot be read ({error.strerror or error})") from None
    except (EOFError, ValueError, LookupError, TypeError, zlib.error) as error:
        raise StateError(f"{path}: not an archive of trainings ({error})") from None


def archive_from(content: bytes) -> Archive:
    """The archive in a file's bytes. Raises what `read_archive` turns into a StateError."""
    lines = gzip.decompress(content).decode().splitlines()
    header = json.loads(lines[0])
    if header["schema"] > SCHEMA:
        raise ValueError(f"schema {header['schema']} is newer than this program's {SCHEMA}; update it")
    records = [json.loads(line) for line in lines[1:]]
    tasks = [ArchivedTask.from_json(record) for record in records if record["kind"] == "task"]
    rows = tuple(Row.from_json(record) for record in records if record["kind"] == "row")
    return Archive({task.name: task for task in tasks}, rows, header["space"], header["made_by"])


def checksum_of(archive: Archive) -> str:
    """The same for the same tasks and rows, in whatever order they came."""
    lines = sorted(
        json.dumps(item.to_json(), sort_keys=True) for item in (*archive.tasks.values(), *archive.rows)
    )
    return hashlib.sha256("\n".join((archive.space, *lines)).encode()).hexdigest()


def keys_of(rows: Iterable[Row], task: ForecastingTask) -> list[str]:
    """Canonical keys of the rows' configurations."""
    return [canonical_key(config_of(row.values, task)) for row in rows]

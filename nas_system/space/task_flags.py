"""The task as command lines spell it: one reading of the flags for every program that has them."""

from __future__ import annotations

import argparse
import csv
from typing import Any

from pydantic import ValidationError

from nas_system.errors import ConfigError
from nas_system.space.tasks import TASK_NAMES, TaskConfig, class_of

FLAGS = {
    "name": "--task",
    "dataset": "--dataset",
    "targets": "--target",
    "pred_len": "--pred-len",
    "freq": "--freq",
    "missing": "--missing",
    "split": "--split",
    "train_rows": "--train-rows",
    "val_rows": "--val-rows",
    "test_rows": "--test-rows",
    "train_graphs": "--train-graphs",
    "val_graphs": "--val-graphs",
    "test_graphs": "--test-graphs",
}
"""The flag of each field of the task; a program may have only some of them."""


def task_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of the task that were given on the command line."""
    given = {}
    for field, flag in FLAGS.items():
        value = getattr(arguments, flag.removeprefix("--").replace("-", "_"), None)
        if value is not None:
            given[field] = value
    if "targets" in given:
        given["targets"] = columns_of(given["targets"])
    if "split" in given:
        given["split"] = split_of(given["split"])
    return given


def columns_of(text: str) -> tuple[str, ...]:
    """`a,b` names two columns; one whose own name has a comma stands in double quotes."""
    try:
        row = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as problem:
        raise ConfigError(f"{FLAGS['targets']}: {text!r:.60} names no columns ({problem})") from None
    return tuple(column.strip() for column in row) or ("",)


def split_of(text: str) -> tuple[float, ...] | tuple[str, ...]:
    """`0.6,0.15,0.15` as numbers; anything else as the dates that it may be."""
    parts = tuple(part.strip() for part in text.split(","))
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        return parts


def task_with(task: TaskConfig, given: dict[str, Any]) -> TaskConfig:
    """`task` with other fields; another `name` may make it a task of another kind.

    Raises ConfigError that begins with the flag to mend.
    """
    kind = class_of(given.get("name", task.name))
    if kind is None:
        raise ConfigError(
            f"{FLAGS['name']}: there is no task {given['name']!r:.60}; choose from: {', '.join(TASK_NAMES)}"
        )
    if stray := next((name for name in given if name not in kind.model_fields), None):
        raise ConfigError(f"{FLAGS[stray]}: the task {given.get('name', task.name)} has nothing of the kind")
    before = task.model_dump() if isinstance(task, kind) else {}
    try:
        return kind.model_validate(before | given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    # Our own messages say what was given; pydantic's do not.
    got = "" if first["type"] == "value_error" else f" (got {first['input']!r:.60})"
    flag = f"{FLAGS[str(first['loc'][0])]}: " if first["loc"] else ""
    raise ConfigError(f"{flag}{message}{got}")

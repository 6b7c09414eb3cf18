"""The task as command lines spell it: flags made from the fields of the tasks, and read back into them."""

from __future__ import annotations

import argparse
import csv
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from nas_system.errors import ConfigError
from nas_system.space.tasks import TASK_FIELDS, TASK_NAMES, TaskConfig, class_of

_OWN_FLAGS = {"name": "--task", "targets": "--target", "series_columns": "--series-column"}
FLAGS = {field: _OWN_FLAGS.get(field, "--" + field.replace("_", "-")) for field in TASK_FIELDS}
"""The flag of each field of the task; a program may have only some of them."""
_ALIASES = {"targets": ["--targets"]}
_BY_HAND: dict[str, dict[str, Any]] = {
    "name": {
        "metavar": "NAME",
        "choices": None,
        "help": f"what the search is about: {', '.join(TASK_NAMES)} (default: {TASK_NAMES[0]})",
    },
    "dataset": {"metavar": "NAME|CSV"},
    "targets": {"metavar": "COL[,COL]|all"},
    "freq": {"metavar": "STEP"},
    "series_columns": {"metavar": "COL[,COL]"},
    "future": {"metavar": "COL[,COL]"},
    "holidays": {"metavar": "COUNTRY[,COUNTRY]"},
    "split": {
        "metavar": "SHARES|DATES",
        "help": "train, val and test: 0.6,0.15,0.15 (what is left is hold-out), or the dates on which val, "
        "test and hold-out begin: 2017-07-01,2017-11-01,2018-03-01 (default: the data set's own)",
    },
    "origins": {
        "type": lambda text: _origins_of(text),
        "metavar": "K|auto",
        "help": "rolling origins: a score is the mean over K validation blocks, each with a model of its own "
        "that is trained on the rows before it (default: auto, K by the length of the series, for a search)",
    },
}
"""Where a flag is more than its field says: keywords of `add_argument`."""
AUTO = "auto"


def add_task_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of every task, in groups by the tasks that have the field."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name in TASK_FIELDS:
        kinds = {task: kind for task in TASK_NAMES if (kind := class_of(task)) and name in kind.model_fields}
        of_all = len(kinds) == len(TASK_NAMES)
        title = "task (fixed for the life of a search)" if of_all else f"task {', '.join(kinds)}"
        group = groups.get(title) or groups.setdefault(title, parser.add_argument_group(title))
        field = next(iter(kinds.values())).model_fields[name]
        group.add_argument(FLAGS[name], *_ALIASES.get(name, ()), **_keywords(field) | _BY_HAND.get(name, {}))


def _keywords(field: FieldInfo) -> dict[str, Any]:
    """Return what `add_argument` needs to know of the field: type or choices, and help."""
    if get_origin(field.annotation) is Literal:
        return {"choices": get_args(field.annotation), "help": _help_of(field)}
    types = (field.annotation, *get_args(field.annotation))
    number = next((kind for kind in (int, float) if kind in types), None)
    return {"help": _help_of(field)} | ({"type": number, "metavar": "N"} if number else {})


def _origins_of(text: str) -> int:
    """Read a number, or `auto` as the 0 that stands for it."""
    try:
        count = 0 if text == AUTO else int(text)
    except ValueError:
        count = -1
    if count < 0 or (count == 0 and text != AUTO):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is neither a number of origins nor auto")
    return count


def _help_of(field: FieldInfo) -> str:
    """Return the docstring of the field as a help text: no capital, no full stop, with the default."""
    text = " ".join((field.description or "").split()).replace("`", "'").removesuffix(".")
    text = text[:1].lower() + text[1:]
    if field.default not in (None, ()) and "(default:" not in text:
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        text += f" (default: {default})"
    return text.replace("%", "%%")


def task_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the task that were given on the command line."""
    given = {}
    for field, flag in FLAGS.items():
        value = getattr(arguments, flag.removeprefix("--").replace("-", "_"), None)
        if value is not None:
            given[field] = value
    for field in ("targets", "series_columns", "future", "holidays"):
        if field in given:
            given[field] = columns_of(given[field], FLAGS[field])
    if "split" in given:
        given["split"] = split_of(given["split"])
    return given


def columns_of(text: str, flag: str = FLAGS["targets"]) -> tuple[str, ...]:
    """Read `a,b` as two columns; one whose own name has a comma stands in double quotes.

    Raises ConfigError, naming `flag`.
    """
    try:
        row = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise ConfigError(f"{flag}: {text!r:.60} names no columns ({error})") from None
    return tuple(column.strip() for column in row) or ("",)


def split_of(text: str) -> tuple[float, ...] | tuple[str, ...]:
    """Read `0.6,0.15,0.15` as numbers, anything else as the dates that it may be."""
    parts = tuple(part.strip() for part in text.split(","))
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        return parts


def task_with(task: TaskConfig, given: dict[str, Any]) -> TaskConfig:
    """Return `task` with other fields; another `name` may make it a task of another kind.

    Raises ConfigError that begins with the flag to fix.
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

"""A `RunConfig` as the text of a config.py, with the fields' descriptions as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from nas_system.config_io.literal_python import TorchName
from nas_system.config_io.original_format import CLASS_KEYS, PLAIN_TRAINING, ClassKey
from nas_system.space import Parameter, RunConfig, TaskConfig, is_active, parameters, value_at

_HEADER = '''\
"""Configuration of one training. It looks like Python, but it is data: read, never executed.

Numbers, strings, True, False, None, [...], {...} and the classes named here; no calls, no arithmetic.
"""

'''

_IMPORTS = "import torch.nn as nn\nimport torch.optim as optim\n"

_WIDTH = 110
_INLINE = 40
"""Code longer than this has its comment on the line above."""

Row = tuple[str, tuple[str, ...]]
"""Code, and its comment in one or two sentences."""


def text_of(config: RunConfig, *, comments: bool) -> str:
    """The text of a config.py with everything in `config` that has an effect."""
    family = _row("family", config.model.family, type(config.model).__doc__ or "")
    sections = {
        "model": [family, *_active_rows(config, "model")],
        "training": _training_rows(config),
        "data": _active_rows(config, "data"),
        "task": _task_rows(config.task),
    }
    blocks = [_IMPORTS]
    blocks += [f"{name} = {{\n{_aligned(rows, comments)}}}\n" for name, rows in sections.items()]
    blocks.append(f"seed = {config.seed}\n")
    return (_HEADER if comments else "") + "\n".join(blocks)


def _row(name: str, value: Any, description: str, choices: Iterable[str] = (), depth: int = 1) -> Row:
    comment = [" ".join(description.split())] if description else []
    if choices:
        comment.append(f"One of: {', '.join(choices)}.")
    return f'{"    " * depth}"{name}": {_literal(value)},', tuple(comment)


def _literal(value: Any) -> str:
    """A value as source. Text becomes an ASCII literal in which every quote and line break is escaped."""
    if isinstance(value, TorchName):
        return value.full.removeprefix("torch.")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    text = ascii(value)
    return f'"{value}"' if text == f"'{value}'" and '"' not in value else text


def _active_rows(config: RunConfig, group: str) -> list[Row]:
    rows = []
    for parameter in parameters(config.model.family):
        if parameter.path.startswith(f"{group}.") and is_active(config, parameter):
            words = parameter.kind == "choice" and isinstance(parameter.default, str)
            choices = tuple(parameter.choices or ()) if words else ()
            value = value_at(config, parameter.path)
            rows.append(_row(_name(parameter), value, parameter.description, choices))
    return rows


def _name(parameter: Parameter) -> str:
    return parameter.path.split(".", 1)[1]


def _training_rows(config: RunConfig) -> list[Row]:
    known = [p for p in parameters(config.model.family) if p.path.startswith("training.")]
    fields = {_name(p): p.description for p in known}
    inactive = {_name(p) for p in known if not is_active(config, p)}
    rows: list[Row] = []
    for kind in CLASS_KEYS:
        rows += _class_rows(config, kind, fields)
    for name in PLAIN_TRAINING:
        if name in inactive:
            continue
        rows.append(_row(name, getattr(config.training, name), fields.get(name, "")))
    return rows


def _class_rows(config: RunConfig, kind: ClassKey, described: dict[str, str]) -> list[Row]:
    choice = getattr(config.training, kind.choice_field)
    known = next((torch_class for torch_class in kind.classes if torch_class.choice == choice), None)
    names = [torch_class.usual for torch_class in kind.classes] + ["None"] * bool(kind.no_class)
    value = TorchName(known.name) if known else None
    rows = [_row(kind.key, value, described[kind.choice_field], names)]
    if known and known.fields:
        rows.append((f'    "{kind.params_key}": {{', ()))
        for name, target in known.fields.items():
            rows.append(_row(name, getattr(config.training, target), described[target], depth=2))
        rows.append(("    },", ()))
    return rows


def _task_rows(task: TaskConfig) -> list[Row]:
    rows = [
        _row(name, getattr(task, name), field.description or "")
        for name, field in type(task).model_fields.items()
    ]
    return [row for row in rows if not row[0].endswith(" None,")]


def _aligned(rows: list[Row], comments: bool) -> str:
    """The rows with their comments in one column, or above where there is no room beside."""
    column = max((len(code) for code, _ in rows if len(code) <= _INLINE), default=0) + 2
    lines = []
    for code, comment in rows:
        beside = f"{code:{column}}# {' '.join(comment)}"
        if not comments or not comment:
            lines.append(code)
        elif len(code) <= _INLINE and len(beside) <= _WIDTH:
            lines.append(beside)
        else:
            start = " " * (len(code) - len(code.lstrip())) + "# "
            for sentence in comment:
                lines += textwrap.wrap(sentence, _WIDTH, initial_indent=start, subsequent_indent=start)
            lines.append(code)
    return "".join(f"{line}\n" for line in lines)

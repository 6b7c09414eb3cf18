"""A `RunConfig` as the text of a config.py, with the fields' descriptions as comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from nas_system.config_io.literal_python import TorchName
from nas_system.config_io.torch_classes import CLASS_KEYS, ClassKey, plain_fields
from nas_system.space.run_config import RunConfig, is_active, parameters, value_at

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
    """Return the text of a config.py with everything in `config` that has an effect."""
    family = _row("family", config.model.family, type(config.model).__doc__ or "")
    task = [
        _row(name, value, field.description or "")
        for name, field in type(config.task).model_fields.items()
        if (value := getattr(config.task, name)) not in (None, ())
        and not (name in config.task.left_out and value == field.default)
    ]
    sections = {
        "model": [family, *_active_rows(config, "model")],
        "training": [row for kind in CLASS_KEYS for row in _class_rows(config, kind)],
        "data": list(_active_rows(config, "data")),
        "task": task,
    }
    sections["training"] += _active_rows(config, "training", plain_fields(type(config.training).model_fields))
    blocks = [_IMPORTS]
    blocks += [f"{name} = {{\n{_aligned(rows, comments)}}}\n" for name, rows in sections.items()]
    blocks.append(f"seed = {config.seed}\n")
    return (_HEADER if comments else "") + "\n".join(blocks)


def _row(name: str, value: object, description: str, choices: Iterable[str] = (), depth: int = 1) -> Row:
    comment = [" ".join(description.split())] if description else []
    if choices:
        comment.append(f"One of: {', '.join(choices)}.")
    return f'{"    " * depth}"{name}": {_literal(value)},', tuple(comment)


def _literal(value: object) -> str:
    """Return a value as source: text is an ASCII literal in which every quote and line break is escaped."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    text = ascii(value)
    return f'"{value}"' if text == f"'{value}'" and '"' not in text else text


def _active_rows(config: RunConfig, group: str, names: Iterable[str] = ()) -> Iterator[Row]:
    for parameter in parameters(config.model.family):
        name = parameter.path.removeprefix(f"{group}.")
        if name in (names or (name,)) and parameter.group == group and is_active(config, parameter):
            of_words = parameter.kind == "choice" and isinstance(parameter.default, str)
            choices = parameter.choices if of_words else None
            yield _row(name, value_at(config, parameter.path), parameter.description, choices or ())


def _class_rows(config: RunConfig, kind: ClassKey) -> Iterator[Row]:
    training, fields = config.training, type(config.training).model_fields
    choice = getattr(training, kind.choice_field)
    known = next((torch_class for torch_class in kind.classes if torch_class.choice == choice), None)
    names = [torch_class.usual for torch_class in kind.classes] + ["None"] * bool(kind.no_class)
    value = TorchName(known.name) if known else None
    yield _row(kind.key, value, fields[kind.choice_field].description or "", names)
    if known and known.fields:
        yield f'    "{kind.params_key}": {{', ()
        for name, target in known.fields.items():
            yield _row(name, getattr(training, target), fields[target].description or "", depth=2)
        yield "    },", ()


def _aligned(rows: Iterable[Row], comments: bool) -> str:
    """Return the rows with their comments in one column, or above where there is no room."""
    column = max((len(code) for code, _ in rows if len(code) <= _INLINE), default=0) + 2
    lines: list[str] = []
    for code, comment in rows:
        inline = f"{code:{column}}# {' '.join(comment)}"
        if comments and comment and len(code) <= _INLINE and len(inline) <= _WIDTH:
            lines.append(inline)
            continue
        start = " " * (len(code) - len(code.lstrip())) + "# "
        for sentence in comment if comments else ():
            lines += textwrap.wrap(sentence, _WIDTH, initial_indent=start, subsequent_indent=start)
        lines.append(code)
    return "".join(f"{line}\n" for line in lines)

"""From the text of a config.py to plain values, without running a character of it.

The file looks like Python because people like to edit it that way, but it is data: assignments
of literals to known names, and the names of listed classes. Everything else is refused with the
line and what to write instead. The text may come from a language model, so nothing is assumed.
"""

from __future__ import annotations

import ast
import difflib
import io
import math
import tokenize
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from nas_system.config_io.hints import WORDS, why_no_statement, why_no_value
from nas_system.errors import ConfigError

LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class TorchName:
    """A class the file names, for example `torch.optim.Adam`. Only the name; it is never imported."""

    full: str


@dataclass
class Document:
    """What a file says: its values, and the line of every key (`("training", "max_epochs")` -> 12)."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)

    def line(self, path: tuple[str, ...]) -> int | None:
        """The line of `path`, or of the nearest key around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def refuse_unknown(self, path: tuple[str, ...], known: Collection[str], homes: Mapping[str, str]) -> None:
        """Raise ConfigError for a key at `path` that is not `known`, saying which was meant.

        `homes` tells where keys live that people put in the wrong place.
        """
        place = ".".join(path) or "a configuration"
        values: Any = self.values
        for name in path:
            values = values.get(name, {})
        for key in values if isinstance(values, dict) else ():
            if key in known:
                continue
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
            if homes.get(key, place) != place:
                hint = f"it belongs to {homes[key]}"
            raise refusal(self.line((*path, key)), f"{place} has no key {key!a:.60}; {hint}")


def refusal(line: int | None, reason: str) -> ConfigError:
    """The error for one line of a file; whoever knows the file's name puts it in front."""
    return ConfigError(f"line {line}: {reason}" if line else reason)


def is_text(value: str) -> bool:
    """Whether every character is a whole one; a lone surrogate cannot be written to any file."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def parse_assignments(text: str, *, names: Collection[str], classes: Mapping[str, str]) -> Document:
    """The assignments in `text` to `names`; `classes` maps the classes it may name to their usual spelling.

    Raises ConfigError for everything that is not a literal, a listed class or an import of one.
    """
    try:
        tree = _tree(text)
        _refuse_look_alikes(text)
        reader = _Reader(names, classes)
        for position, statement in enumerate(tree.body):
            reader.read(statement, first=position == 0)
        return reader.document
    except (RecursionError, MemoryError):
        raise ConfigError("the values are nested too deeply; a configuration is flat") from None


def _tree(text: str) -> ast.Module:
    if "\0" in text:
        raise refusal(text[: text.index("\0")].count("\n") + 1, "a NUL byte; this is not a text file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string is not this program's business
            return ast.parse(text)
    except SyntaxError as error:
        raise refusal(error.lineno, f"not valid syntax: {error.msg}") from None
    except ValueError as error:  # an integer of more than 4,300 digits, where the parser does not say so
        raise ConfigError(f"not valid syntax: {error}") from None


def _refuse_look_alikes(text: str) -> None:
    """Python folds letters (NFKC), so a full-width `model` would silently be `model`."""
    if text.isascii():
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline=None).readline):
            if token.type in (tokenize.NAME, tokenize.ERRORTOKEN) and not token.string.isascii():
                raise refusal(
                    token.start[0],
                    f"the name {token.string!a:.60} has letters outside a-z; names are plain ASCII",
                )
    except (tokenize.TokenError, SyntaxError):
        raise ConfigError("not valid syntax; check quotes and indentation") from None


class _Reader:
    """Reads statement by statement; `imported` maps local names to what they stand for."""

    def __init__(self, names: Collection[str], classes: Mapping[str, str]) -> None:
        self.names = names
        self.classes = classes
        self.modules = {name.rsplit(".", cut)[0] for name in classes for cut in range(1, name.count(".") + 1)}
        self.imported: dict[str, str] = {}
        self.document = Document()

    def read(self, node: ast.stmt, *, first: bool) -> None:
        match node:
            case ast.Expr(value=ast.Constant(value=str())) if first:
                pass
            case ast.Import():
                for alias in node.names:
                    root = alias.name.split(".")[0]
                    self.bind(node, alias.asname or root, alias.name, alias.name if alias.asname else root)
            case ast.ImportFrom(level=0, module=str()):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    self.bind(node, alias.asname or alias.name, full, full)
            case ast.Assign(targets=[ast.Name(id=name)]):
                self.assign(node, name)
            case _:
                raise refusal(node.lineno, why_no_statement(node))

    def bind(self, node: ast.stmt, local: str, full: str, meaning: str) -> None:
        if full not in self.modules and full not in self.classes:
            allowed = "torch.optim and torch.nn"
            raise refusal(node.lineno, f"the import of {full!a:.60} is refused; only {allowed} are imported")
        if local in self.names or self.imported.get(local, meaning) != meaning:
            raise refusal(node.lineno, f"the name {local} means two things; import under another name")
        self.imported[local] = meaning

    def assign(self, node: ast.Assign, name: str) -> None:
        if name not in self.names:
            close = difflib.get_close_matches(name, self.names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(self.names)}"
            raise refusal(node.lineno, f"unknown name {name!a:.60}; {hint}")
        if name in self.document.values:
            before = self.document.lines[(name,)]
            raise refusal(node.lineno, f"{name} is assigned a second time (first in line {before}); keep one")
        self.document.lines[(name,)] = node.lineno
        self.document.values[name] = self.value(node.value, (name,))

    def value(self, node: ast.expr, path: tuple[str, ...]) -> Any:
        match node:
            case ast.Constant():
                return _constant(node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number) as operand):
                if not isinstance(number, bool):
                    return -_constant(operand)
            case ast.Dict():
                return self.dictionary(node, path)
            case ast.List():
                return [self.value(item, path) for item in node.elts]
            case ast.Tuple():
                return tuple(self.value(item, path) for item in node.elts)
            case ast.Name() | ast.Attribute():
                return self.torch_name(node, path)
        raise refusal(node.lineno, why_no_value(node, self.usual_spelling(node)))

    def dictionary(self, node: ast.Dict, path: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise refusal(value.lineno, "** is refused; write the keys out")
            name = _constant(key) if isinstance(key, ast.Constant) else None
            if not isinstance(name, str):
                raise refusal(key.lineno, 'a key is a string in quotes, for example "d_model"')
            if name in values:
                before = self.document.lines[(*path, name)]
                raise refusal(key.lineno, f"{name!a:.60} stands twice (first in line {before}); keep one")
            self.document.lines[(*path, name)] = key.lineno
            values[name] = self.value(value, (*path, name))
        return values

    def torch_name(self, node: ast.expr, path: tuple[str, ...]) -> TorchName:
        spelled = _dotted(node)
        full = self.full_name(spelled)
        if full in self.classes:
            if not path[-1].endswith("_class"):
                raise refusal(node.lineno, f"{path[-1]!a:.60} takes a plain value, not the class {spelled}")
            return TorchName(full)
        raise refusal(node.lineno, self.why_no_name(spelled))

    def full_name(self, spelled: str) -> str:
        root, dot, rest = spelled.partition(".")
        return self.imported.get(root, "") + dot + rest

    def why_no_name(self, spelled: str) -> str:
        if spelled in WORDS:
            return WORDS[spelled]
        usual = {usual: full for full, usual in self.classes.items()}
        if spelled in usual or spelled in self.classes:
            module = "torch.nn as nn" if ".nn." in usual.get(spelled, spelled) else "torch.optim as optim"
            return f"{spelled} is named before it is imported; add 'import {module}' at the top"
        return f"the name {spelled!a:.60} is no value here; the names there are: {', '.join(usual)}"

    def usual_spelling(self, node: ast.expr) -> str:
        """How the class that is called in `node` is usually written, or nothing."""
        return self.classes.get(self.full_name(_dotted(node.func)), "") if isinstance(node, ast.Call) else ""


def _constant(node: ast.Constant) -> Any:
    value, line = node.value, node.lineno
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise refusal(line, "an integer this large is not a setting")
    if isinstance(value, float) and not math.isfinite(value):
        raise refusal(line, "this number is too large for a float; write a finite one")
    if isinstance(value, str) and not is_text(value):
        raise refusal(line, "half a character (a lone surrogate); write the whole one")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = "..." if value is ... else type(value).__name__
    raise refusal(line, f"{kind} is no value here; write a plain number or string")


def _dotted(node: ast.expr) -> str:
    """`optim.Adam` for the node of optim.Adam; nothing if it is not a chain of names."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""

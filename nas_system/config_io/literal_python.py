"""From the text of a config.py to plain values, without running a character of it.

The file looks like Python because people like to edit it that way, but it is data. The text may
come from a language model, so nothing is assumed.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

from nas_system.config_io.document import Document, Path, Values, checked_number, refusal
from nas_system.errors import ConfigError

_ACCEPTED = (
    "this file is data and never executed: it holds imports of torch.nn and torch.optim and name = value, "
    'where a value is a number, a string, True, False, None, [...], {"key": value} or, without parentheses, '
    "an imported class such as optim.Adam"
)

_MODULES = ("torch.nn", "torch.optim", "torch.optim.lr_scheduler")


@dataclass(frozen=True)
class TorchName:
    """A class the file names, for example `torch.optim.Adam`. Only the name; it is never imported."""

    full: str

    def __repr__(self) -> str:
        """Return `optim.Adam`, as it is written after `import torch.optim as optim`."""
        return self.full.removeprefix("torch.")


def parse_assignments(text: str) -> Document:
    """Return the assignments in `text`: literals, and names of what is imported from PyTorch.

    Raises ConfigError for everything else.
    """
    if "\0" in text:
        raise refusal(text[: text.index("\0")].count("\n") + 1, "a NUL byte; this is not a text file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string is not this program's business
            tree = ast.parse(text)
        reader = _Reader(text)
        for position, statement in enumerate(tree.body):
            reader.read(statement, first=position == 0)
        return reader.document
    except SyntaxError as error:
        raise refusal(error.lineno, f"not valid syntax: {error.msg}") from None
    except ValueError as error:  # an integer of more than 4,300 digits, where the parser does not say so
        raise ConfigError(f"not valid syntax: {error}") from None
    except (RecursionError, MemoryError):
        raise ConfigError("the values are nested too deeply; a configuration is flat") from None


class _Reader:
    """Reads statement by statement."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.meanings: dict[str, str] = {}
        """Local name -> what it was imported for; nothing for a name that is assigned."""
        self.document = Document()

    def read(self, node: ast.stmt, *, first: bool) -> None:
        match node:
            case ast.Expr(value=ast.Constant(value=str())) if first:
                pass
            case ast.Import() | ast.ImportFrom(level=0):
                for alias in node.names:
                    self.bind(node, alias)
            case ast.Assign(targets=[ast.Name() as target]) if name := _dotted(target):
                self.name(node.lineno, name, "")
                self.store(self.document.values, (name,), node.lineno, node.value)
            case _:
                raise self.refusal(node)

    def bind(self, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
        full = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        of_a_module = full.rpartition(".")[0] in _MODULES and alias.name != "*"
        if full not in ("torch", *_MODULES) and not of_a_module:
            raise self.refusal(node)
        if isinstance(node, ast.Import) and not alias.asname:
            self.name(node.lineno, "torch", "torch")  # what `import torch.optim` binds
        else:
            self.name(node.lineno, alias.asname or alias.name, full)

    def name(self, line: int, local: str, meaning: str) -> None:
        if self.meanings.setdefault(local, meaning) != meaning:
            raise refusal(line, f"the name {local} means two things; import under another name")

    def store(self, values: Values, path: Path, line: int, node: ast.expr) -> None:
        if path[-1] in values:
            before = self.document.lines[path]
            raise refusal(line, f"{path[-1]!a:.60} stands twice (first in line {before}); keep one")
        self.document.lines[path] = line
        values[path[-1]] = self.value(node, path)

    def value(self, node: ast.expr, path: Path) -> object:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return checked_number(value, node.lineno)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                if not isinstance(number, bool):
                    return checked_number(-number, node.lineno)
            case ast.List(elts=items):
                return [self.value(item, path) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(item, path) for item in items)
            case ast.Dict():
                values: Values = {}
                for key, value in zip(node.keys, node.values, strict=True):
                    if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                        raise self.refusal(key or value)
                    self.store(values, (*path, key.value), key.lineno, value)
                return values
            case ast.Name() | ast.Attribute():
                root, dot, rest = _dotted(node).partition(".")
                if meaning := self.meanings.get(root):
                    return TorchName(meaning + dot + rest)
        raise self.refusal(node)

    def refusal(self, node: ast.stmt | ast.expr) -> ConfigError:
        found = ast.get_source_segment(self.text, node) or ""
        return refusal(node.lineno, f"{found!a:.60} is not accepted; {_ACCEPTED}")


def _dotted(node: ast.expr) -> str:
    """Return `optim.Adam` for the node of optim.Adam; nothing if it is not a chain of plain names."""
    width = (node.end_col_offset or 0) - node.col_offset
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    name = ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
    # Python folds letters (NFKC): a full-width `model` is `model` in the tree, but more bytes in the file.
    return name if len(name) == width else ""

"""What a configuration file holds, and how its names become those of `RunConfig`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nas_system.errors import ConfigError

Path = tuple[str, ...]
"""`("training", "max_epochs")`."""

Values = dict[str, Any]

Layout = dict[Path, Path | None]
"""Where a format keeps each value -> where `RunConfig` has it; None for a value that is read elsewhere."""


@dataclass
class Document:
    """The values of a file, and the line of every key (`("training", "max_epochs")` -> 12)."""

    values: Values = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)

    def section(self, path: Path) -> Values:
        """Return the mapping at `path`, empty if there is none. Raises ConfigError for any other value."""
        values = self.values
        for depth, name in enumerate(path, 1):
            values = values.get(name, {})
            if not isinstance(values, dict):
                raise self.refusal(path[:depth], f"{'.'.join(path[:depth])} is a mapping of names and values")
        return values

    def locate(self, path: Path) -> str:
        """Return `line 12: ` for the line of `path` or of the nearest key around it; nothing if unknown."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"line {self.lines[path]}: " if path else ""

    def refusal(self, path: Path, reason: str) -> ConfigError:
        """Return the error for a value, with its line."""
        return ConfigError(self.locate(path) + reason)


def refusal(line: int | None, reason: str) -> ConfigError:
    """Return the error for one line of a file."""
    return ConfigError(f"line {line}: {reason}" if line else reason)


def checked_number(value: object, line: int) -> object:
    """Return `value`. Raises ConfigError for an integer so long that no error message could print it."""
    if isinstance(value, int) and value.bit_length() > 63:
        raise refusal(line, "an integer this large is not a setting")
    return value


def unchanged(section: str, names: Iterable[str]) -> Layout:
    """Return the layout of a section whose names are those of `RunConfig`."""
    return {(section, name): (section, name) for name in names}


def translate(document: Document, layout: Layout) -> Document:
    """Return the document's values, with their lines, where `RunConfig` has them.

    Raises ConfigError for a key that is not in `layout`, with the key that was meant.
    """
    names: dict[Path, dict[str, None]] = {}
    for path in layout:
        for depth in range(len(path)):
            names.setdefault(path[:depth], {})[path[depth]] = None
    plain = Document(lines=dict(document.lines))
    sections: list[Path] = [()]
    for section in sections:
        for name, value in document.section(section).items():
            path = (*section, name)
            if target := layout.get(path):
                _move(document, path, plain, target, value)
            elif path not in layout:
                if path not in names:
                    raise document.refusal(path, _unknown(path, list(names[section]), layout))
                sections.append(path)
    return plain


def _move(document: Document, path: Path, plain: Document, target: Path, value: object) -> None:
    values = plain.values if len(target) == 1 else plain.values.setdefault(target[0], {})
    if target[-1] in values:
        raise document.refusal(path, f"{'.'.join(target)} is given twice, under two names; keep one of them")
    values[target[-1]] = value
    for inner, line in document.lines.items():
        if inner[: len(path)] == path:
            plain.lines[target + inner[len(path) :]] = line


def _unknown(path: Path, known: list[str], layout: Layout) -> str:
    *section, key = path
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
    for source, target in layout.items():
        if key in (source[-1], (target or source)[-1]):
            alias = f", as {source[-1]}" if source[-1] != key else ""
            hint = f"it belongs to {'.'.join(source[:-1]) or 'the top of the file'}{alias}"
            break
    return f"{'.'.join(section) or 'a configuration'} has no key {key!a:.60}; {hint}"

"""Settings that are flags, JSON and Python at once: a field declares its default, meaning and bounds.

Imports nothing beyond the standard library, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from nas_system.errors import ConfigError


def option(
    default: Any,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Declare a field of `Options`: bool, int, float, or names from `choices`; bounds are inclusive."""
    return field(default=default, metadata={"help": meaning, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Options:
    """Base of frozen dataclasses whose fields are declared by `option`. Raises ConfigError for bad values."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check(entry.name, getattr(self, entry.name), entry.default, entry.metadata)

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser, suffix: str = "") -> None:
        """Add one flag per field: --name, or --name-suffix."""
        group = parser.add_argument_group(_title(cls))
        for entry in fields(cls):
            flag = "--" + _joined(entry.name, suffix).replace("_", "-")
            default = entry.default
            shown = ",".join(default) if isinstance(default, tuple) else default
            text = f"{entry.metadata['help']}{_bounds(entry.metadata)} (default: {shown})"
            if isinstance(default, bool):
                group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
            elif isinstance(default, tuple):
                group.add_argument(flag, type=_names, default=default, help=text, metavar="A,B")
            else:
                kind = type(default)
                group.add_argument(flag, type=kind, default=default, help=text, metavar=kind.__name__.upper())

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace, suffix: str = "") -> Self:
        """Read the flags of `add_to`."""
        return cls(**{entry.name: getattr(arguments, _joined(entry.name, suffix)) for entry in fields(cls)})

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` returned. Raises ConfigError for anything else."""
        names = {entry.name for entry in fields(cls)}
        if not isinstance(value, dict) or value.keys() != names:
            found = sorted(value.keys() ^ names) if isinstance(value, dict) else type(value).__name__
            raise ConfigError(f"the settings do not fit this program: {found}")
        return cls(**{name: tuple(item) if isinstance(item, list) else item for name, item in value.items()})

    def to_json(self) -> dict[str, object]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def writable_file(path: Path) -> Path:
    """Return `path` if a file can be written there, and create its folder. Raises ConfigError."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: cannot be made a folder ({error.strerror})") from None
    return path


def _title(cls: type) -> str:
    return (cls.__doc__ or "").splitlines()[0].rstrip(".").lower()


def _joined(name: str, suffix: str) -> str:
    return f"{name}_{suffix}" if suffix else name


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _bounds(metadata: Any) -> str:
    if metadata["choices"]:
        return f": {', '.join(metadata['choices'])}"
    return "" if metadata["low"] is None else f", {metadata['low']:g} to {metadata['high']:g}"


def _check(name: str, value: Any, default: Any, metadata: Any) -> None:
    wanted = type(default)
    fits = isinstance(value, (int, float) if wanted is float else wanted)
    if not fits or (isinstance(value, bool) and wanted is not bool):
        raise ConfigError(f"{name}={value!r}: must be of type {wanted.__name__}")
    if isinstance(value, tuple):
        unknown = [item for item in value if item not in metadata["choices"]]
        if unknown or not value or len(set(value)) < len(value):
            raise ConfigError(
                f"{name}={','.join(map(str, value))!r}: name each once, from {', '.join(metadata['choices'])}"
            )
    elif metadata["low"] is not None and not (
        math.isfinite(value) and metadata["low"] <= value <= metadata["high"]
    ):
        raise ConfigError(f"{name}={value}: must be from {metadata['low']:g} to {metadata['high']:g}")

"""Which searches a comparison consists of, in which order, and what is written down of it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_system.errors import ConfigError
from nas_system.files import read_object, write_json
from nas_system.nas_agent.agent_state import STATE_FILE

RECORD_FILE = "compare.json"
SCHEMA = 1
MAY_CHANGE = frozenset(
    (
        *("workspace", "proposers", "seeds", "data_dir", "launcher", "sandbox", "threads", "device"),
        *("keep_free", "wait_for_disk", "max_silent_minutes", "memory_per_run", "disk_per_run"),
    )
)
"""Arguments that do not decide what a search finds: a comparison may go on with others, or with more
proposers and seeds."""


@dataclass(frozen=True)
class Cell:
    """One search of a comparison."""

    proposer: str
    seed: int

    @property
    def name(self) -> str:
        """Return the folder of the search within that of the comparison."""
        return f"seed_{self.seed}/{self.proposer}"

    def arguments(self, given: argparse.Namespace) -> argparse.Namespace:
        """Return the arguments of `nas run` for this search."""
        own = {
            "proposer": self.proposer,
            "seed": self.seed,
            "max_runs": given.runs,
            "workspace": given.workspace / self.name,
            "continued": None,
            "dry_run": False,
            "no_refit": True,
        }
        return argparse.Namespace(**{**vars(given), **own})


def cells_of(proposers: Sequence[str], first_seed: int, seeds: int) -> list[Cell]:
    """Return the searches in their order: seed by seed, each seed begun by another proposer.

    Wherever it is stopped, no proposer is more than one search ahead of another.
    """
    return [
        Cell(proposers[(place + number) % len(proposers)], first_seed + number)
        for number in range(seeds)
        for place in range(len(proposers))
    ]


def settings_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the arguments that all searches of a comparison share for good, as text."""
    return {
        name: str(value)
        for name, value in sorted(vars(arguments).items())
        if name not in MAY_CHANGE and value is not None
    }


@dataclass(frozen=True)
class Record:
    """What compare.json holds."""

    settings: Mapping[str, str]
    ended: tuple[str, ...] = ()
    """Names of the searches that have ended."""
    result: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> None:
        content = {
            "schema_version": SCHEMA,
            "settings": dict(self.settings),
            "ended": list(self.ended),
            "result": self.result,
        }
        write_json(folder / RECORD_FILE, content)


def open_record(folder: Path, settings: Mapping[str, str]) -> Record:
    """Return what is known of the comparison in `folder`, a new one if there is none.

    Raises ConfigError for a folder with something else in it, and for a comparison with other settings.
    """
    if (folder / STATE_FILE).exists():
        raise ConfigError(f"{folder} holds a search; choose another --workspace for the comparison")
    path = folder / RECORD_FILE
    try:
        stored = read_object(path)
    except FileNotFoundError:
        return Record(settings)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read ({error}); remove it, the searches go on") from None
    known, ended = stored.get("settings"), stored.get("ended")
    if stored.get("schema_version") != SCHEMA or not isinstance(known, dict) or not isinstance(ended, list):
        raise ConfigError(
            f"{path} is no comparison that this program can read; remove it, the searches go on"
        )
    for name in sorted({*known, *settings}):
        if known.get(name) != settings.get(name):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"this comparison began with {flag} {_shown(known.get(name))}, not "
                f"{_shown(settings.get(name))}; choose another --workspace"
            )
    return Record(settings, tuple(name for name in ended if isinstance(name, str)))


def _shown(value: Any) -> str:
    return "not set" if value is None else f"{value!s:.80}"

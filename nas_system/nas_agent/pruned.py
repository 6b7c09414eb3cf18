"""pruned.json: why the search stopped a training early, written before the training is asked to end.

The file is the agent's own, and lies where no training can write; it is read like any other all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from nas_system.files import finite, read_record, write_json
from nas_system.processes.run_files import RunPaths
from nas_system.space.score import Direction

SCHEMA = 1
MOST_EPOCHS = 10**6
_RUN_ID = re.compile(r"run_[0-9]{1,9}")
_WORD = re.compile(r"[a-z_]{1,20}")
_SHARE = re.compile(r"[1-9]/[1-9]")
_IN_A_CAUSE = re.compile(r"stopped early at epoch ([0-9]{1,7}) of ([0-9]{1,7}) ")


@dataclass(frozen=True)
class Pruned:
    """What a rule of `nas_agent_graph.analysis.pruning` found: a training that is not going to win."""

    rule: str
    """`margin` or `median`."""
    rung: str
    """Share of the planned epochs at which it was compared: `1/4`, `1/2`, `3/4`."""
    epoch: int
    """Epochs that the rung is, counted from 1."""
    planned_epochs: int
    direction: Direction
    """Which way the metric is better."""
    score: float
    """The training's best validation score in these epochs."""
    threshold: float
    """What `score` is worse than."""
    reference: float
    """The score that the threshold is made of: the best one, or the median."""
    against: str | None
    """The run whose score `reference` is; None for a median."""
    margin: float
    """By which share of the reference's error the threshold is worse than it; 0 for a median."""
    compared: int
    """Ended runs that the threshold was made from."""

    def to_json(self, attempt: int) -> dict[str, object]:
        """Return what pruned.json holds about this attempt of the run."""
        return {"schema": SCHEMA, "attempt": attempt, **asdict(self)}

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> Self | None:
        """Read it from pruned.json, which anybody may have edited; None if it is no such record."""
        if record is None or record.get("schema") != SCHEMA:
            return None
        numbers = {name: finite(record.get(name)) for name in ("score", "threshold", "reference", "margin")}
        counts = {name: _count(record.get(name)) for name in ("epoch", "planned_epochs", "compared")}
        rule, rung = _text(record, "rule", _WORD), _text(record, "rung", _SHARE)
        direction, against = record.get("direction"), record.get("against")
        known = against is None or (isinstance(against, str) and _RUN_ID.fullmatch(against))
        if rule is None or rung is None or not known or direction not in ("minimize", "maximize"):
            return None
        if None in (*numbers.values(), *counts.values()):
            return None
        return cls(rule=rule, rung=rung, against=against, direction=direction, **numbers, **counts)  # pyright: ignore[reportArgumentType]

    def cause(self, metric: str) -> str:
        """Return why, in one sentence: `stopped early at epoch 4 of 8 at val_mse 0.061200, 22 % above
        run_0007 (rule margin)`. Of what is maximised the difference is given, not its share."""
        distance = abs(self.score - self.reference)
        far = f"{_number(distance)} {'above' if self.direction == 'minimize' else 'below'}"
        if self.direction == "minimize" and 0 < distance < 10 * self.reference:
            far = f"{100 * distance / self.reference:.0f} % above"
        of = self.against or f"the median of {self.compared} runs"
        return (
            f"stopped early at epoch {self.epoch} of {self.planned_epochs} "
            f"at {metric} {_number(self.score)}, {far} {of} (rule {self.rule})"
        )


def write_pruned(run_dir: Path, pruned: Pruned, attempt: int) -> None:
    """Write pruned.json durably: it has to be there before the training is asked to end. Raises OSError."""
    write_json(RunPaths(run_dir).pruned, pruned.to_json(attempt))


def read_pruned(run_dir: Path, attempt: int) -> Pruned | None:
    """Return why this attempt was stopped early; None if it was not, or the record is invalid."""
    record = read_record(RunPaths(run_dir).pruned)
    return Pruned.of(record) if record is not None and record.get("attempt") == attempt else None


def epochs_saved(cause: str | None) -> int:
    """Return how many planned epochs the sentence of `Pruned.cause` leaves; 0 for any other text."""
    found = _IN_A_CAUSE.match(cause or "")
    return max(int(found[2]) - int(found[1]), 0) if found else 0


def _number(value: float) -> str:
    return f"{value:.6f}" if abs(value) < 1000 else f"{value:.6g}"


def _count(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value <= MOST_EPOCHS else None


def _text(record: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) and form.fullmatch(value) else None

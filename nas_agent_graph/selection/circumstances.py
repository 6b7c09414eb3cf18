"""What decides about repeats besides the scores, in a form that can be written down and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Circumstances:
    """What the rule is given besides the state."""

    max_runs: int
    repeats: int | None
    """Size of the final; None: as the rule has it."""
    more: bool
    """Whether further configurations will begin."""
    in_progress: tuple[str, ...]
    """The trainings in progress, runs and repeats."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Circumstances:
        """Read them back. Raises ValueError, TypeError or LookupError if they are none."""
        repeats = record["final"]
        return cls(
            int(record["max_runs"]),
            None if repeats is None else int(repeats),
            bool(record["more"]),
            tuple(str(name) for name in record["in_progress"]),
        )

    def to_record(self) -> dict[str, object]:
        """Return them as JSON."""
        return {
            "max_runs": self.max_runs,
            "final": self.repeats,
            "more": self.more,
            "in_progress": list(self.in_progress),
        }

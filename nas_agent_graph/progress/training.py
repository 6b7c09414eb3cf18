"""One training as the displays show it: its epochs, and what is left of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from nas_system.files import finite
from nas_system.space import RunConfig

_MOST_EPOCHS = 10**6
"""A training that plans more has written nonsense."""


@dataclass(frozen=True)
class Candidate:
    """A run that has been proposed and has no verdict yet, as text for people."""

    run_id: str
    proposer: str = ""
    changes: str = ""
    hypothesis: str = ""
    config: RunConfig | None = None
    tokens: int = 0
    cost_usd: float = 0.0

    @property
    def family(self) -> str:
        return self.config.model.family if self.config else ""


@dataclass
class Training:
    """What a training has written so far, as it was read last."""

    label: str
    """Its name for people: the run id, for a repeat of the first run followed by which one it is."""
    candidate: Candidate
    epoch_seen: float
    """When there was a new epoch, by the displays' clock."""
    scores: list[float | None] = field(default_factory=list)
    """Validation score per epoch."""
    epoch_s: float | None = None
    planned_epochs: int | None = None
    """Known once it has written what it plans."""
    has_ended: bool = False
    missed: int = 0
    """How often in turn another training of its run was seen, and not this one."""
    is_untold: bool = False
    """Whether there is an epoch that no line has reported."""
    told_at: float = -math.inf

    @property
    def run_id(self) -> str:
        return self.candidate.run_id

    @property
    def repeat(self) -> str:
        """Which repeat of its run it is; empty for the run's own training."""
        return self.label.removeprefix(self.run_id).lstrip(", ")

    def read(self, history: Mapping[str, object] | None, metric: str, now: float) -> bool:
        """Take in what the training has written; return whether there is a new epoch."""
        epochs = history.get("epochs") if history else None
        if not isinstance(epochs, list) or len(epochs) == len(self.scores):
            return False
        planned = finite(history.get("planned_epochs")) if history else None
        self.planned_epochs = int(planned) if planned is not None and 1 <= planned <= _MOST_EPOCHS else None
        entries = [epoch if isinstance(epoch, dict) else {} for epoch in epochs]
        self.scores = [finite(entry.get(metric)) for entry in entries]
        seconds = [s for entry in entries if (s := finite(entry.get("seconds"))) is not None]
        self.epoch_s = statistics.fmean(seconds) if seconds else None
        self.epoch_seen = now
        return bool(entries)

    @property
    def max_epochs(self) -> int | None:
        """Return how many epochs it plans, else the most that its configuration allows, if that says so."""
        config = self.candidate.config
        if self.planned_epochs is not None or config is None or config.training.max_steps is not None:
            return self.planned_epochs
        return config.training.max_epochs

    def seconds_left(self, now: float) -> float | None:
        """Return, by the clock, the rest of the planned epochs at the pace so far; None before the first and
        after the last. Early stopping may end a training before."""
        if self.epoch_s is None or self.max_epochs is None or len(self.scores) >= self.max_epochs:
            return None
        epochs = self.max_epochs - len(self.scores)
        return max(epochs * self.epoch_s - (now - self.epoch_seen), 0.0)

    def format_epoch(self, metric: str) -> str:
        """Format finished epochs of the most there can be: `epoch 4/10 val_mse 0.05310`."""
        of = f"/{self.max_epochs}" if self.max_epochs is not None else ""
        if not self.scores:
            return f"no epoch finished yet{f' (of {self.max_epochs})' if of else ''}"
        latest = self.scores[-1]
        score = "not finite" if latest is None else f"{latest:.5f}"
        return f"epoch {len(self.scores)}{of} {metric} {score}"

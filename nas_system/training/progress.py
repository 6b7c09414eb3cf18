"""The one owner of "is it getting better": best value, reference and patience."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass
class Progress:
    """Follows the deciding figure of a training; lower is better, or higher with mode "max".

    `best` is the best value ever seen. `reference` is the value the countdown compares
    with: it moves only when a value is better by more than `min_relative_gain`.
    """

    patience: int | None = None
    min_relative_gain: float = 0.0
    best: float = math.inf
    best_epoch: int | None = None
    reference: float = math.inf
    bad_epochs: int = 0
    mode: str = "min"

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode={self.mode!r} is not known; choose from: min, max")
        if self.mode == "max" and self.best_epoch is None:
            self.best = self.reference = -math.inf

    def update(self, value: float, epoch: int) -> bool:
        """Take one epoch's value in; True if it is a new best. NaN is never better than anything."""
        if self._better(value, self.reference, self.min_relative_gain):
            self.reference = value
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        if self._better(value, self.best, 0.0):
            self.best, self.best_epoch = value, epoch
            return True
        return False

    def _better(self, value: float, other: float, min_relative_gain: float) -> bool:
        if self.mode == "max":
            value, other = -value, -other
        # abs(): a reference below zero (likelihoods) must also get *lower* by the gain.
        gain = 0.0 if math.isinf(other) else min_relative_gain * abs(other)
        return value < other - gain

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.bad_epochs >= self.patience

    def state_dict(self) -> dict[str, float | int | str | None]:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class EarlyStopping:
    """Says when to stop a hand-written loop: `if early_stopping(val_loss): break`."""

    def __init__(self, patience: int = 10, mode: str = "min", min_relative_gain: float = 0.0) -> None:
        """Stop after `patience` values that are not better (by more than `min_relative_gain`)."""
        if patience < 1:
            raise ValueError(f"patience={patience}: at least one epoch is needed")
        self.progress = Progress(patience=patience, min_relative_gain=min_relative_gain, mode=mode)
        self._calls = 0

    def __call__(self, value: float) -> bool:
        """Take one epoch's value in; True if it is time to stop."""
        self.progress.update(float(value), self._calls)
        self._calls += 1
        return self.progress.exhausted

    @property
    def best(self) -> float:
        return self.progress.best

    @property
    def best_epoch(self) -> int | None:
        """Number of the call that brought the best value, from 0."""
        return self.progress.best_epoch

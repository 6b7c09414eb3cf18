"""The one owner of "is it getting better": best value, reference and patience."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass
class Progress:
    """Follows the deciding figure of a training; lower is better.

    `best` is the smallest value ever seen. `reference` is the value the countdown compares
    with: it moves only when a value is lower by more than `min_relative_gain`.
    """

    patience: int | None = None
    min_relative_gain: float = 0.0
    best: float = math.inf
    best_epoch: int | None = None
    reference: float = math.inf
    bad_epochs: int = 0

    def update(self, value: float, epoch: int) -> bool:
        """Take one epoch's value in; True if it is a new minimum."""
        # abs(): a reference below zero (likelihoods) must also get *lower* by the gain.
        if math.isinf(self.reference) or (
            value < self.reference - self.min_relative_gain * abs(self.reference)
        ):
            self.reference = value
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        if value < self.best:
            self.best, self.best_epoch = value, epoch
            return True
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.bad_epochs >= self.patience

    def state_dict(self) -> dict[str, float | int | None]:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value)

"""The one owner of "is it getting better": best value, reference and patience."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas_system.space.score import Direction, loss_of

_DIRECTION_OF_MODE: dict[str, Direction] = {"min": "minimize", "max": "maximize"}


@dataclass
class EarlyStoppingState:
    """Follows the deciding metric of a training.

    `best` is the best value ever seen. `reference` is the value the countdown compares
    with: it moves only when a value is better by more than `min_relative_gain`.
    """

    patience: int | None = None
    min_relative_gain: float = 0.0
    best: float = math.inf
    best_epoch: int | None = None
    reference: float = math.inf
    bad_epochs: int = 0
    direction: Direction = "minimize"

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"direction={self.direction!r} is not known; choose from: minimize, maximize")
        if self.direction == "maximize" and self.best_epoch is None:
            self.best = self.reference = -math.inf

    def update(self, value: float, epoch: int) -> bool:
        """Take one epoch's value in; return whether it is a new best. NaN is never better than anything."""
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
        value, other = loss_of(value, self.direction), loss_of(other, self.direction)
        # abs(): a reference below zero (likelihoods) must also get *lower* by the gain.
        gain = 0.0 if math.isinf(other) else min_relative_gain * abs(other)
        return value < other - gain

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.bad_epochs >= self.patience

    def state_dict(self) -> dict[str, float | int | str | None]:
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        values = dict(state)
        if "mode" in values:  # what older checkpoints call the direction
            values["direction"] = _DIRECTION_OF_MODE[values.pop("mode")]
        for name, value in values.items():
            setattr(self, name, value)


class EarlyStopping:
    """Decides when to end a hand-written loop: `if early_stopping(val_loss): break`."""

    def __init__(self, patience: int = 10, mode: str = "min", min_relative_gain: float = 0.0) -> None:
        """Stop after `patience` values that are not better (by more than `min_relative_gain`)."""
        if patience < 1:
            raise ValueError(f"patience={patience}: at least one epoch is needed")
        if mode not in _DIRECTION_OF_MODE:
            raise ValueError(f"mode={mode!r} is not known; choose from: {', '.join(_DIRECTION_OF_MODE)}")
        self._state = EarlyStoppingState(patience, min_relative_gain, direction=_DIRECTION_OF_MODE[mode])
        self._calls = 0

    def __call__(self, value: float) -> bool:
        """Take one epoch's value in; return whether it is time to stop."""
        self._state.update(float(value), self._calls)
        self._calls += 1
        return self._state.exhausted

    @property
    def best(self) -> float:
        return self._state.best

    @property
    def best_epoch(self) -> int | None:
        """Number of the call that brought the best value, from 0."""
        return self._state.best_epoch

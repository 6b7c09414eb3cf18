"""How long a training is: its epochs and the optimizer steps in each, decided before the first one.

The learning-rate schedule spans exactly the epochs of the plan, so a training is never cut in the middle
of it: one that has less time is planned shorter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from nas_system.space.run_config import TrainingConfig
from nas_system.training.scheduler import optimizer_steps

FEWEST_EPOCHS, MOST_EPOCHS = 2, 20
"""Between how many validations a training counted in steps is divided: early stopping needs a few, and on a
short series one after each pass would cost more than the steps."""


class Passes(Sized, Protocol):
    """One pass over the training part at every `for`."""

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class TrainingPlan:
    """Epochs of a training, and the optimizer steps between two validations."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """All optimizer steps."""
        return self.epochs * self.steps_per_epoch

    def epoch_of(self, passes: Passes, accumulation_steps: int = 1) -> Passes:
        """Return the batches of one epoch: a part of a pass, one pass, or several."""
        if not self.epochs:
            return passes
        if self.steps_per_epoch == optimizer_steps(len(passes), accumulation_steps):
            return passes
        return EpochOfSteps(passes, self.steps_per_epoch * accumulation_steps)


def plan_training(
    training: TrainingConfig, steps_per_pass: int, most_steps: int | None = None
) -> TrainingPlan:
    """Plan a training whose pass over the data takes `steps_per_pass` optimizer steps.

    With `max_steps` an epoch is a pass where that makes 2 to 20 epochs, else a part of a pass or several;
    without, there are `max_epochs` passes. No plan has more than `most_steps` steps, and every plan has one.
    """
    if training.max_steps is not None:
        return _divided(min(training.max_steps, most_steps or training.max_steps), steps_per_pass)
    if most_steps is None or most_steps >= training.max_epochs * steps_per_pass:
        return TrainingPlan(training.max_epochs, steps_per_pass)
    return TrainingPlan(max(most_steps // steps_per_pass, 1), min(most_steps, steps_per_pass))


def _divided(steps: int, steps_per_pass: int) -> TrainingPlan:
    epochs = min(max(round(steps / steps_per_pass), FEWEST_EPOCHS), MOST_EPOCHS, steps)
    return TrainingPlan(epochs, steps // epochs)


class EpochOfSteps:
    """The first batches of a pass, or of as many passes as hold them; every pass has an order of its own."""

    def __init__(self, passes: Passes, batches: int) -> None:
        self.passes, self.batches = passes, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        left = self.batches
        while left:
            for batch in self.passes:
                yield batch
                left -= 1
                if not left:
                    return

"""How long a training is: its epochs and the optimizer steps in each, decided before the first one.

The learning-rate schedule spans exactly the epochs of the plan, so a training is never cut in the middle
of it: one that may cost less than it asks for is planned shorter.

Its cost is measured, and measurements differ a little from one to the next. So the steps that a budget
holds are rounded down to a coarse ladder (1, 2, 3, 4, 6, 8, 12, 16, ...): two measurements with a few percent
between them nearly always give the same plan, and with it, from the same seed, the same weights and scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nas_system.space.run_config import TrainingConfig
from nas_system.training.scheduler import optimizer_steps

FEWEST_EPOCHS, MOST_EPOCHS = 2, 20
"""Between how many validations a training counted in steps is divided: early stopping needs a few, and on a
short series one after each pass would cost more than the steps."""
SHORTEST_CYCLE = 4
"""Steps that a one-cycle schedule is planned for at least, which are two epochs of two."""


class Passes(Sized, Protocol):
    """One pass over the training part at every `for`."""

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class TrainingPlan:
    """Epochs of a training, and the optimizer steps between two validations."""

    epochs: int
    steps_per_epoch: int
    most_steps: int | None = field(default=None, compare=False)
    """What it was planned under: `plan_training` makes the same plan of it again."""
    wanted_steps: int | None = field(default=None, compare=False)
    """What the configuration asks for."""
    why: str = field(default="", compare=False)
    """In one sentence, where something might have shortened it."""

    @property
    def is_shortened(self) -> bool:
        """Whether the configuration asks for more."""
        return self.wanted_steps is not None and self.steps < self.wanted_steps

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


@dataclass(frozen=True)
class Pace:
    """What a training costs, in seconds of compute (see `compute_seconds`)."""

    step_s: float
    """An optimizer step, with all its batches."""
    epoch_s: float
    """What an epoch costs besides its steps: a pass over the validation part, and the files."""
    test_s: float

    def cost_of(self, plan: TrainingPlan) -> float:
        """Return the seconds of a whole training."""
        return plan.steps * self.step_s + plan.epochs * self.epoch_s + self.test_s


def plan_within(
    training: TrainingConfig,
    steps_per_pass: int,
    *,
    most_steps: int | None = None,
    pace: Pace | None = None,
    seconds: float | None = None,
) -> TrainingPlan:
    """Plan a training of at most `most_steps` steps that, at this pace, costs no more than `seconds`.

    If not even one step does, the plan is that one step. The plan says what it was made from.
    """
    wanted = plan_training(training, steps_per_pass).steps
    bound = min(wanted if most_steps is None else most_steps, _asked_for(training, steps_per_pass))
    plan = plan_training(training, steps_per_pass, bound)
    why = "" if most_steps is None else f"at most {most_steps:,} steps were asked for"
    if pace is not None and seconds is not None:
        cost_s = pace.cost_of(plan)
        if cost_s > seconds:
            bound, plan = _longest_within(training, steps_per_pass, pace, seconds, plan.steps)
            cost_s, why = pace.cost_of(plan), f"{seconds:g} s of compute"
        else:
            why = why or f"{seconds:g} s of compute are enough"
        why += (
            f"; about {cost_s:.3g} s at {1000 * pace.step_s:.3g} ms a step and {pace.epoch_s:.3g} s "
            "a validation pass"
        )
    planned = f"planned for {plan.steps:,} of {wanted:,} steps: " if why else ""
    return replace(plan, most_steps=bound, wanted_steps=wanted, why=planned + why)


def _asked_for(training: TrainingConfig, steps_per_pass: int) -> int:
    return training.max_steps or training.max_epochs * steps_per_pass


def _longest_within(
    training: TrainingConfig, steps_per_pass: int, pace: Pace, seconds: float, below: int
) -> tuple[int, TrainingPlan]:
    """Return the highest rung of the ladder whose plan costs no more than `seconds`, and the plan."""
    # A one-cycle schedule needs room to rise and fall in.
    bound = SHORTEST_CYCLE if training.scheduler == "onecycle" else 1
    plan = plan_training(training, steps_per_pass, bound)
    for rung in _ladder(below):
        longer = plan_training(training, steps_per_pass, rung)
        if rung < bound:
            continue
        if pace.cost_of(longer) > seconds:
            break
        bound, plan = rung, longer
    return bound, plan


def _ladder(below: int) -> Iterator[int]:
    """Yield 1, 2, 3, 4, 6, 8, 12, 16, ...: two to an octave."""
    octave = 1
    while octave < below:
        yield octave
        if octave > 1 and octave * 3 // 2 < below:
            yield octave * 3 // 2
        octave *= 2


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

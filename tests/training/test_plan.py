"""How long a training is, counted in optimizer steps or in passes."""

from __future__ import annotations

import pytest

from nas_system.space import TrainingConfig
from nas_system.training.preflight.plan import EpochOfSteps, TrainingPlan, plan_training


@pytest.mark.parametrize(
    ("steps", "steps_per_pass", "expected"),
    [
        (520, 65, (8, 65)),  # a pass is an epoch
        (400, 3, (20, 20)),  # short passes: several are one
        (99, 33, (3, 33)),
        (100, 267, (2, 50)),  # long ones: an epoch is a part of one
        (700, 267, (3, 233)),
        (1, 10, (1, 1)),
    ],
)
def test_steps_become_two_to_twenty_epochs_of_about_a_pass(steps, steps_per_pass, expected):
    plan = plan_training(TrainingConfig(max_steps=steps), steps_per_pass)
    assert (plan.epochs, plan.steps_per_epoch) == expected
    assert plan.steps <= steps


@pytest.mark.parametrize(
    ("most", "expected"), [(None, (10, 30)), (1000, (10, 30)), (100, (3, 30)), (7, (1, 7)), (30, (1, 30))]
)
def test_passes_are_planned_for_the_steps_that_there_are(most, expected):
    plan = plan_training(TrainingConfig(max_epochs=10), 30, most)
    assert (plan.epochs, plan.steps_per_epoch) == expected


def test_fewer_steps_than_wanted_are_planned_anew_not_cut():
    assert plan_training(TrainingConfig(max_steps=520), 65, 260) == TrainingPlan(4, 65)
    assert plan_training(TrainingConfig(max_steps=520), 65, 9_999) == TrainingPlan(8, 65)


def test_an_epoch_of_several_passes_shuffles_each_and_ends_in_the_middle_of_the_last():
    passes = iter([[1, 2, 3], [3, 1, 2], [2, 3, 1]])

    class Shuffled:
        def __len__(self) -> int:
            return 3

        def __iter__(self):
            return iter(next(passes))

    epoch = EpochOfSteps(Shuffled(), 8)
    assert len(epoch) == 8
    assert list(epoch) == [1, 2, 3, 3, 1, 2, 2, 3]


def test_one_pass_is_the_loader_itself_and_accumulation_takes_more_batches():
    loader = [0] * 10
    assert TrainingPlan(3, 10).epoch_of(loader) is loader
    assert TrainingPlan(3, 5).epoch_of(loader, accumulation_steps=2) is loader
    assert len(TrainingPlan(3, 4).epoch_of(loader, accumulation_steps=2)) == 8

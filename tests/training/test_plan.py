"""How long a training is, counted in optimizer steps or in passes."""

from __future__ import annotations

import pytest

from nas_system.space import TrainingConfig
from nas_system.training.preflight.plan import EpochOfSteps, Pace, TrainingPlan, plan_training, plan_within


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


PACE = Pace(step_s=0.01, epoch_s=0.5, test_s=0.4)
ASKED = TrainingConfig(max_steps=800)
"""At 100 steps a pass 8 epochs, which cost 12.4 s."""


@pytest.mark.parametrize(
    ("seconds", "bound", "expected"),
    [
        (100.0, 800, (8, 100)),  # enough
        (12.4, 800, (8, 100)),
        (12.3, 768, (8, 96)),
        (12.0, 512, (5, 102)),
        (8.0, 512, (5, 102)),
        (7.9, 384, (4, 96)),
        (2.0, 48, (2, 24)),
        (1e-9, 1, (1, 1)),  # never less than a step
    ],
)
def test_a_training_is_planned_for_the_compute_that_there_is(seconds, bound, expected):
    plan = plan_within(ASKED, 100, pace=PACE, seconds=seconds)
    assert (plan.epochs, plan.steps_per_epoch) == expected
    assert (plan.most_steps, plan.wanted_steps, plan.is_shortened) == (bound, 800, bound < 800)
    assert plan.why.startswith(f"planned for {plan.steps} of 800 steps: {seconds:g} s of compute")
    assert PACE.cost_of(plan) <= max(seconds, PACE.cost_of(TrainingPlan(1, 1)))


def test_a_budget_that_binds_rounds_down_to_a_ladder_of_two_to_an_octave():
    bounds = {plan_within(ASKED, 100, pace=PACE, seconds=s / 10).most_steps for s in range(125)}
    ladder = {n for k in range(10) for n in (2**k, 3 * 2**k)}
    assert bounds - {800} <= ladder
    assert {1, 48, 64, 96, 384, 512, 768, 800} <= bounds


def test_measurements_a_few_percent_apart_make_one_plan():
    plans = {
        plan_within(ASKED, 100, pace=Pace(0.01 * slower, 0.5 * slower, 0.4 * slower), seconds=7.1)
        for slower in (0.95, 1.0, 1.05, 1.1)
    }
    assert plans == {TrainingPlan(4, 96)}


@pytest.mark.parametrize(
    ("most", "seconds", "steps"),
    [(300, None, 300), (300, 100.0, 300), (300, 4.0, 192), (2000, 4.0, 192), (2000, None, 800)],
)
def test_of_two_limits_the_smaller_counts(most, seconds, steps):
    plan = plan_within(ASKED, 100, most_steps=most, pace=PACE, seconds=seconds)
    assert plan.steps == steps
    assert ("at most" in plan.why) == (seconds is None or steps == 300)


def test_without_any_limit_there_is_nothing_to_say():
    plan = plan_within(ASKED, 100, pace=PACE)
    assert (plan, plan.why, plan.is_shortened) == (TrainingPlan(8, 100), "", False)


@pytest.mark.parametrize("training", [ASKED, TrainingConfig(max_steps=35), TrainingConfig(max_epochs=9)])
@pytest.mark.parametrize("steps_per_pass", [1, 7, 10, 100])
def test_what_a_plan_was_made_under_makes_it_again(training, steps_per_pass):
    for seconds in (0.0, 1.0, 2.5, 3.7, 6.0, 9.0, 1e6):
        plan = plan_within(training, steps_per_pass, pace=PACE, seconds=seconds)
        again = plan_within(training, steps_per_pass, most_steps=plan.most_steps)
        assert again == plan

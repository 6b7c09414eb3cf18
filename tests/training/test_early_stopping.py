"""`EarlyStoppingState` alone decides what is best and when patience has run out."""

import math

import pytest

from nas_system.training.early_stopping import EarlyStoppingState


def test_patience_counts_epochs_without_a_new_minimum():
    progress = EarlyStoppingState(patience=2)
    assert [progress.update(value, epoch) for epoch, value in enumerate([3.0, 2.0, 2.5, 1.9])] == [
        True,
        True,
        False,
        True,
    ]
    assert (progress.best, progress.best_epoch, progress.exhausted) == (1.9, 3, False)
    progress.update(2.0, 4)
    assert not progress.exhausted
    progress.update(1.95, 5)
    assert progress.exhausted


def test_a_tiny_gain_is_a_new_best_but_not_progress():
    progress = EarlyStoppingState(patience=1, min_relative_gain=0.005)
    progress.update(1.0, 0)
    assert progress.update(0.999, 1)
    assert progress.exhausted
    assert progress.reference == 1.0


def test_the_relative_gain_also_works_below_zero():
    progress = EarlyStoppingState(patience=1, min_relative_gain=0.005)
    progress.update(-1.0, 0)
    progress.update(-0.999, 1)
    assert progress.exhausted
    progress.update(-1.01, 2)
    assert not progress.exhausted


def test_state_survives_a_round_trip():
    progress = EarlyStoppingState(patience=3)
    assert math.isinf(progress.best)
    progress.update(1.0, 0)
    other = EarlyStoppingState()
    other.load_state_dict(progress.state_dict())
    assert other == progress


def test_higher_can_be_better():
    progress = EarlyStoppingState(patience=2, min_relative_gain=0.1, direction="maximize")
    assert [progress.update(value, epoch) for epoch, value in enumerate([0.5, 0.52, 0.6, 0.4])] == [
        True,
        True,
        True,
        False,
    ]
    assert (progress.best, progress.best_epoch, progress.reference, progress.bad_epochs) == (0.6, 2, 0.6, 1)


def test_nan_is_never_better_not_even_than_nothing():
    for direction in ("minimize", "maximize"):
        progress = EarlyStoppingState(patience=3, direction=direction)
        assert not progress.update(math.nan, 0)
        assert progress.update(1.0, 1)
        assert not progress.update(math.nan, 2)
        assert (progress.best, progress.reference, progress.bad_epochs) == (1.0, 1.0, 1)


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="minimize, maximize"):
        EarlyStoppingState(direction="max")


def test_a_maximised_score_may_be_negative():
    state = EarlyStoppingState(patience=2, min_relative_gain=0.1, direction="maximize")
    assert [state.update(value, epoch) for epoch, value in enumerate([-1.0, -0.95, -0.5, -2.0])] == [
        True,
        True,
        True,
        False,
    ]
    assert (state.best, state.reference, state.bad_epochs) == (-0.5, -0.5, 1)


@pytest.mark.parametrize(("mode", "better"), [("min", 0.1), ("max", 0.9)])
def test_a_checkpoint_that_calls_the_direction_mode_is_continued(mode, better):
    stored = {"patience": 3, "min_relative_gain": 0.0, "best": 0.5, "best_epoch": 1, "reference": 0.5}
    state = EarlyStoppingState()
    state.load_state_dict(stored | {"bad_epochs": 1, "mode": mode})
    assert state.update(better, 2)
    assert not state.update(0.5, 3)

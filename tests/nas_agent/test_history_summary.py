"""Learning curves in words and numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_system.nas_agent.history_summary import build_history_summary, curve_digest


def history(val: list[Any], train: list[Any] | None = None, **extra: Any) -> dict[str, Any]:
    train = [value * 0.9 for value in val] if train is None else train
    epochs = [
        {"epoch": index, "train_mse": a, "val_mse": b, "test_mse": 0.123456}
        for index, (a, b) in enumerate(zip(train, val, strict=True))
    ]
    return {"epochs": epochs, **extra}


def example() -> dict[str, Any]:
    """The curves of the original format's example: 20 epochs, minimum .32 at epoch 17."""
    val = [*np.linspace(1.05, 0.34, 17).tolist(), 0.32, 0.33, 0.35]
    return history(val, np.linspace(1.02, 0.24, 20).tolist(), best_epoch=17)


def test_the_summary_reads_like_the_example() -> None:
    assert build_history_summary(example()) == (
        "20 epochs, best_epoch=17. train_mse decreased from 1.02 to 0.24. "
        "val_mse started at 1.05, reached minimum of 0.32 at epoch 17, ended at 0.35. "
        "Overfit: val_mse rose 9% after its minimum."
    )


def of_graphs() -> dict[str, Any]:
    """The example as a search on graphs writes it."""
    names = {"train_mse": "train_mae", "val_mse": "val_mae", "test_mse": "test_mae"}
    epochs = [{names.get(name, name): value for name, value in e.items()} for e in example()["epochs"]]
    return {**example(), "epochs": epochs}


def test_which_error_is_told_the_history_itself_says() -> None:
    assert build_history_summary(of_graphs()) == build_history_summary(example()).replace("mse", "mae")
    assert curve_digest(of_graphs()) == curve_digest(example())
    mixed = {
        "epochs": [old | new for old, new in zip(example()["epochs"], of_graphs()["epochs"], strict=True)]
    }
    assert "mae" not in build_history_summary(mixed)
    assert "val_mae was 0.5." in build_history_summary({"epochs": [{"val_mse": 9.0, "val_mae": 0.5}]}, "mae")


def test_the_digest_says_the_same_in_numbers() -> None:
    digest = curve_digest(example())
    assert (digest.epochs, digest.best_epoch, digest.flag) == (20, 17, "overfit")
    assert (digest.first_val, digest.best_val, digest.last_val) == (1.05, 0.32, 0.35)
    train_at_17 = 1.02 - 17 * (1.02 - 0.24) / 19
    assert digest.gap_at_best == pytest.approx(0.32 - train_at_17)


def test_the_late_slope_is_the_least_squares_slope_of_the_last_third() -> None:
    val = [1.0, 0.8, 0.7, 0.62, 0.6, 0.55, 0.56, 0.52, 0.5]
    late = val[-3:]
    expected = np.polyfit(range(3), late, 1)[0] / np.mean(late)
    assert curve_digest(history(val)).late_slope == pytest.approx(expected)


@pytest.mark.parametrize(
    ("val", "train", "flag", "words"),
    [
        ([1.0, 0.8, 0.6, 0.5, 0.4, 0.3], None, "improving", "Still improving at the end."),
        ([1.0, 0.5, 0.3, 0.3, 0.299, 0.298], None, "converged", "Converged."),
        ([1.0, 0.5, 0.6, 0.7], [1.0, 0.4, 0.3, 0.2], "overfit", "rose 40%"),
        ([0.5, 0.6, 0.7, 0.8], [1.0, 0.4, 0.3, 0.2], "overfit", "rose 60%"),
        ([1.0, 0.5, 0.6, 0.7], [1.0, 0.5, 0.7, 0.9], "diverged", "Diverged."),
        ([0.5, 0.499, 0.5, 0.501], [0.5, 0.5, 0.5, 0.5], "flat", "hardly improved"),
        ([1.0, 0.5, 2.0, 9.0], [1.0, 0.5, 3.0, 9.0], "diverged", "Diverged."),
        ([1.0, 0.5, math.nan], [1.0, 0.5, 0.4], "diverged", "Diverged."),
        ([1.0, 0.5, None], [1.0, 0.5, None], "diverged", "1 of 3 epochs have no finite val_mse."),
        ([1.0, 0.5, 0.4], [1.0, 0.5, math.inf], "diverged", "Diverged."),
        ([math.nan], [math.nan], "diverged", "No finite val_mse was recorded."),
        ([1.0, 0.5], None, "too_short", "Too short to evaluate."),
        ([0.5], None, "too_short", "val_mse was 0.5."),
    ],
)
def test_every_kind_of_curve_gets_its_flag(
    val: list[Any], train: list[Any] | None, flag: str, words: str
) -> None:
    assert curve_digest(history(val, train)).flag == flag
    assert words in build_history_summary(history(val, train))


def test_a_gap_in_the_middle_is_counted_and_skipped() -> None:
    given_history = history([1.0, None, 0.5, 0.4], [1.0, 0.8, math.nan, 0.3])
    digest = curve_digest(given_history)
    assert (digest.epochs, digest.best_epoch, digest.flag) == (4, 3, "improving")
    assert "1 of 4 epochs have no finite val_mse." in build_history_summary(given_history)


def test_the_first_of_equal_minima_is_the_best_epoch() -> None:
    assert curve_digest(history([1.0, 0.5, 0.5, 0.5])).best_epoch == 1


def test_the_epochs_own_numbers_are_used() -> None:
    late = {"epochs": [{"epoch": n, "val_mse": v} for n, v in ((5, 1.0), (6, 0.5), (7, 0.6))]}
    assert "best_epoch=6" in build_history_summary(late)
    assert "at epoch 6" in build_history_summary(late)


def test_an_empty_history_is_said_to_be_empty() -> None:
    for empty in ({}, {"epochs": []}, {"best_epoch": None, "epochs": None}):
        assert build_history_summary(empty) == "No epochs recorded."
        assert curve_digest(empty).flag == "too_short"


def test_one_epoch_is_not_many() -> None:
    assert build_history_summary(history([0.5])).startswith("1 epoch, best_epoch=0.")


def test_another_metric_may_be_asked_for() -> None:
    other = {"epochs": [{"val_mae": 2.0}, {"val_mae": 1.0}]}
    assert "val_mae started at 2" in build_history_summary(other, metric="mae")


def test_test_numbers_are_never_mentioned() -> None:
    one = history([1.0, 0.5, 0.4])
    other = history([1.0, 0.5, 0.4])
    for epoch in other["epochs"]:
        epoch["test_mse"] = 777.0
    other["test_mse"] = 777.0
    assert build_history_summary(one) == build_history_summary(other)
    assert curve_digest(one) == curve_digest(other)
    assert "test" not in build_history_summary(other)


def test_a_training_that_was_planned_shorter_than_it_asked_for_says_so() -> None:
    shorter = {**history([1.0, 0.5, 0.4]), "planned_steps": 384, "wanted_steps": 1601}
    assert "best_epoch=2. Planned for 384 of the 1,601 steps it asks for. train_mse" in build_history_summary(
        shorter
    )
    for whole in ({"planned_steps": 1601}, {"wanted_steps": None}, {"planned_steps": "384"}):
        assert "Planned" not in build_history_summary(shorter | whole)


SCORES = st.one_of(st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=3))
EPOCHS = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(["epoch", "train_mse", "val_mse", "test_mse", "val_mae"]), SCORES),
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(EPOCHS, max_size=12), SCORES, SCORES, SCORES)
def test_any_history_gives_a_short_summary(
    epochs: list[Any], best_epoch: Any, planned: Any, wanted: Any
) -> None:
    history = {"epochs": epochs, "best_epoch": best_epoch, "planned_steps": planned, "wanted_steps": wanted}
    summary = build_history_summary(history)
    assert 0 < len(summary) < 300
    assert "nan" not in summary
    assert "\n" not in summary


def test_the_longest_numbers_still_fit() -> None:
    numbers = [-1.2345e-200, -1.3456e-199, -9.876e-201, -1.111e200]
    epochs = [
        {"epoch": 999_990 + i, "train_mse": v, "val_mse": v} for i, v in enumerate([*numbers, None, *numbers])
    ]
    planned = {"planned_steps": 998_998, "wanted_steps": 999_999}
    assert len(build_history_summary({"epochs": epochs * 1000, "best_epoch": 999_999, **planned})) <= 300
    assert build_history_summary({"epochs": [{"val_mse": 10**400}]}).startswith("1 epoch.")


def test_a_closed_form_is_not_called_too_short_and_a_network_that_adds_nothing_is_named() -> None:
    first = {"epoch": 0, "train_mse": 0.4, "val_mse": 0.5, "lr": 0.0}
    solved = {"metric": "val_mse", "closed_form": True, "best_epoch": 0, "epochs": [first]}
    assert build_history_summary(solved) == "1 epoch, best_epoch=0. val_mse was 0.5. Fitted in closed form."
    assert curve_digest(solved).flag == "closed_form"
    later = [{"epoch": n, "train_mse": 0.3, "val_mse": 0.6, "lr": 0.1} for n in (1, 2, 3)]
    text = build_history_summary(solved | {"epochs": [first, *later]})
    assert text.endswith("The closed form at the start stayed the best: the network added nothing.")
    better = [entry | {"val_mse": 0.4} for entry in later]
    assert "closed form" not in build_history_summary(solved | {"best_epoch": 1, "epochs": [first, *better]})

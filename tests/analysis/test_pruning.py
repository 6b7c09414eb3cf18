"""The rules of early stopping across runs: when a training can no longer win, and on which evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from builders import run_info

from nas_agent_graph.analysis.pruning import (
    FIRST_RUNS,
    MARGINS,
    RULES,
    Curve,
    EndedRun,
    epoch_of,
    evidence,
    problem_of,
    worse_by,
)
from nas_system.nas_agent.pruned import Pruned


def runs_with(*scores: float) -> list[EndedRun]:
    """Return ended runs with flat curves."""
    return [
        EndedRun(f"run_{number:04d}", score, Curve((score,) * 8, 8)) for number, score in enumerate(scores)
    ]


GOOD = runs_with(0.104, 0.1, 0.102, 0.103, 0.101)


LATE = ((5.0, 4.0), (6.0, 5.0), (7.0, 5.05), (8.0, 5.1), (8.5, 5.2))
"""Best score at a quarter and at half of five runs that all end at 1."""


def so_far(*scores: float | None, planned: int = 8) -> Curve:
    return Curve(scores, planned)


def found(
    curve: Curve, ended: Sequence[EndedRun] = GOOD, rule: str = "margin", **how: Any
) -> tuple[str, int, float] | None:
    pruned = evidence(rule, curve, ended, how.pop("direction", "minimize"), **how)
    return None if pruned is None else (pruned.rung, pruned.epoch, pruned.score)


def test_a_training_that_is_clearly_worse_than_the_best_run_is_stopped_with_its_evidence() -> None:
    pruned = evidence("margin", so_far(0.5, 0.4, 0.3, 0.2), GOOD, "minimize")
    assert pruned == Pruned(
        rule="margin",
        rung="1/2",
        epoch=4,
        planned_epochs=8,
        direction="minimize",
        score=0.2,
        threshold=0.1 * (1 + MARGINS["1/2"]),
        reference=0.1,
        against="run_0001",
        margin=MARGINS["1/2"],
        compared=5,
    )
    assert pruned is not None
    assert problem_of(pruned) is None


def test_between_two_rungs_the_last_one_decides_whenever_it_is_looked_at() -> None:
    scores = (0.5, 0.2, 0.18, 0.17, 0.16, 0.15, 0.14)
    assert found(so_far(*scores[:1])) is None, "before the first rung"
    assert found(so_far(*scores[:2])) == found(so_far(*scores[:3])) == ("1/4", 2, 0.2)
    assert found(so_far(*scores[:4])) == found(so_far(*scores)) == ("1/2", 4, 0.17)


def test_what_came_after_the_rung_counts_only_where_the_training_leads_by_it() -> None:
    assert found(so_far(0.5, 0.4, 0.3, 0.2, 0.1001)) == ("1/2", 4, 0.2)
    assert found(so_far(0.5, 0.4, 0.3, 0.2, 0.09)) is None


def test_a_rung_that_was_passed_is_not_compared_again_once_the_next_one_is() -> None:
    assert found(so_far(0.5, 0.4)) == ("1/4", 2, 0.4)
    assert found(so_far(0.5, 0.4, 0.3, 0.105)) is None


@pytest.mark.parametrize(
    ("planned", "epochs"),
    [(1, (1, 1, 1)), (2, (1, 1, 2)), (3, (1, 2, 3)), (4, (1, 2, 3)), (5, (2, 3, 4)), (20, (5, 10, 15))],
)
def test_rungs_are_shares_of_the_plan_rounded_up(planned: int, epochs: tuple[int, int, int]) -> None:
    assert tuple(epoch_of(share, planned) for share in ("1/4", "1/2", "3/4")) == epochs


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("planned", [1, 2, 3, 8])
def test_nothing_is_stopped_at_its_last_epoch(rule: str, planned: int) -> None:
    at = [
        pruned.epoch
        for epochs in range(planned + 1)
        if (pruned := evidence(rule, so_far(*[9.0] * epochs, planned=planned), GOOD, "minimize"))
    ]
    assert all(epoch < planned for epoch in at)
    assert bool(at) == (planned > 1)


@pytest.mark.parametrize("rule", RULES)
def test_the_base_config_and_the_first_runs_are_never_stopped(rule: str) -> None:
    hopeless = so_far(9.0, 9.0, 9.0, 9.0)
    assert found(hopeless, rule=rule) is not None
    assert found(hopeless, rule=rule, is_base=True) is None
    assert found(hopeless, GOOD[: FIRST_RUNS - 1], rule) is None
    failed = [EndedRun(f"run_{number:04d}", None) for number in range(5, 50)]
    assert found(hopeless, [*GOOD[: FIRST_RUNS - 1], *failed], rule) is None, "no score is no yardstick"


@pytest.mark.parametrize(
    ("direction", "score", "threshold"),
    [
        ("minimize", 0.2, 0.24),  # an error: mse, mae
        ("minimize", 0.0, None),  # nothing is a share of no error
        ("minimize", -3.0, None),
        ("maximize", 0.8, 0.76),  # an accuracy: .20 of all are wrong, a fifth more is .24
        ("maximize", 0.3, 0.16),
        ("maximize", 0.99, 0.98),  # .05 stands for smaller errors: one sample of 100 is no share
        ("maximize", 1.0, 0.99),
        ("maximize", 7.0, None),  # not a score whose best is 1
    ],
)
def test_margins_are_shares_of_the_error(direction: Any, score: float, threshold: float | None) -> None:
    assert worse_by(0.2, score, direction) == (None if threshold is None else pytest.approx(threshold))


def test_of_accuracies_the_share_of_errors_is_compared() -> None:
    ended = [
        replace(run, score=1 - (run.score or 0), curve=so_far(*[1 - (run.score or 0)] * 8)) for run in GOOD
    ]  # the best is .90
    least = 1 - 0.1 * (1 + MARGINS["1/2"])
    assert found(so_far(0.5, 0.6, 0.7, least - 0.001), ended, direction="maximize") is not None
    assert found(so_far(0.5, 0.6, 0.7, least + 0.001), ended, direction="maximize") is None


def test_where_errors_have_no_ratio_the_margin_stops_nothing_and_the_median_does() -> None:
    ended = [
        replace(run, score=(run.score or 0) - 2, curve=so_far(*[(run.score or 0) - 2] * 8)) for run in GOOD
    ]
    assert found(so_far(5.0, 5.0, 5.0, 5.0), ended) is None
    assert found(so_far(5.0, 5.0, 5.0, 5.0), ended, "median") == ("1/2", 4, 5.0)


def test_a_margin_stops_nothing_that_is_among_the_better_at_its_rung() -> None:
    """Where curves fall late, the later best run is far above the best score as well, but among the first."""
    curves = [so_far(9.0, at_quarter, at_half, at_half, 2.0, 1.0) for at_quarter, at_half in LATE]
    ended = [EndedRun(f"run_{number:04d}", 1.0, curve) for number, curve in enumerate(curves)]
    assert found(so_far(9.0, 7.99), ended) is None
    assert found(so_far(9.0, 8.01), ended) == ("1/4", 2, 8.01)
    at_half = evidence("margin", so_far(9.0, 9.0, 8.9, 5.2), ended, "minimize")
    assert at_half is not None
    assert (at_half.threshold, at_half.reference, at_half.compared) == (5.1, 1.0, 5)
    assert problem_of(at_half) is None
    assert evidence("margin", so_far(9.0, 9.0, 9.0, 5.0), ended, "minimize") is None
    unknown = [replace(run, curve=None) for run in ended]
    assert found(so_far(9.0, 9.0), unknown) is None, "nothing is known of the others at this rung"


def test_the_median_is_of_what_others_had_reached_at_the_same_share_of_their_plans() -> None:
    curves = [
        Curve((5.0, 1.0), 2),
        Curve((5.0, 4.0, 2.0, 1.0), 4),
        Curve((5.0, 4.0, 3.0, 2.9, 2.8, 2.7, 2.6, 2.5), 8),
        Curve((9.0, 4.5), 8),  # stopped at 1/4: it has no place in the median at 1/2
        Curve((3.5, 3.6, 3.7), 20),  # ended by itself, and stays at its best
        Curve((6.0,) * 20, 20),
    ]
    ended = [EndedRun(f"run_{number:04d}", 1.0, curve) for number, curve in enumerate(curves)]
    ended[3] = replace(ended[3], score=None)
    at_half = evidence("median", so_far(8.0, 7.0, 6.5, 4.01), ended, "minimize")  # of 5, 4, 2.9, 3.5, 6
    assert at_half is not None
    assert (at_half.threshold, at_half.compared, at_half.against) == (4.0, 5, None)
    assert problem_of(at_half) is None
    assert evidence("median", so_far(8.0, 7.0, 6.5, 3.99), ended, "minimize") is None
    at_quarter = evidence("median", so_far(8.0, 7.0), ended, "minimize")  # of 5, 5, 4, 4.5, 3.5, 6
    assert at_quarter is not None
    assert (at_quarter.threshold, at_quarter.compared) == (4.75, 6)


def test_epochs_without_a_finite_score_are_passed_over() -> None:
    assert found(so_far(None, 0.5, None, 0.4)) == ("1/2", 4, 0.4)
    assert found(so_far(None, None, None, None)) is None, "that one diverges by itself"


@pytest.mark.parametrize(
    "history",
    [
        None,
        {},
        {"epochs": [{"val_mse": 1.0}]},
        {"epochs": [{"val_mse": 1.0}], "planned_epochs": None},
        {"epochs": [{"val_mse": 1.0}], "planned_epochs": "8"},
        {"epochs": [{"val_mse": 1.0}], "planned_epochs": True},
        {"epochs": [{"val_mse": 1.0}], "planned_epochs": 0},
        {"epochs": [{"val_mse": 1.0}], "planned_epochs": 10**400},
        {"epochs": "many", "planned_epochs": 8},
    ],
)
def test_a_history_without_a_plan_is_no_curve(history: Any) -> None:
    assert Curve.of(history, "val_mse") is None


def test_a_curve_is_read_from_a_history_whatever_else_it_holds() -> None:
    entries = [{"val_mse": 0.5, "val_mae": 9}, {"val_mse": float("nan")}, "no entry", {"val_mse": "0.1"}, {}]
    curve = Curve.of({"planned_epochs": 8, "epochs": entries}, "val_mse")
    assert curve == Curve((0.5, None, None, None, None), 8)


def test_a_run_that_was_stopped_early_keeps_its_curve_and_has_no_score() -> None:
    history = {"planned_epochs": 8, "epochs": [{"val_mse": 0.5}, {"val_mse": 0.4}]}
    curve = Curve((0.5, 0.4), 8)
    assert EndedRun.of(run_info(3, 0.4), history) == EndedRun("run_0003", 0.4, curve)
    assert EndedRun.of(run_info(3, status="PRUNED"), history) == EndedRun("run_0003", None, curve)
    assert EndedRun.of(run_info(3, 0.4), None) == EndedRun("run_0003", 0.4, None)


def test_a_run_at_several_origins_is_compared_by_the_curve_of_its_last_one() -> None:
    history = {"planned_epochs": 8, "origins": 3, "epochs": [{"val_mse": 0.5}, {"val_mse": 0.3}]}
    curve = Curve((0.5, 0.3), 8)
    assert EndedRun.of(run_info(3, 0.4), history, trainings=3) == EndedRun("run_0003", 0.3, curve)
    assert EndedRun.of(run_info(3, status="FAILED"), history, trainings=3).score is None
    # What a training writes into its own history does not choose what it is compared by.
    assert EndedRun.of(run_info(3, 0.4), history) == EndedRun("run_0003", 0.4, curve)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rule": "whim"}, "no rule whim"),
        ({"rung": "3/4"}, "no rule margin with a rung 3/4"),
        ({"epoch": 3}, "epoch 3 of 8 is not the rung 1/2"),
        ({"planned_epochs": 4}, "epoch 4 of 4 is not the rung"),
        ({"compared": FIRST_RUNS - 1}, "only 4 runs"),
        ({"score": 0.1}, "not worse than the threshold"),
        ({"threshold": 0.109}, "better than what its reference"),
        ({"reference": 0.12}, "better than what its reference"),
        ({"rule": "median", "threshold": 0.099}, "better than what its reference"),
        ({"reference": -1.0}, "better than what its reference"),
        ({"direction": "maximize", "threshold": 0.0}, "not worse than the threshold"),
    ],
)
def test_evidence_that_does_not_support_the_stop_says_why(changes: dict[str, Any], problem: str) -> None:
    pruned = evidence("margin", so_far(0.5, 0.4, 0.3, 0.2), GOOD, "minimize")
    assert pruned is not None
    assert problem in (problem_of(replace(pruned, **changes)) or "")

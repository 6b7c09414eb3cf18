"""Which values do well: counted by hand here, and against the importance of a planted parameter."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from nas_agent_graph.analysis.marginals import FEWEST_RUNS, marginals_of
from nas_agent_graph.search_view import RunView
from nas_system.space import Change, RunConfig, apply_changes, canonical_key

BASE = RunConfig()


def run(number: int, score: float | None, status: str = "OK", **changes: Any) -> RunView:
    """A run with `training__lr=0.01` for training.lr."""
    listed = [Change(parameter=name.replace("__", "."), value=value) for name, value in changes.items()]
    config = apply_changes(BASE, listed)
    return RunView(
        f"run_{number:04d}",
        status if score is None else "OK",
        None,
        config,
        config.model.family,
        canonical_key(config),
        score,
        False,
        "run_0000",
        "",
    )


def test_the_values_of_the_best_third_are_counted_against_the_rest() -> None:
    optimizers = ["adam", "adam", "adamw", "adam", "sgd", "sgd", "sgd"]
    runs = [run(n, 0.05 + n / 100, training__optimizer=name) for n, name in enumerate(optimizers)]
    (family,) = marginals_of(runs, "minimize")
    assert (family.family, family.runs, family.well) == ("informer", 7, 2)
    (optimizer,) = family.parameters
    assert optimizer.parameter == "training.optimizer"
    assert (optimizer.best.low, optimizer.best.well, optimizer.best.runs) == ("adam", 2, 3)
    assert (optimizer.worst.low, optimizer.worst.well, optimizer.worst.runs) == ("sgd", 0, 3)
    # Ranks 0, 1, 3 of adam and 4, 5, 6 of sgd; adamw was tried once. Their mean is 19 / 6.
    total = sum((rank - 19 / 6) ** 2 for rank in (0, 1, 3, 4, 5, 6))
    between = 3 * (4 / 3 - 19 / 6) ** 2 + 3 * (5 - 19 / 6) ** 2
    within = (total - between) / 4
    assert optimizer.importance == pytest.approx((between - within) / (total + within))


def test_what_is_maximized_does_well_where_it_is_high() -> None:
    runs = [run(n, 0.9 - n / 100, training__lr=0.001 if n < 4 else 0.01) for n in range(8)]
    (lower,), (higher,) = (marginals_of(runs, direction) for direction in ("minimize", "maximize"))
    assert lower.parameters[0].best.low == 0.01
    assert higher.parameters[0].best.low == 0.001


def test_a_planted_parameter_is_found_and_noise_is_not() -> None:
    generator = random.Random(3)
    runs = []
    for number in range(90):
        rate, dropout = 10 ** generator.uniform(-4, -2), generator.choice((0.0, 0.1, 0.2))
        score = 0.05 + (0.02 if rate > 3e-3 else 0.0) + generator.gauss(0, 0.002)
        runs.append(run(number, score, training__lr=rate, model__dropout=dropout))
    (family,) = marginals_of(runs, "minimize")
    first = family.parameters[0]
    assert first.parameter == "training.lr" and first.importance > 0.4
    assert isinstance(first.best.high, float) and isinstance(first.worst.high, float)
    assert first.best.high < 3e-3 < first.worst.high
    assert first.best.runs + first.worst.runs <= 60 + 2, "a third each"
    assert all(one.importance < 0.1 for one in family.parameters[1:])


def test_failures_count_as_the_worst_and_what_says_nothing_does_not_count() -> None:
    good = [run(n, 0.05 + n / 1e4, training__lr=0.001) for n in range(4)]
    bad = [run(n, None, "DIVERGED", training__lr=0.05) for n in range(4, 8)]
    lost = [run(n, None, "LOST", training__lr=0.05) for n in range(8, 12)]
    (family,) = marginals_of([*good, *bad, *lost], "minimize")
    (rate,) = family.parameters
    assert family.runs == 8
    assert (rate.best.low, rate.best.well, rate.best.runs) == (0.001, 2, 4)
    assert (rate.worst.low, rate.worst.well, rate.worst.runs) == (0.05, 0, 4)
    assert rate.importance > 0.7


def test_few_runs_unknown_families_and_lost_configurations_give_no_marginals() -> None:
    runs = [run(n, 0.05 + n / 100, training__lr=0.001 * (1 + n % 2)) for n in range(FEWEST_RUNS)]
    assert marginals_of(runs, "minimize")
    assert marginals_of(runs[1:], "minimize") == ()
    assert marginals_of([replace(one, config=None) for one in runs], "minimize") == ()
    assert marginals_of([replace(one, family="x") for one in runs], "minimize") == ()
    same = [replace(one, val_score=0.05) for one in runs]
    (family,) = marginals_of(same, "minimize")
    assert family.parameters == ()


def test_the_same_runs_in_any_order_of_families_give_the_same_marginals() -> None:
    runs = [run(n, 0.05 + n / 100, training__lr=0.001 * (1 + n % 2)) for n in range(6)]
    runs += [
        run(n, 0.04 + n / 100, model__family="gru", training__lr=0.001 * (1 + n % 3)) for n in range(6, 15)
    ]
    first, second = marginals_of(runs, "minimize"), marginals_of([*runs[6:], *runs[:6]], "minimize")
    assert first == second
    assert [one.family for one in first] == ["informer", "gru"]

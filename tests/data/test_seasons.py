"""Seasons: on generated series whose periods are known, and on series that have none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import numpy as np
import pytest

from nas_system.data.measures.seasons import calendar_periods, find_seasons
from nas_system.data.synthetic import synthetic_series

Make = Callable[[np.random.Generator], np.ndarray]

SEEDS = range(100)


def periods(values: np.ndarray, freq: str) -> tuple[int, ...]:
    return tuple(season.period for season in find_seasons(values, freq))


def wave(rows: int, period: float) -> np.ndarray:
    return np.sin(2 * np.pi * np.arange(rows) / period)


def weekly(generator: np.random.Generator) -> np.ndarray:
    return 3 * wave(120, 7) + 2 * generator.normal(size=120)


def weekends(generator: np.random.Generator) -> np.ndarray:
    days = np.arange(60)
    return 5.0 * (days % 7 >= 5) + 0.1 * days + generator.normal(size=60)


def yearly(generator: np.random.Generator) -> np.ndarray:
    """Monthly rows whose level and season grow together, as passengers of an airline do."""
    shape = np.resize(generator.normal(size=12), 144)
    return np.exp(0.01 * np.arange(144)) * (10 + shape + 0.3 * generator.normal(size=144))


def five_days(generator: np.random.Generator) -> np.ndarray:
    return np.resize(generator.normal(size=5), 200) + 0.5 * generator.normal(size=200)


def fortnightly(generator: np.random.Generator) -> np.ndarray:
    return np.resize(generator.normal(size=14), 365) + 0.3 * generator.normal(size=365)


def on_a_walk(generator: np.random.Generator) -> np.ndarray:
    return 5 * wave(144, 12) + generator.normal(size=144).cumsum()


def with_an_outlier(generator: np.random.Generator) -> np.ndarray:
    values = weekly(generator)
    values[40] = 1e6
    return values


@pytest.mark.parametrize(
    ("make", "freq", "expected"),
    [
        (weekly, "D", 7),
        (weekends, "D", 7),
        (yearly, "MS", 12),
        (five_days, "D", 5),
        (fortnightly, "D", 14),
        (on_a_walk, "MS", 12),
        (with_an_outlier, "D", 7),
    ],
)
def test_one_season_is_found_alone(make: Make, freq: str, expected: int) -> None:
    found = [periods(make(np.random.default_rng(seed)), freq) for seed in SEEDS]
    assert found.count((expected,)) >= 98, [other for other in found if other != (expected,)]


@pytest.mark.parametrize("rows", [1_000, 5_000])
def test_day_and_week_of_hours_are_both_found(rows: int) -> None:
    for seed in range(20):
        noise = 0.5 * np.random.default_rng(seed).normal(size=rows)
        assert set(periods(wave(rows, 24) + wave(rows, 168) + noise, "h")) == {24, 168}


def test_week_is_found_next_to_a_year_of_two_cycles() -> None:
    for seed in range(20):
        noise = 0.7 * np.random.default_rng(seed).normal(size=730)
        assert periods(wave(730, 7) + 2 * wave(730, 365.25) + noise, "D") == (365, 7)


def walk(generator: np.random.Generator) -> np.ndarray:
    return generator.normal(size=300).cumsum()


def short_walk(generator: np.random.Generator) -> np.ndarray:
    return generator.normal(size=60).cumsum()


def smooth_noise(generator: np.random.Generator) -> np.ndarray:
    return np.array(list(accumulate(generator.normal(size=200), lambda last, new: 0.9 * last + new)))


def trend(generator: np.random.Generator) -> np.ndarray:
    return 0.1 * np.arange(300) + generator.normal(size=300)


def white(generator: np.random.Generator) -> np.ndarray:
    return generator.normal(size=144)


def heavy_tailed(generator: np.random.Generator) -> np.ndarray:
    return generator.standard_t(2, size=300)


def intermittent(generator: np.random.Generator) -> np.ndarray:
    return np.where(generator.random(300) < 0.15, 1.0 + generator.poisson(5, 300), 0.0)


@pytest.mark.parametrize("freq", ["D", "MS"])
@pytest.mark.parametrize("make", [walk, short_walk, smooth_noise, trend, white, heavy_tailed, intermittent])
def test_series_without_a_season_have_none_but_in_one_of_fifty(make: Make, freq: str) -> None:
    found = [periods(make(np.random.default_rng(seed)), freq) for seed in SEEDS]
    assert sum(bool(seasons) for seasons in found) <= 2, [seasons for seasons in found if seasons]


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(0),
        np.ones(3),
        np.zeros(200),
        np.full(200, 0.1),
        np.arange(200.0),
        np.arange(2_000.0) ** 2,
        np.exp(0.01 * np.arange(500)),
        1.0 * (np.arange(500) >= 250),
        1.0 * (np.arange(500) == 250),
    ],
)
def test_constants_trends_and_jumps_have_no_season(values: np.ndarray) -> None:
    assert find_seasons(values, "D") == ()


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1.0, 1e300])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_neither_scale_nor_offset_matters(scale: float, offset: float) -> None:
    (season,) = find_seasons((wave(200, 7) + offset) * scale, "D")
    assert season.period == 7
    assert season.strength == pytest.approx(1, abs=1e-3)


def test_strength_is_the_share_of_variance() -> None:
    """A sine of variance 1/2 in noise of variance 1/2; removing the trend takes a seventh of the noise."""
    noise = np.random.default_rng(0).normal(size=20_000) / 2**0.5
    (season,) = find_seasons(wave(20_000, 7) + noise, "D")
    assert season.strength == pytest.approx(0.5 / (0.5 + 0.5 * 6 / 7), abs=0.02)


def test_day_of_the_generated_series_leads() -> None:
    series = synthetic_series()
    for column in series.values[:8_640].T:
        assert periods(column, "h")[0] == 24


def test_values_are_not_changed() -> None:
    values = weekly(np.random.default_rng(0))
    before = values.copy()
    find_seasons(values, "D")
    assert np.array_equal(values, before)


@pytest.mark.parametrize(
    ("freq", "expected"),
    [
        ("s", (60, 3_600, 86_400, 604_800, 31_557_600)),
        ("15min", (4, 96, 672, 35_064)),
        ("h", (24, 168, 8_766)),
        ("D", (7, 365)),
        ("2D", (182,)),  # a week is no whole number of steps
        ("W", (52,)),
        ("MS", (12,)),
        ("3MS", (4,)),
        ("5MS", ()),
        ("12MS", ()),
    ],
)
def test_calendar_periods(freq: str, expected: tuple[int, ...]) -> None:
    assert calendar_periods(freq) == expected

"""A generated hourly series with the columns of ETTh1, used when the real file is not available.

Six loads with daily, weekly and yearly rhythm, a slow trend and autocorrelated noise; the oil
temperature `OT` follows two of them with a delay. The level of every column moves at the borders
between the parts, as it does in real data, so that a model without instance normalisation pays for it.

The same values everywhere: the noise is made of the raw bits of PCG64, which numpy promises
never to change (it may change its normal distribution, NEP 19), and all values are rounded, which
hides the last bit in which platforms' sines differ.
"""

from __future__ import annotations

import hashlib
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import Series
from nas_system.data.splits import ETTH1_LENGTH

ROWS = ETTH1_LENGTH
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
START = np.datetime64("2020-01-01T00", "h")
SEED = 20_200_101
DECIMALS = 4
TREND = 0.1
"""How much a load grows over the whole series, as a share of its level."""
BORDERS = (8_640 / ROWS, 11_520 / ROWS)
"""Where the level moves, as a share of the rows: the starts of the validation and the test part."""

# In units of an invented transformer; `first` and `second` are the level shifts
#         level  daily weekly yearly noise memory peak  first  second
LOADS = (
    ("HUFL", 20.0,   6.0,  1.6,   3.0,   2.4,  0.90,  18,   -1.6,  -3.0),
    ("HULL",  6.0,   1.0,  0.2,   0.4,   0.5,  0.85,  17,   +0.3,  +0.4),
    ("MUFL", 14.0,   4.0,  1.2,   2.0,   2.0,  0.92,  19,   -1.0,  -1.8),
    ("MULL",  4.0,   0.9,  0.1,   0.3,   0.4,  0.80,  16,   +0.2,  +0.1),
    ("LUFL",  9.0,   2.0,  0.3,   0.3,   0.3,  0.95,  20,   +0.3,  +0.5),
    ("LULL",  3.0,   0.5,  0.1,   0.1,   0.2,  0.97,  12,   -0.1,  +0.2),
)  # fmt: skip


def synthetic_series(rows: int = ROWS, seed: int = SEED) -> Series:
    """Return the series; fewer rows for fast tests (the level then moves at the same shares of them)."""
    hours = np.arange(rows)
    noise = _noise(rows * len(COLUMNS), seed).reshape(len(COLUMNS), rows)
    loads = [_load(hours, noise[index], load) for index, load in enumerate(LOADS)]
    values = np.stack([*loads, _oil_temperature(loads[0], loads[2], noise[-1])], axis=1)
    dates = (START + hours).astype("datetime64[s]")
    return Series(np.round(values, DECIMALS), COLUMNS, dates, "h")


def checksum_of(values: NDArray[np.float64]) -> tuple[str, int]:
    """Return SHA-256 and number of bytes of the values as fixed-point integers, equal on all platforms."""
    fixed_point = np.rint(values * 10**DECIMALS).astype("<i8").tobytes()
    return hashlib.sha256(fixed_point).hexdigest(), len(fixed_point)


def _load(hours: NDArray[np.int64], noise: NDArray[np.float64], load: tuple) -> NDArray[np.float64]:
    _, level, daily, weekly, yearly, spread, memory, peak, first, second = load
    day = 2 * np.pi * (hours - peak) / 24
    return (
        level * (1 + TREND * hours / len(hours))
        + daily * (np.cos(day) + 0.35 * np.cos(2 * day))
        + weekly * np.cos(2 * np.pi * hours / 168)
        + yearly * np.cos(2 * np.pi * hours / 8_766)
        + spread * _autoregressive(noise, memory)
        + _level_shift(hours, first, second)
    )


def _oil_temperature(
    high: NDArray[np.float64], middle: NDArray[np.float64], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a temperature that follows the loads of the last half day and drifts slowly by itself."""
    hours = np.arange(len(high))
    warmed = _smoothed(0.5 * high + 0.4 * middle, memory=0.92)
    drift = 2.2 * _autoregressive(noise, memory=0.985)
    fast = 0.5 * _autoregressive(noise[::-1], memory=0.5)
    return 11.0 + warmed + drift + fast + _level_shift(hours, -3.0, -4.0)


def _level_shift(hours: NDArray[np.int64], first: float, second: float) -> NDArray[np.float64]:
    """Return two smooth steps, each over about two weeks."""
    steps = [(1 + np.tanh((hours - border * len(hours)) / 168)) / 2 for border in BORDERS]
    return first * steps[0] + second * steps[1]


def _autoregressive(noise: NDArray[np.float64], memory: float) -> NDArray[np.float64]:
    """Return AR(1) of unit variance. A Python loop in fixed order: a vectorised filter rounds differently."""
    drive = (1 - memory**2) ** 0.5
    steps = accumulate(noise.tolist(), lambda state, shock: memory * state + drive * shock)
    return np.fromiter(steps, np.float64, len(noise))


def _smoothed(values: NDArray[np.float64], memory: float) -> NDArray[np.float64]:
    steps = accumulate(values.tolist(), lambda state, value: memory * state + (1 - memory) * value)
    return np.fromiter(steps, np.float64, len(values))


def _noise(count: int, seed: int) -> NDArray[np.float64]:
    """Return nearly normal noise, mean 0, variance 1: sums of the four 16-bit quarters of raw draws."""
    raw = np.random.PCG64(seed).random_raw(count)
    quarters = ((raw >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48))
    total = sum(quarter.astype(np.float64) for quarter in quarters)
    return (total - 2 * 65_535) / (4 * (65_536**2 - 1) / 12) ** 0.5

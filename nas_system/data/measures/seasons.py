"""Seasons of a series: the periods that repeat, found in the numbers and not only read from the step.

Candidates are the calendar's periods, the lines of the periodogram and the peaks of the
autocorrelation. Each is measured by how much of the detrended series its mean cycle explains (the
seasonal strength of Wang, Smith, Hyndman 2006, "Characteristic-Based Clustering for Time Series
Data", DMKD 13, corrected for the cycle's degrees of freedom), and has to stand out from the
spectrum around it: a random walk fits a long mean cycle well, and has no season.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_system.data.time_features import unit_of
from nas_system.space.time_steps import SECONDS

Array = NDArray[np.float64]

MOST_SEASONS = 3

MOST_ROWS = 40_000
"""The latest rows, four years of hours, are enough: bounds the time of a long series."""

WEAKEST = 0.1
"""Least strength that is called a season."""

EVIDENCE = 12.0
"""Least evidence, in nats, for a period that no calendar suggests; one in 160,000 for a single candidate."""

CALENDAR_EVIDENCE = 7.0
"""The same for the handful of periods that the calendar suggests."""

CYCLES = 3
"""Full periods that the rows have to hold."""

CALENDAR_CYCLES = 2
"""The same for the calendar's periods."""

RARE = 0.02
"""Share of the rows at either end that is cut to the value at its border: two of them make no season."""

PEAKS = 5
"""Candidates taken from the periodogram, and as many from the autocorrelation."""

SAMPLE = 2_000
"""Values from which these borders are read."""

NEAR = 0.1
"""Share of a season's period within which another one is taken for the same."""

NEIGHBOURS = 21
"""Bins of the periodogram whose mean a line has to be above."""

NOTHING = 1e-9
"""Share of a series' variance below which what a trend leaves is rounding."""

DAY = SECONDS["D"]
LENGTHS = (SECONDS["min"], SECONDS["h"], DAY, 7 * DAY, 365.25 * DAY)
"""Seconds of the calendar's periods; a year of 365 days where a step is a day."""


@dataclass(frozen=True)
class Season:
    """A period, in steps, and the share of the detrended series that its mean cycle explains (0 to 1)."""

    period: int
    strength: float


def find_seasons(values: Array, freq: str) -> tuple[Season, ...]:
    """Return the seasons of one series, (rows,), strongest first, at most three.

    A multiple of a season is listed only for what it adds (168 next to 24), a fraction only if the
    calendar has it.
    """
    series = _normalised(values)
    if series is None:
        return ()
    calendar = calendar_periods(freq)
    candidates = _apart_from(calendar, _candidates(series), len(series))
    candidates |= {period for period in calendar if period <= len(series) // CALENDAR_CYCLES}
    cycles: dict[int, Array] = {}
    while len(cycles) < MOST_SEASONS:
        left = _without(series, cycles)
        period = _clearest(left, candidates, calendar)
        if period is None:
            break
        period = _shorter(left, period, calendar)
        # A half or a third that was found first is only a harmonic of this one.
        cycles = {other: cycle for other, cycle in cycles.items() if period % other or other in calendar}
        cycles[period] = _cycle(_detrended(_without(series, cycles), period), period)
        candidates = {
            other
            for other in candidates
            if abs(other - period) > NEAR * period
            # What two weeks add to a week is weak, and where every week varies it is chance.
            and (period not in calendar or other in calendar or other % period)
        }
    variance = float(series.var())
    seasons = []
    for period in cycles:
        others = {other: cycle for other, cycle in cycles.items() if other != period}
        strength = _strength(_detrended(_without(series, others), period), period, variance)
        seasons.append(Season(period, round(max(strength, 0.0), 4)))
    return tuple(sorted(seasons, key=lambda season: -season.strength))


def calendar_periods(freq: str) -> tuple[int, ...]:
    """Return the minute, hour, day, week and year in steps, those of two or more: (24, 168, 8766) for `h`."""
    unit = unit_of(freq)
    count = int(freq.removesuffix(unit) or 1)
    if unit == "MS":
        return (12 // count,) if 12 % count == 0 and count < 12 else ()
    periods = (length / (count * SECONDS[unit]) for length in LENGTHS)
    year = LENGTHS[-1] / (count * SECONDS[unit])
    # A period that the step does not divide never repeats; a year is long enough not to matter.
    whole = {int(period) for period in periods if period >= 2 and (period == int(period) or period == year)}
    return tuple(sorted(whole))


def _normalised(values: Array) -> Array | None:
    """Return the values around 0, of size 1 at most; None if they are constant or too few."""
    values = values[-MOST_ROWS:]
    largest = float(np.abs(values).max(initial=0.0))
    if len(values) < 2 * CYCLES or largest == 0.0:
        return None
    # Divided first: the squares of 1e-200 are 0, those of 1e200 infinite.
    series = values / largest
    # One value far outside would be all that a moving average shows.
    low, high = np.quantile(series, (RARE / 2, 1 - RARE / 2))
    if high > low:
        series = np.clip(series, low - 3 * (high - low), high + 3 * (high - low))
    if float(np.ptp(series)) < 1e-12:
        return None
    return series - series.mean()


def _apart_from(calendar: tuple[int, ...], candidates: Iterable[int], rows: int) -> set[int]:
    """Leave out what the rows cannot tell from a period of the calendar or from its multiples."""

    def is_near(candidate: int, period: int) -> bool:
        distance = abs(candidate - max(round(candidate / period), 1) * period)
        return 0 < distance <= candidate**2 / rows

    return {
        candidate for candidate in candidates if not any(is_near(candidate, period) for period in calendar)
    }


def _without(series: Array, cycles: dict[int, Array]) -> Array:
    return series - np.sum(list(cycles.values()), axis=0) if cycles else series


def _clearest(series: Array, candidates: Iterable[int], calendar: tuple[int, ...]) -> int | None:
    """Return the candidate with most evidence; None if all are too weak.

    A season has more of it than its multiples, which share its lines but have fewer bins around each.
    """
    variance = float(series.var())
    clearest, most = None, 0.0
    for period in sorted(candidates):
        detrended = _detrended(series, period)
        if _strength(detrended, period, variance) < WEAKEST:
            continue
        evidence = _evidence(detrended, period)
        if evidence > max(most, CALENDAR_EVIDENCE if period in calendar else EVIDENCE):
            clearest, most = period, evidence
    return clearest


def _shorter(series: Array, period: int, calendar: tuple[int, ...]) -> int:
    """Return the calendar's fraction of a period to which the whole period adds nothing; else the period."""
    for shorter in calendar:
        if shorter < period and period % shorter == 0:
            left = series - _cycle(_detrended(series, shorter), shorter)
            if _clearest(left, [period], calendar) is None:
                return shorter
    return period


def _strength(detrended: Array, period: int, variance: float) -> float:
    """Return the adjusted share of variance that the mean cycle explains; below 0 if chance explains more."""
    total = float(detrended.var())
    if total <= NOTHING * variance:
        return 0.0
    left = float((detrended - _cycle(detrended, period)).var())
    rows = len(detrended)
    # A mean over few cycles follows the noise in them: without a season this is 0 on average.
    return 1 - left / total * (rows - 1) / (rows - period)


def _cycle(detrended: Array, period: int) -> Array:
    """Return the mean of every phase, repeated over the rows, (rows,)."""
    phases = np.arange(len(detrended)) % period
    means = np.bincount(phases, detrended, period) / np.bincount(phases, minlength=period)
    return (means - means.mean())[phases]


def _detrended(series: Array, period: int) -> Array:
    """Subtract the centred moving average over one period, continued by a line at both ends.

    What is rarer than RARE is cut to the border of the rest.
    """
    half = period // 2
    sums = np.concatenate([[0.0], np.cumsum(series)])
    middle = sums[2 * half + 1 :] - sums[: len(series) - 2 * half]
    if period % 2 == 0:
        # One row more than a period: the two at its ends are the same phase and count half.
        middle = middle - 0.5 * (series[: len(middle)] + series[2 * half :])
    middle = middle / period
    edge = min(period, len(middle))
    steps = np.arange(1, half + 1)
    before = middle[0] - steps[::-1] * _slope(middle[:edge])
    after = middle[-1] + steps * _slope(middle[-edge:])
    detrended = series - np.concatenate([before, middle, after])
    return np.clip(detrended, *np.quantile(_sample(detrended), (RARE, 1 - RARE)))


def _sample(values: Array) -> Array:
    """Return at most SAMPLE of the values, evenly spread but in step with no period."""
    if len(values) <= SAMPLE:
        return values
    golden = (5**0.5 - 1) / 2
    return values[(np.arange(SAMPLE) * golden % 1 * len(values)).astype(np.int64)]


def _slope(values: Array) -> float:
    """Return the slope of the least-squares line through equally spaced values; 0 for a single one."""
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    return float(steps @ values / (steps @ steps)) if len(values) > 1 else 0.0


def _evidence(detrended: Array, period: int) -> float:
    """Return how far the harmonics of a period stand out from the spectrum around them, in nats.

    Over whole cycles all of a season is in every `cycles`-th bin. In noise of any smooth spectrum
    the ratio of such a bin to the mean of n others around it is F(2, 2n) distributed, so that
    `n log(1 + ratio / n)` is exponential; the bounds are those of a maximum and of a sum of them.
    """
    cycles = len(detrended) // period
    power = np.abs(np.fft.rfft(detrended[len(detrended) - cycles * period :])) ** 2
    bins = np.arange(len(power))
    # The moving average took from the lower bins; what it left of each is known.
    kept = (1 - np.sinc(bins / cycles)) ** 2
    between = (bins % cycles != 0) & (bins >= cycles / 2)
    sums = np.concatenate([[0.0], np.cumsum(np.where(between, power / np.where(between, kept, 1.0), 0.0))])
    counts = np.concatenate([[0], np.cumsum(between)])
    lines = np.arange(cycles, len(power), cycles)
    first, last = np.maximum(lines - cycles + 1, 0), np.minimum(lines + cycles, len(power))
    others = counts[last] - counts[first]
    # Rounding leaves about 1e-32 of the power everywhere, also where a season is all there is.
    around = (sums[last] - sums[first]) / others + 1e-24 * power.max()
    nats = others * np.log1p(power[lines] / around / others)
    harmonics = len(lines)
    highest = float(nats.max()) - np.log(harmonics)
    excess = max(float(nats.sum()) / harmonics, 1.0)
    return float(max(highest, nats[0], harmonics * (excess - 1 - np.log(excess))))


def _candidates(series: Array) -> set[int]:
    """Return the periods at the lines of the periodogram and at the peaks of the autocorrelation."""
    rows = len(series)
    steps = np.arange(rows) - (rows - 1) / 2
    straightened = series - _slope(series) * steps
    differences = np.diff(series)
    # A series that wanders is one whose differences are smaller than itself.
    flat = differences if differences.var() < straightened.var() else straightened
    # Lengths that are quick to transform; a prime number of rows is not.
    power = np.abs(np.fft.rfft(flat - flat.mean(), 2 ** (2 * rows).bit_length())) ** 2
    correlation = np.fft.irfft(power)[: rows // CYCLES + 2]
    peaks = set(_highest_peaks(correlation))
    flat = flat[len(flat) % (64 if rows > 1_000 else 1) :]
    lines = np.abs(np.fft.rfft(flat - flat.mean())) ** 2
    width = min(NEIGHBOURS, len(lines))
    around = np.convolve(lines, np.full(width, 1 / width), "same") + 1e-24 * lines.max()
    for line in _highest_peaks(lines / around):
        nearest = round(len(flat) / line)
        peaks |= {nearest - 1, nearest, nearest + 1}
    return {period for period in peaks if 2 <= period <= rows // CYCLES}


def _highest_peaks(values: Array) -> list[int]:
    """Return the indices of the highest local maxima, the first and last value left out."""
    inner = values[1:-1]
    places = np.flatnonzero((inner > values[:-2]) & (inner >= values[2:])) + 1
    return places[np.argsort(-values[places])[:PEAKS]].tolist()

"""What the rows of a part can tell: the circular block bootstrap of a mean over windows.

Politis and Romano 1992, "A Circular Block-Resampling Procedure for Stationary Data". Neighbouring windows
forecast the same rows, so their errors are alike, and only whole blocks of them are resampled. The difference
of two models is taken window by window: what is hard for both cancels.

Unlike there, nothing is drawn at random. The variance of the resampled mean is known exactly, from the sums
over all circular blocks, and the interval is Student's t on it, with a degree of freedom less than there are
blocks. Quantiles of draws cover less where blocks are few. Where errors remember for longer than a block
the interval is too narrow: with a memory of a hundred windows in blocks of 168 it covers 76 % and not 90
(`benchmarks/conclusions.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_agent_graph.selection.student import cdf, quantile

COVERAGE = 0.90
FEWEST_BLOCKS = 5
"""Independent blocks below which an interval is not to be trusted."""
FEWEST_DRAWN = 4
"""Blocks into which the windows are cut at least, also where blocks as long as wanted would be fewer."""
_UPPER = (1 + COVERAGE) / 2


@dataclass(frozen=True)
class Interval:
    """A mean over windows with its 90 % interval over the rows."""

    mean: float
    standard_error: float
    low: float
    high: float
    block: int
    """Windows in a block that was drawn."""
    independent_blocks: int
    """Whole blocks, as long as wanted, in all windows."""

    @property
    def trusted(self) -> bool:
        """Whether there are enough blocks for the interval to mean anything."""
        return self.independent_blocks >= FEWEST_BLOCKS


@dataclass(frozen=True)
class Difference(Interval):
    """The mean of (one model's losses less the other's), negative where the first is better."""

    probability_better: float
    """That the first has the lower mean on rows of this kind, if nothing else is known of the two."""


def paired_difference(errors: ArrayLike, others: ArrayLike, block: int) -> Difference:
    """Compare two models by their losses on the same windows, in the order of time.

    Each is (windows,), or (trainings, windows) for the mean over several. `block` is how many windows in a
    row depend on each other; 1 for independent samples. Raises ValueError for arrays that do not match.
    """
    first, second = _losses(errors), _losses(others)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} windows cannot be compared with {len(second)}")
    found = interval_of_mean(first - second, block)
    if found.standard_error > 0:
        better = cdf(-found.mean / found.standard_error, _degrees(len(first), found.block))
    else:
        better = 0.5 - 0.5 * float(np.sign(found.mean))
    return Difference(**vars(found), probability_better=better)


def interval_of_mean(errors: ArrayLike, block: int) -> Interval:
    """Return the mean of losses, (windows,) or (trainings, windows), with its interval over the rows.

    Raises ValueError for no windows, losses that are no finite numbers, and a block below 1.
    """
    losses = _losses(errors)
    n = len(losses)
    if block < 1:
        raise ValueError(f"a block of {block} windows")
    drawn = min(block, max(1, n // FEWEST_DRAWN))
    mean = float(losses.mean())
    error = _standard_error(losses - mean, drawn)
    half = quantile(_UPPER, _degrees(n, drawn)) * error
    return Interval(mean, error, mean - half, mean + half, drawn, n // block)


def block_length(look_back: int, horizon: int, rows_in_a_week: int | None = None) -> int:
    """Return how many windows in a row are taken to depend on each other.

    Windows share rows over look-back and horizon; and a week, where it is known how many rows it has, has
    good and bad days for every model.
    """
    return max(1, look_back + horizon, rows_in_a_week or 1)


def _losses(errors: ArrayLike) -> NDArray[np.float64]:
    losses = np.asarray(errors, dtype=np.float64)
    if losses.ndim == 2:
        losses = losses.mean(axis=0)
    if losses.ndim != 1 or not losses.size or not np.isfinite(losses).all():
        raise ValueError(f"losses of shape {losses.shape}, or among them some that are no finite number")
    return losses


def _degrees(n: int, block: int) -> int:
    return max(1, n // block - 1)


def _standard_error(centred: NDArray[np.float64], block: int) -> float:
    """Return the standard deviation of the mean of resampled blocks, corrected for their number.

    As many whole blocks are drawn as fit, and the rest of the windows as a part of one. The blocks' own mean
    takes one degree of freedom from their variance.
    """
    n = len(centred)
    if n < 2:
        return 0.0
    whole, rest = divmod(n, block)
    sums = np.concatenate(([0.0], np.cumsum(np.concatenate((centred, centred[:block])))))

    def variance(length: int) -> float:
        return float(np.mean((sums[length : length + n] - sums[:n]) ** 2))

    total = whole * variance(block) + (variance(rest) if rest else 0.0)
    blocks = n / block
    return math.sqrt(total * blocks / (blocks - 1)) / n

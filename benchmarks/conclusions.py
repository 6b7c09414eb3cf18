"""How often what a search says at its end is true, simulated: intervals over rows, and the word `confirmed`.

    python benchmarks/conclusions.py [--searches 1000]

First table: the share of 90 % intervals that hold the true mean of errors on overlapping windows, by how the
interval is made. `t` is the product's; `normal`, `basic` and `percentile` are made from draws of the same
blocks. Second table: configurations with true means and the noise of seeds and of rows, through first scores,
a final among the best three and the conclusion. `wrong` is the share of searches that confirm a run although
another one is as good.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_agent_graph.selection.bootstrap import interval_of_mean
from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.conclusion import conclude
from nas_agent_graph.selection.noise import SeedNoise

Array = NDArray[np.float64]
Rng = np.random.Generator

DRAWS = 1000
SEED_SD = 0.002
ROWS = 400
WARM_UP = 1000


def autoregressive(rng: Rng, n: int, phi: float) -> Array:
    """Return values whose memory fades by `phi` a step."""
    values = rng.standard_normal(n + WARM_UP)
    for row in range(1, len(values)):
        values[row] += phi * values[row - 1]
    return values[WARM_UP:] * np.sqrt(1 - phi**2)


def overlapping(rng: Rng, n: int, horizon: int, *, skewed: bool = False) -> Array:
    """Return means over the next `horizon` independent errors, as those of windows are."""
    errors = rng.exponential(size=n + horizon) - 1 if skewed else rng.standard_normal(n + horizon)
    sums = np.concatenate(([0.0], np.cumsum(errors)))
    return ((sums[horizon:] - sums[:-horizon])[:n]) / np.sqrt(horizon)


def with_regimes(rng: Rng, n: int, horizon: int) -> Array:
    """Return `overlapping` in times that are harder or easier, for some hundred windows each."""
    return np.exp(0.8 * autoregressive(rng, n, 0.99)) * overlapping(rng, n, horizon)


CASES: dict[str, tuple[int, int, Callable[[Rng, int], Array]]] = {
    "independent": (300, 1, lambda rng, n: autoregressive(rng, n, 0.0)),
    "AR(.5)": (2857, 168, lambda rng, n: autoregressive(rng, n, 0.5)),
    "AR(.9)": (2857, 168, lambda rng, n: autoregressive(rng, n, 0.9)),
    "AR(.97)": (2857, 168, lambda rng, n: autoregressive(rng, n, 0.97)),
    "AR(.99)": (2857, 168, lambda rng, n: autoregressive(rng, n, 0.99)),
    "24 ahead": (2857, 168, lambda rng, n: overlapping(rng, n, 24)),
    "24 ahead, skewed": (2857, 168, lambda rng, n: overlapping(rng, n, 24, skewed=True)),
    "24 ahead, regimes": (2857, 168, lambda rng, n: with_regimes(rng, n, 24)),
    "96 ahead": (2785, 432, lambda rng, n: overlapping(rng, n, 96)),
    "96 ahead, regimes": (2785, 432, lambda rng, n: with_regimes(rng, n, 96)),
    "12 ahead": (300, 36, lambda rng, n: overlapping(rng, n, 12)),
    "12 ahead, skewed": (300, 36, lambda rng, n: overlapping(rng, n, 12, skewed=True)),
    "12 ahead, few": (180, 36, lambda rng, n: overlapping(rng, n, 12)),
    "12 ahead, too few": (144, 36, lambda rng, n: overlapping(rng, n, 12)),
}
"""Windows, block, and errors whose true mean is 0."""


def coverage(rng: Rng, windows: int, block: int, errors: Callable[[Rng, int], Array], searches: int) -> Array:
    """Return the shares of intervals that hold 0: percentile, basic, normal, t."""
    blocks, rest = -(-windows // block), (windows - 1) % block + 1
    lengths = np.full(blocks, block)
    lengths[-1] = rest
    starts = rng.integers(0, windows, (DRAWS, blocks))
    held = np.zeros(4)
    for _ in range(searches):
        losses = errors(rng, windows)
        sums = np.concatenate(([0.0], np.cumsum(np.tile(losses, 2))))
        draws = (sums[starts + lengths] - sums[starts]).sum(axis=1) / windows
        low, high = np.quantile(draws, (0.05, 0.95))
        mean, half = losses.mean(), 1.6449 * draws.std()
        found = interval_of_mean(losses, block)
        held += (
            low <= 0 <= high,
            2 * mean - high <= 0 <= 2 * mean - low,
            abs(mean) <= half,
            found.low <= 0 <= found.high,
        )
    return held / searches


MEANS: dict[str, Callable[[Rng, int], Array]] = {
    "two equal, others far": lambda rng, n: np.where(np.arange(n) < 2, 0.5, 0.6),
    "all equal": lambda rng, n: np.full(n, 0.5),
    "spread as by seeds": lambda rng, n: 0.5 + SEED_SD * rng.standard_normal(n),
    "spread five times": lambda rng, n: 0.5 + 5 * SEED_SD * rng.standard_normal(n),
}


def confirmations(
    means: Callable[[Rng, int], Array], n: int, row_sd: float, searches: int
) -> tuple[float, float]:
    """Return the shares of searches among `n` configurations that confirm a run, and that do so wrongly."""
    confirmed = wrong = 0
    for search in range(searches):
        rng = np.random.default_rng(search)
        truth = means(rng, n)
        rows = row_sd * np.sqrt(ROWS) * rng.standard_normal((n, ROWS))
        candidates = _after_a_final(rng, truth + rows.mean(axis=1))
        losses = {
            one.run_id: losses - losses.mean() + fmean(one.fresh or one.scores)
            for one, losses in zip(candidates, rows, strict=True)
        }
        base = Candidate("base", "gru", tuple((0.7 + SEED_SD * rng.standard_normal(3)).tolist()))
        losses["base"] = 0.7 + 0.01 * rng.standard_normal(ROWS)
        candidates.append(base)
        found = conclude(candidates, SeedNoise.of(candidates), losses, {}, {}, 1)
        assert found is not None
        if found.word == "confirmed":
            confirmed += 1
            wrong += np.sum(truth <= truth[int(found.recommended)]) > 1
    return confirmed / searches, wrong / searches


def _after_a_final(rng: Rng, scores: Array) -> list[Candidate]:
    """Train every configuration once, the best three with a fresh seed, two of them with four."""

    def trained(number: int, times: int) -> list[float]:
        return (scores[number] + SEED_SD * rng.standard_normal(times)).tolist()

    first = [trained(number, 1)[0] for number in range(len(scores))]
    fresh: dict[int, list[float]] = {int(number): trained(number, 1) for number in np.argsort(first)[:3]}
    for number in sorted(fresh, key=lambda number: first[number] + fresh[number][0])[:2]:
        fresh[number] += trained(number, 3)
    return [
        Candidate(str(number), "gru", (score, *fresh.get(number, ())), tuple(fresh.get(number, ())))
        for number, score in enumerate(first)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=1000)
    searches = parser.parse_args().searches
    print(f"{'errors on windows':<20}{'windows':>8}{'block':>6}  percentile  basic  normal      t")
    for number, (name, (windows, block, errors)) in enumerate(CASES.items()):
        shares = coverage(np.random.default_rng(number), windows, block, errors, searches)
        print(
            f"{name:<20}{windows:>8}{block:>6}{shares[0]:>12.3f}{shares[1]:>7.3f}{shares[2]:>8.3f}{shares[3]:>7.3f}"
        )
    print(f"\n{'true means':<24}{'runs':>5}{'rows sd':>9}  confirmed  wrong")
    for name, means in MEANS.items():
        for n in (10, 30):
            for row_sd in (0.0, SEED_SD):
                confirmed, wrong = confirmations(means, n, row_sd, searches)
                print(f"{name:<24}{n:>5}{row_sd:>9.3f}{confirmed:>11.3f}{wrong:>7.3f}")


if __name__ == "__main__":
    main()

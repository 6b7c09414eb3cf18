"""What a search may say at its end: which run it recommends, and whether it can be told from the others.

Of *confirmed* this much is controlled: where the recommended run is no better than one it was compared with,
the word falls in about one of ten searches at most. It takes that every comparison succeeds, so their number
does not add to that (an intersection of tests); that it is ten per cent and not five is the price of
recommending what the same fresh seeds put first (Gutmann and Maymin 1987, "Is the Selected Population the
Best?", Annals of Statistics 15(1)). Not controlled is whether the tie set holds the best run: each member is
compared with the recommended run for itself, at 90 %, so of many equal runs some are left out by chance. And
the rows tell of rows like those of the validation part alone, not of a series that changes afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Literal

from numpy.typing import ArrayLike

from nas_agent_graph.selection.bootstrap import Interval, interval_of_mean
from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.comparison import (
    Comparison,
    compare_runs,
    compare_with_baseline,
)
from nas_agent_graph.selection.noise import SeedNoise, probability_of_luck
from nas_agent_graph.selection.rule import leader
from nas_agent_graph.selection.student import quantile

Word = Literal["confirmed", "not distinguishable", "untested"]

MOST_TIES = 8
"""Runs in a tie set."""


@dataclass(frozen=True)
class FreshMean:
    """The mean loss of the recommended run over fresh seeds, with its 90 % interval over seeds."""

    seeds: int
    mean: float
    low: float | None = None
    high: float | None = None
    """None where nothing but one seed is known."""


@dataclass(frozen=True)
class Conclusion:
    """What is known at the end of a search. All scores are losses; lower is better."""

    recommended: str
    word: Word
    configurations: int
    """With a score, the recommended one included."""
    first: float
    """The recommended run's own training."""
    fresh: FreshMean | None
    ties: tuple[str, ...]
    """The recommended run and those that cannot be told from it, lowest mean first; the best of every family
    before a second one of any."""
    ties_left_out: int
    """Runs more that cannot be told from it."""
    baseline_ties: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    """With the runs in `ties`, the runs of the lowest means, and the baselines; lowest loss first."""
    resolution: float | None
    """Differences below it are not resolved by the validation rows (90 %): the median over the other runs."""
    block: int
    """Windows in a row that are taken to depend on each other; 1 for independent samples."""
    independent_blocks: int | None
    """Such blocks in the validation part; None where no losses of windows were kept."""
    luck: Mapping[str, float] = field(default_factory=dict)
    """How probable it is, by the noise of seeds, that a lead with one seed is none: that of the recommended
    run over the next, or that of a run that scored lower than the recommended one."""
    hold_out_score: float | None = None
    hold_out: Interval | None = None

    @property
    def optimism(self) -> float | None:
        """By how much the first score was better than the fresh mean."""
        return None if self.fresh is None else self.fresh.mean - self.first

    def with_hold_out(self, score: float, errors: ArrayLike | None, block: int) -> Conclusion:
        """Add the hold-out score of the recommended run, as a loss, and its losses on the windows there."""
        interval = None if errors is None else interval_of_mean(errors, block)
        return replace(self, hold_out_score=score, hold_out=interval)


def conclude(
    candidates: Sequence[Candidate],
    noise: SeedNoise,
    errors: Mapping[str, ArrayLike],
    baseline_errors: Mapping[str, ArrayLike],
    baseline_scores: Mapping[str, float],
    blocks: Mapping[str, int] | int = 1,
) -> Conclusion | None:
    """Conclude a search from its scores and from the losses on the validation windows.

    `errors` are by run: (windows,), or (trainings, windows) for one with several, of which those with fresh
    seeds are wanted where there are any. `blocks` say by run how many windows in a row depend on each other;
    of two runs the longer counts. Runs and baselines without errors take part by their scores, and the word
    says so. None if no run has a score.
    """
    best = leader(candidates)
    if best is None:
        return None
    block_of = (lambda name: blocks) if isinstance(blocks, int) else lambda name: blocks.get(name, 1)
    others = sorted((other for other in candidates if other is not best), key=lambda other: other.mean)
    own_block = block_of(best.run_id)
    runs = [
        compare_runs(best, other, noise, errors, max(own_block, block_of(other.run_id))) for other in others
    ]
    baselines = [
        compare_with_baseline(
            best, name, loss, noise, errors.get(best.run_id), baseline_errors.get(name), own_block
        )
        for name, loss in sorted(baseline_scores.items(), key=lambda row: row[1])
    ]
    tied = {comparison.name for comparison in runs if comparison.is_tie}
    ties = _tie_set(best, [other for other in others if other.run_id in tied])
    rows = next((one.rows for one in (*runs, *baselines) if one.rows is not None), None)
    margins = [one.rows_margin for one in runs if one.rows_margin is not None]
    return Conclusion(
        recommended=best.run_id,
        word=_word(best, [*runs, *baselines]),
        configurations=len(candidates),
        first=best.scores[0],
        fresh=_fresh_mean(best, noise),
        ties=ties,
        ties_left_out=1 + len(tied) - len(ties),
        baseline_ties=tuple(one.name for one in baselines if one.is_tie),
        comparisons=(
            *(one for place, one in enumerate(runs) if place < MOST_TIES or one.name in ties),
            *baselines,
        ),
        resolution=median(margins)
        if (margins := [one.rows_margin for one in runs if one.rows_margin])
        else None,
        block=own_block,
        independent_blocks=None if rows is None else rows.independent_blocks,
        luck=_luck(best, others, noise),
    )


def _word(best: Candidate, comparisons: Sequence[Comparison]) -> Word:
    told = [comparison.told_apart for comparison in comparisons]
    if not best.fresh or not told:
        return "untested"
    if False in told:
        return "not distinguishable"
    return "untested" if None in told else "confirmed"


def _tie_set(best: Candidate, tied: Sequence[Candidate]) -> tuple[str, ...]:
    """Choose at most `MOST_TIES`; `tied` is in the order of means."""
    seen, first, further = {best.family}, [], []
    for candidate in tied:
        (further if candidate.family in seen else first).append(candidate)
        seen.add(candidate.family)
    chosen = [*first, *further][: MOST_TIES - 1]
    return (best.run_id, *(candidate.run_id for candidate in sorted(chosen, key=lambda one: one.mean)))


def _fresh_mean(best: Candidate, noise: SeedNoise) -> FreshMean | None:
    """Return the mean with Student's t interval: their own spread, shrunk to the noise of all repeats."""
    if not best.fresh:
        return None
    n, mean, known = len(best.fresh), fmean(best.fresh), noise.of_mean(best)
    if known is None:
        return FreshMean(n, mean)
    error, degrees = known
    half = quantile(0.95, degrees) * error
    return FreshMean(n, mean, mean - half, mean + half)


def _luck(best: Candidate, others: Sequence[Candidate], noise: SeedNoise) -> dict[str, float]:
    """Return the probabilities for runs that lead with one seed; `others` are in the order of means."""
    pairs = [(other, best) for other in others if other.n == 1 and other.mean < best.mean]
    if best.n == 1 and others:
        pairs.insert(0, (best, others[0]))
    found = {leading.run_id: probability_of_luck(leading, other, noise) for leading, other in pairs}
    return {run_id: luck for run_id, luck in found.items() if luck is not None}

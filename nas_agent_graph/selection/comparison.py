"""Whether a run can be told from another one or a baseline, by seeds and by the rows of the validation part.

A score is uncertain twice: another seed gives another one, and so would other rows. Each is asked for itself,
and both together, because their variances add up in what a new training is worth on new rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike

from nas_agent_graph.selection.bootstrap import Difference, paired_difference
from nas_agent_graph.selection.candidates import Candidate
from nas_agent_graph.selection.noise import CRITICAL, SeedNoise


@dataclass(frozen=True)
class Comparison:
    """The recommended run against another run or a baseline."""

    name: str
    is_baseline: bool
    lead: float
    """The other's loss less that of the recommended run: positive where the latter is better."""
    seeds_margin: float | None
    """Half of the 90 % interval of the lead over seeds; None without fresh seeds or without known noise."""
    rows: Difference | None
    """Window by window, the recommended run's losses less the other's; None where they were not kept."""

    @property
    def rows_margin(self) -> float | None:
        """Half of the 90 % interval over rows; None where that is not to be trusted."""
        return (self.rows.high - self.rows.low) / 2 if self.rows is not None and self.rows.trusted else None

    @property
    def margin(self) -> float | None:
        """Half of the 90 % interval of the lead over seeds and rows; None unless both are known."""
        if self.seeds_margin is None or self.rows_margin is None:
            return None
        return math.hypot(self.seeds_margin, self.rows_margin)

    @property
    def by_seeds(self) -> bool | None:
        """Whether the lead exceeds what seeds explain; None if that was not tested."""
        return None if self.seeds_margin is None else self.lead > self.seeds_margin

    @property
    def by_rows(self) -> bool | None:
        """Whether the rows exclude that the other is as good; None if that cannot be tested.

        Where there are too few independent blocks the rows cannot tell, which is no.
        """
        return None if self.rows is None else self.rows.trusted and self.rows.high < 0

    @property
    def told_apart(self) -> bool | None:
        """Whether the recommended run is better by seeds, by rows, and by both together."""
        parts = (self.by_seeds, self.by_rows)
        if False in parts:
            return False
        return None if self.margin is None else self.lead > self.margin

    @property
    def is_tie(self) -> bool:
        """Whether the two were tested, and cannot be told apart."""
        return self.told_apart is False


def compare_runs(
    best: Candidate,
    other: Candidate,
    noise: SeedNoise,
    errors: Mapping[str, ArrayLike],
    block: int,
) -> Comparison:
    """Compare a recommended run with another one.

    The first score of a run that stands out was selected, so the recommended run has its fresh ones only. A
    run without fresh seeds has all of its scores, which makes it look better than it is, if anything.
    """
    rows = _difference(errors.get(best.run_id), errors.get(other.run_id), block)
    theirs = other.fresh or other.scores
    lead = fmean(theirs) - fmean(best.fresh or best.scores)
    ours, of_other = noise.of_family(best.family), noise.of_family(other.family)
    margin = None
    if best.fresh and ours is not None and of_other is not None:
        margin = CRITICAL * math.sqrt(ours**2 / len(best.fresh) + of_other**2 / len(theirs))
    return Comparison(other.run_id, False, lead, margin, rows)


def compare_with_baseline(
    best: Candidate,
    name: str,
    loss: float,
    noise: SeedNoise,
    errors: ArrayLike | None,
    baseline_errors: ArrayLike | None,
    block: int,
) -> Comparison:
    """Compare a recommended run with a baseline as it stands in the table, which has no seeds.

    One that was scored on some of the windows only (NaN in the others) is compared on those.
    """
    rows = _difference(errors, baseline_errors, block)
    partly = baseline_errors is not None and bool(np.isnan(baseline_errors).any())
    lead = -rows.mean if rows is not None and partly else loss - fmean(best.fresh or best.scores)
    ours = noise.of_family(best.family)
    margin = CRITICAL * ours / math.sqrt(len(best.fresh)) if best.fresh and ours is not None else None
    return Comparison(name, True, lead, margin, rows)


def _difference(errors: ArrayLike | None, others: ArrayLike | None, block: int) -> Difference | None:
    """Compare on the windows that both have; None if one has none, or they have different numbers."""
    if errors is None or others is None:
        return None
    first, second = np.atleast_2d(errors).mean(axis=0), np.atleast_2d(others).mean(axis=0)
    if first.shape != second.shape:
        return None
    both = np.isfinite(first) & np.isfinite(second)
    if not both.any():
        return None
    # Those scored are evenly spread.
    in_block = max(1, math.ceil(block * both.mean())) if block > 1 else 1
    return paired_difference(first[both], second[both], in_block)

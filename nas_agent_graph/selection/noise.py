"""How much a score changes with the seed alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist, fmean

from nas_agent_graph.selection.candidates import Candidate

PRIOR_DEGREES = 4
"""What the pool of all families counts for in the noise of one, in degrees of freedom."""
CRITICAL = 1.64
"""Standard errors by which two means over fresh seeds have to differ: 5 % by chance where they are equal."""


@dataclass(frozen=True)
class Spread:
    """Squared deviations from the configurations' own means, and their degrees of freedom."""

    squares: float = 0.0
    degrees: int = 0

    def plus(self, scores: tuple[float, ...]) -> Spread:
        """Add the scores of one configuration."""
        mean = fmean(scores)
        squares = sum((score - mean) ** 2 for score in scores)
        return Spread(self.squares + squares, self.degrees + len(scores) - 1)


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviations of a score over seeds, pooled over the configurations with two scores or more."""

    everywhere: Spread = Spread()
    families: Mapping[str | None, Spread] = field(default_factory=dict)

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> SeedNoise:
        """Pool what the candidates' repeats show."""
        everywhere, families = Spread(), {}
        for candidate in candidates:
            if candidate.n > 1:
                everywhere = everywhere.plus(candidate.scores)
                before = families.get(candidate.family, Spread())
                families[candidate.family] = before.plus(candidate.scores)
        return cls(everywhere, families)

    @property
    def pooled(self) -> float | None:
        """Return the standard deviation over all families; None if nothing has two scores."""
        if not self.everywhere.degrees:
            return None
        return math.sqrt(self.everywhere.squares / self.everywhere.degrees)

    def of_family(self, family: str | None) -> float | None:
        """Return the standard deviation of a family, shrunk to that of all; None if nothing has two scores.

        A family of which nothing was repeated has that of all.
        """
        pooled = self.pooled
        if pooled is None:
            return None
        own = self.families.get(family, Spread())
        return math.sqrt((own.squares + PRIOR_DEGREES * pooled**2) / (own.degrees + PRIOR_DEGREES))

    def of_mean(self, candidate: Candidate) -> tuple[float, int] | None:
        """Return the standard error of the mean of a candidate's fresh scores, and its degrees of freedom.

        Their own spread is shrunk to the noise of its family, as that is to the noise of all: alone, two or
        three scores are now and then almost equal by chance, and an interval made of them holds the true mean
        too rarely (`benchmarks/selection.py`). None without a fresh score, or where no noise is known.
        """
        spread, n = self.of_family(candidate.family), len(candidate.fresh)
        if not n or spread is None:
            return None
        own = Spread().plus(candidate.fresh)
        prior = min(PRIOR_DEGREES, self.everywhere.degrees)
        variance = (own.squares + prior * spread**2) / (own.degrees + prior)
        return math.sqrt(variance / n), own.degrees + prior


def is_distinguished(best: Candidate, other: Candidate, noise: SeedNoise) -> bool:
    """Return whether fresh seeds alone show that `best` has a lower loss than `other`.

    Their means over fresh seeds must differ by more than 1.64 standard errors, s sqrt(1/n1 + 1/n2). False
    where one of them has no fresh score, or the noise is unknown.
    """
    ours, theirs = noise.of_family(best.family), noise.of_family(other.family)
    if not best.fresh or not other.fresh or ours is None or theirs is None:
        return False
    error = math.sqrt(ours**2 / len(best.fresh) + theirs**2 / len(other.fresh))
    return fmean(other.fresh) - fmean(best.fresh) > CRITICAL * error


def probability_of_luck(leading: Candidate, other: Candidate, noise: SeedNoise) -> float | None:
    """Return how probable it is that `leading` is no better than `other`, by the noise of seeds alone.

    It rests on all scores, and on nothing else being known of the two. For a run that stands out because its
    score was the lowest of many the true probability is higher. None if the noise is not known.
    """
    ours, theirs = noise.of_family(leading.family), noise.of_family(other.family)
    if ours is None or theirs is None:
        return None
    lead, error = other.mean - leading.mean, math.sqrt(ours**2 / leading.n + theirs**2 / other.n)
    if error == 0:
        return float(lead < 0) if lead else 0.5
    return NormalDist().cdf(-lead / error)

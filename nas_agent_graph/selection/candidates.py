"""What is known of each configuration: its scores over seeds, as losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Literal

Purpose = Literal["base", "challenge", "final", "asked"]
"""Why a configuration was trained with another seed: to know the noise of the base config, because it took
the lead, in the final after the last configuration, or because a proposer asked for it."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that has a score; lower scores are better."""

    run_id: str
    family: str | None
    scores: tuple[float, ...]
    """Of its own training first, then of its repeats in the order of their ends, the fresh ones included."""
    fresh: tuple[float, ...] = ()
    """Of the final after the last configuration: the choice of what to repeat there did not see them."""
    seconds: float | None = None
    """Of its own training."""

    @cached_property
    def mean(self) -> float:
        """Return the mean of all its scores."""
        return fmean(self.scores)

    @cached_property
    def before_final(self) -> tuple[float, ...]:
        """Return the scores that are not fresh."""
        known = list(reversed(self.scores))
        for score in self.fresh:
            known.remove(score)
        return tuple(reversed(known))

    @cached_property
    def mean_before_final(self) -> float:
        """Return the mean of the scores that are not fresh."""
        return fmean(self.before_final)

    @property
    def n(self) -> int:
        """Return how many scores it has."""
        return len(self.scores)


@dataclass(frozen=True)
class Repeat:
    """A training of a configuration with a further seed, and why."""

    run_id: str
    purpose: Purpose
    after: int
    """How many configurations had ended when it began. All repeats of a final have the same number; once
    another configuration ends, they are those of an earlier final."""

    def is_of_final(self, configurations: int) -> bool:
        """Return whether it belongs to the final after that many configurations."""
        return self.purpose == "final" and self.after == configurations


@dataclass(frozen=True)
class EndedRepeat(Repeat):
    """One that has ended."""

    score: float | None
    """None if it has none, because it failed."""

    @property
    def has_score(self) -> bool:
        """Return whether it has a finite score."""
        return self.score is not None and math.isfinite(self.score)


def with_repeats(
    runs: Iterable[Candidate], repeats: Sequence[EndedRepeat], configurations: int
) -> tuple[Candidate, ...]:
    """Return the candidates with the scores of their repeats, which are in the order of their ends.

    Fresh are scores of the present final alone, after `configurations` ended ones. Those of an earlier final
    were known when later configurations were compared, so they count like any other score.
    """
    further: dict[str, list[EndedRepeat]] = {}
    for repeat in repeats:
        if repeat.has_score:
            further.setdefault(repeat.run_id, []).append(repeat)
    return tuple(
        _with_scores(run, further[run.run_id], configurations) if run.run_id in further else run
        for run in runs
    )


def _with_scores(run: Candidate, repeats: Sequence[EndedRepeat], configurations: int) -> Candidate:
    scores = [(repeat.score, repeat.is_of_final(configurations)) for repeat in repeats]
    every = tuple(score for score, _ in scores if score is not None)
    fresh = tuple(score for score, is_fresh in scores if score is not None and is_fresh)
    return replace(run, scores=(*run.scores, *every), fresh=fresh)

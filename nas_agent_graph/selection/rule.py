"""Which configuration leads, and which gets another seed now.

While a search goes on, the lowest mean leads, without a margin: wrong leads cost little, missed ones a lot.
Where the noise is large, the leader gets another seed (a challenge) until it has three or leads no more.
After the last configuration the final spends what is kept for it: one fresh seed for each of the best three,
of which the worst is dropped, then fresh seeds for the other two in turn. `benchmarks/selection.py` measures
what that gains.

Every decision is a function of the `Standing` alone, which can be read from what is on disk: it may be asked
after every event, after a restart, and again by a replay.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median

from nas_agent_graph.selection.candidates import (
    Candidate,
    EndedRepeat,
    Repeat,
    with_repeats,
)
from nas_agent_graph.selection.noise import SeedNoise

BASE_REPEATS = 2
"""Further seeds of the base config, right after it."""
FINALISTS = 3
FINAL_SHARE = 0.1
"""Size of the final, as a share of the configurations."""
SMALLEST_FINAL = 4
FEWEST_CONFIGURATIONS = 10
"""Without an explicit size, a search of fewer configurations has no final and no challenges."""
SEEDS_OF_LEADER = 3
"""Trainings of a configuration, its own included, after which it leads unchallenged; failed ones count."""
CHALLENGE_SHARE = 0.08
"""Most trainings that challenges may take, as a share of those that have begun."""
USUAL_CHALLENGES = 0.04
"""Their usual share of the configurations, for a plan of what a search will take."""
LARGE_NOISE = 0.1
"""Challenges pay where the noise exceeds this share of the lead over the median."""


@dataclass(frozen=True)
class Standing:
    """All that the rule may know of a search at some moment."""

    runs: tuple[Candidate, ...]
    """Configurations with a score, each with that of its own training alone, in the order of their ends."""
    configurations: int
    """Configurations that have ended, with or without a score."""
    max_configurations: int
    """How many the search is planned for."""
    more_to_come: bool
    """Whether a configuration is in progress, or another one will begin."""
    ended: tuple[EndedRepeat, ...] = ()
    """Repeats that have ended, with or without a score, in the order of their ends."""
    in_progress: tuple[Repeat, ...] = ()
    """Repeats that have begun and not ended, in any order."""
    repeats: int | None = None
    """What the user chose: the size of the final, 0 for no repeats at all, None for the rule's own sizes."""

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Return the configurations that have a score with the scores of all their repeats."""
        return with_repeats(self.runs, self.ended, self.configurations)


def leader(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate with the lowest mean, of equal ones the first; None if there is none.

    Once a final has begun, only the finalists compete. Their means have lost what was luck in them; those of
    the others have not.
    """
    if any(candidate.fresh for candidate in candidates):
        candidates = finalists(candidates)
    return min(candidates, key=lambda candidate: candidate.mean, default=None)


def finalists(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the three with the lowest means before the final, best first."""
    return tuple(sorted(candidates, key=lambda candidate: candidate.mean_before_final)[:FINALISTS])


def final_size(configurations: int, repeats: int | None = None) -> int:
    """Return how many trainings the final of a search of so many configurations has."""
    if repeats is not None:
        return max(repeats, 0)
    if configurations < FEWEST_CONFIGURATIONS:
        return 0
    return max(SMALLEST_FINAL, round(FINAL_SHARE * configurations))


def planned_trainings(
    max_configurations: int, repeats: int | None = None, base_repeats: int = BASE_REPEATS
) -> int:
    """Return about how many trainings a search will take, its repeats included."""
    if repeats == 0:
        return max_configurations
    final = final_size(max_configurations, repeats)
    challenges = round(USUAL_CHALLENGES * max_configurations) if final else 0
    return max_configurations + base_repeats + final + challenges


def next_seed(seed: int, used: Collection[int]) -> int:
    """Return the seed of a configuration's next repeat: the first above its own that was not used for it."""
    return next(seed + step for step in range(1, len(used) + 2) if seed + step not in used)


def next_repeat(standing: Standing) -> Repeat | None:
    """Return which configuration gets another seed now and why; None if none does.

    None does not mean that the final is over: it may have to wait for trainings in progress (see `is_over`).
    """
    return _challenge(standing) if standing.more_to_come else _of_final(standing)


def is_over(standing: Standing) -> bool:
    """Return whether nothing more will be trained: no configuration, and no repeat."""
    return not (standing.more_to_come or standing.in_progress) and _of_final(standing) is None


def _challenge(standing: Standing) -> Repeat | None:
    """Return another seed for a leader with one or two, where challenges pay and are left."""
    best = leader(standing.candidates)
    if best is None or not final_size(standing.max_configurations, standing.repeats):
        return None
    if any(repeat.run_id == best.run_id for repeat in standing.in_progress):
        return None  # whether it still leads then, only that seed will show
    begun = [*standing.ended, *standing.in_progress]
    if 1 + sum(repeat.run_id == best.run_id for repeat in begun) >= SEEDS_OF_LEADER:
        return None
    challenges = sum(repeat.purpose == "challenge" for repeat in begun)
    if challenges + 1 > CHALLENGE_SHARE * (standing.configurations + len(begun)):
        return None
    if not _challenges_pay(standing.candidates, best):
        return None
    return Repeat(best.run_id, "challenge", standing.configurations)


def _challenges_pay(candidates: Sequence[Candidate], best: Candidate) -> bool:
    """Return whether the noise is large enough to take a worse configuration for the best one, or unknown.

    It is compared with the lead of the next best: that of `best` may be luck itself.
    """
    noise = SeedNoise.of(candidates).pooled
    others = [candidate.mean for candidate in candidates if candidate is not best]
    return noise is None or not others or noise > LARGE_NOISE * (median(others) - min(others))


def _of_final(standing: Standing) -> Repeat | None:
    if any(not repeat.is_of_final(standing.configurations) for repeat in standing.in_progress):
        return None  # its score may change who the finalists are
    ended = [repeat for repeat in standing.ended if repeat.is_of_final(standing.configurations)]
    begun = [repeat.run_id for repeat in (*ended, *standing.in_progress)]
    if len(begun) >= final_size(standing.configurations, standing.repeats):
        return None
    three = finalists(standing.candidates)
    chosen = next((candidate for candidate in three if candidate.run_id not in begun), None)
    if chosen is None and three and len(ended) >= len(three):
        chosen = min(_best_two(three), key=lambda candidate: begun.count(candidate.run_id))
    # Without a choice the first round goes on: who is dropped depends on all of it.
    return chosen and Repeat(chosen.run_id, "final", standing.configurations)


def _best_two(three: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Drop who is last after one fresh seed each. Those whose fresh seed failed come last."""
    means = [fmean((*one.before_final, one.fresh[0])) if one.fresh else math.inf for one in three]
    order = sorted(range(len(three)), key=means.__getitem__)
    return tuple(three[place] for place in order[: FINALISTS - 1])

"""Who leads, who gets another seed, and when a search is over."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_agent_graph.selection.candidates import Candidate, EndedRepeat, Purpose, Repeat
from nas_agent_graph.selection.rule import (
    CHALLENGE_SHARE,
    Standing,
    final_size,
    is_over,
    leader,
    next_repeat,
    next_seed,
    planned_trainings,
)


def runs_of(*scores: float) -> tuple[Candidate, ...]:
    return tuple(Candidate(f"run_{number:04d}", None, (score,)) for number, score in enumerate(scores))


def ended(run: int, purpose: Purpose, score: float | None, after: int) -> EndedRepeat:
    return EndedRepeat(f"run_{run:04d}", purpose, after, score)


def in_final(*scores: float, repeats: int | None = None, **rest) -> Standing:
    count = len(scores)
    return Standing(runs_of(*scores), count, count, more_to_come=False, repeats=repeats, **rest)


TWENTY = tuple(1 + number / 100 for number in range(20))


@dataclass
class Search:
    """A search of the rule alone: trainings end in a random order, `slots` of them at once."""

    seed: int
    configurations: int
    slots: int = 1
    repeats: int | None = None
    failures: float = 0.0
    runs: list[Candidate] = field(default_factory=list)
    done: int = 0
    ended: list[EndedRepeat] = field(default_factory=list)
    in_progress: list[Repeat | int] = field(default_factory=list)
    begun: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @property
    def standing(self) -> Standing:
        repeats = tuple(entry for entry in self.in_progress if isinstance(entry, Repeat))
        return Standing(
            tuple(self.runs),
            self.done,
            self.configurations,
            more_to_come=self.done < self.configurations,
            ended=tuple(self.ended),
            in_progress=repeats,
            repeats=self.repeats,
        )

    def run(self) -> Search:
        while not is_over(self.standing):
            self._fill()
            assert self.in_progress, "the search hangs"
            self._end(self.in_progress.pop(self.random.randrange(len(self.in_progress))))
        return self

    def _fill(self) -> None:
        while len(self.in_progress) < self.slots:
            asked = next_repeat(self.standing)
            if asked is not None:
                self.in_progress.append(asked)
            elif self.runs and self.begun < self.configurations and self.random.random() < 0.1:
                run_id = self.random.choice(self.runs).run_id
                self.in_progress.append(Repeat(run_id, "asked", self.done))
            elif self.begun < self.configurations:
                self.in_progress.append(self.begun)
                self.begun += 1
            else:
                return

    def _end(self, entry: Repeat | int) -> None:
        score = None if self.random.random() < self.failures else self.random.gauss(0, 1)
        if isinstance(entry, Repeat):
            self.ended.append(EndedRepeat(entry.run_id, entry.purpose, entry.after, score))
            return
        self.done += 1
        if score is not None:
            self.runs.append(Candidate(f"run_{entry:04d}", None, (score,)))


searches = st.builds(
    Search,
    seed=st.integers(0, 2**32),
    configurations=st.integers(0, 90),
    slots=st.integers(1, 5),
    repeats=st.sampled_from([None, 0, 1, 2, 3, 7]),
    failures=st.sampled_from([0.0, 0.3, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(searches)
def test_a_search_ends_and_takes_no_more_than_is_planned(search: Search) -> None:
    search.run()
    spent = Counter(repeat.purpose for repeat in search.ended)
    size = final_size(search.configurations, search.repeats)
    assert spent["final"] == (size if search.runs else 0)
    assert spent["challenge"] <= CHALLENGE_SHARE * (search.configurations + len(search.ended))
    assert search.repeats != 0 or set(spent) <= {"asked"}
    assert leader(search.standing.candidates) is not None or not search.runs


@settings(max_examples=30, deadline=None)
@given(searches)
def test_the_same_standing_gives_the_same_answer(search: Search) -> None:
    search.run()
    standing = replace(search.standing, ended=tuple(search.ended[:-1]))
    again = Standing(**{name: getattr(standing, name) for name in standing.__dataclass_fields__})
    assert next_repeat(standing) == next_repeat(again)
    assert is_over(standing) == is_over(again)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_lowest_mean_leads(scores: list[float]) -> None:
    best = leader(runs_of(*scores))
    assert best is not None and best.mean == min(scores)
    assert best.run_id == f"run_{scores.index(min(scores)):04d}", "of equal ones the first"


def test_nobody_leads_before_there_is_a_score() -> None:
    assert leader(()) is None
    standing = Standing((), 3, 20, more_to_come=True)
    assert next_repeat(standing) is None
    assert is_over(replace(standing, more_to_come=False, configurations=20))


# --- challenges -----------------------------------------------------------------------------


def long_search(*scores: float, **rest) -> Standing:
    """Forty have ended, half of them without a score."""
    return Standing(runs_of(*scores), 40, 100, more_to_come=True, **rest)


def test_who_takes_the_lead_gets_another_seed() -> None:
    standing = long_search(*TWENTY[::-1])
    assert next_repeat(standing) == Repeat("run_0019", "challenge", 40)


def test_a_repeat_in_progress_is_not_handed_out_twice() -> None:
    standing = long_search(*TWENTY[::-1])
    asked = next_repeat(standing)
    assert asked is not None
    assert next_repeat(replace(standing, in_progress=(asked,))) is None


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_seed_that_failed_is_spent(score: float | None) -> None:
    standing = long_search(*TWENTY[::-1], ended=(ended(19, "challenge", score, 40),))
    assert next_repeat(standing) == Repeat("run_0019", "challenge", 40), "the third training"
    standing = replace(standing, ended=standing.ended * 2)
    assert next_repeat(standing) is None
    best = leader(standing.candidates)
    assert best is not None and best.run_id == "run_0019" and best.n == 1


def test_means_decide_and_a_leader_with_one_score_gets_another() -> None:
    standing = long_search(*TWENTY, ended=(ended(0, "challenge", 2.0, 9),))
    best = leader(standing.candidates)
    assert best is not None and best.run_id == "run_0001"
    assert next_repeat(standing) == Repeat("run_0001", "challenge", 40)


def test_a_leader_gets_seeds_until_it_has_three() -> None:
    once = (ended(0, "asked", 0.9, 12),)
    assert next_repeat(long_search(*TWENTY, ended=once)) == Repeat("run_0000", "challenge", 40)
    assert next_repeat(long_search(*TWENTY, ended=once * 2)) is None


@pytest.mark.parametrize("max_configurations", [30, 100])
@pytest.mark.parametrize(("deviation", "is_challenged"), [(0.001, False), (1.0, True)])
def test_there_are_challenges_where_the_noise_is_large(
    deviation: float, is_challenged: bool, max_configurations: int
) -> None:
    base = (ended(0, "base", 1.19 + deviation, 1), ended(0, "base", 1.19 - deviation, 1))
    standing = Standing(runs_of(*TWENTY[::-1]), 20, max_configurations, more_to_come=True, ended=base)
    assert next_repeat(standing) == (Repeat("run_0019", "challenge", 20) if is_challenged else None)


def test_a_lead_that_is_luck_itself_does_not_make_the_noise_look_small() -> None:
    base = (ended(0, "base", 1.3, 1), ended(0, "base", 1.2, 1))
    standing = Standing(runs_of(*TWENTY, -1e9), 21, 100, more_to_come=True, ended=base)
    assert next_repeat(standing) == Repeat("run_0020", "challenge", 21)


def test_zero_repeats_are_none_at_all() -> None:
    standing = long_search(*TWENTY[::-1], repeats=0)
    assert next_repeat(standing) is None
    assert is_over(replace(standing, more_to_come=False))
    assert planned_trainings(100, 0) == 100


# --- the final ------------------------------------------------------------------------------


def order_of_final(standing: Standing, fresh: dict[str, float]) -> list[str]:
    """Spend the final one by one."""
    order = []
    while (asked := next_repeat(standing)) is not None:
        order.append(asked.run_id)
        score = fresh[asked.run_id]
        repeat = EndedRepeat(asked.run_id, asked.purpose, asked.after, score)
        standing = replace(standing, ended=(*standing.ended, repeat))
    assert is_over(standing)
    return order


def test_the_worst_of_three_is_dropped_and_the_others_share_the_rest() -> None:
    fresh = {"run_0000": 1.3, "run_0001": 1.0, "run_0002": 1.1}
    order = order_of_final(in_final(*TWENTY, repeats=8), fresh)
    assert order == ["run_0000", "run_0001", "run_0002", *("run_0001", "run_0002") * 2, "run_0001"]


def test_the_lowest_mean_of_the_finalists_leads_at_the_end_even_that_of_who_was_dropped() -> None:
    first_round = (ended(0, "final", 1.0, 20), ended(1, "final", 1.0, 20), ended(2, "final", 1.1, 20))
    bad = (ended(0, "final", 2.0, 20), ended(1, "final", 3.0, 20))
    best = leader(in_final(*TWENTY, repeats=5, ended=(*first_round, *bad)).candidates)
    assert best is not None and best.run_id == "run_0002"


def test_a_finalist_whose_fresh_seed_failed_is_dropped() -> None:
    repeats = (ended(0, "final", None, 20), ended(1, "final", 5.0, 20), ended(2, "final", 6.0, 20))
    asked = next_repeat(in_final(*TWENTY, repeats=5, ended=repeats))
    assert asked == Repeat("run_0001", "final", 20)


def test_who_is_dropped_waits_for_the_whole_first_round() -> None:
    standing = in_final(*TWENTY, repeats=8)
    handed: list[Repeat] = []
    while (asked := next_repeat(replace(standing, in_progress=tuple(handed)))) is not None:
        handed.append(asked)
    assert [repeat.run_id for repeat in handed] == ["run_0000", "run_0001", "run_0002"]
    ends = (ended(2, "final", 1.0, 20), ended(0, "final", 1.0, 20))
    waiting = replace(standing, ended=ends, in_progress=(handed[1],))
    assert next_repeat(waiting) is None
    assert not is_over(waiting)


def test_the_final_is_decided_the_same_in_any_order_of_ends() -> None:
    standing = in_final(*TWENTY, repeats=9)
    first = [ended(0, "final", 1.1, 20), ended(1, "final", 0.7, 20), ended(2, "final", 0.9, 20)]
    second = [ended(1, "final", 3.0, 20), ended(2, "final", 0.8, 20), ended(1, "final", 0.1, 20)]
    answers = set()
    for one in permutations(first):
        for two in permutations(second):
            seen = replace(standing, ended=(*one, *two))
            best = leader(seen.candidates)
            assert best is not None
            answers.add((next_repeat(seen), best.run_id, best.mean))
    assert len(answers) == 1


def test_the_final_waits_for_a_challenge_in_progress() -> None:
    running = in_final(*TWENTY, in_progress=(Repeat("run_0007", "challenge", 19),))
    assert next_repeat(running) is None
    assert not is_over(running)


def test_finalists_that_lost_their_luck_are_not_overtaken_by_one_that_was_not_repeated() -> None:
    repeats = tuple(ended(run, "final", 2.0, 20) for run in (0, 1, 2))
    best = leader(in_final(*TWENTY, ended=repeats).candidates)
    assert best is not None and best.run_id == "run_0000"
    assert best.mean > TWENTY[3]


def test_a_search_that_goes_on_gets_a_new_final() -> None:
    over = in_final(*TWENTY, repeats=3, ended=tuple(ended(run, "final", 2.0, 20) for run in (0, 1, 2)))
    assert is_over(over)
    runs = runs_of(*TWENTY, 1.5)
    goes_on = replace(over, runs=runs[:20], max_configurations=21, more_to_come=True)
    assert not is_over(goes_on)
    again = replace(goes_on, runs=runs, configurations=21, more_to_come=False)
    assert all(not candidate.fresh for candidate in again.candidates), "they were known before"
    assert order_of_final(again, dict.fromkeys(("run_0003", "run_0004", "run_0005"), 1.0)) == [
        "run_0003",
        "run_0004",
        "run_0005",
    ]


@pytest.mark.parametrize(("count", "order"), [(1, "0000"), (2, "0101")])
def test_fewer_than_three_share_the_final(count: int, order: str) -> None:
    fresh = {f"run_{number:04d}": 1.0 for number in range(count)}
    found = order_of_final(in_final(*TWENTY[:count], repeats=4), fresh)
    assert found == [f"run_000{number}" for number in order]


@pytest.mark.parametrize(
    ("configurations", "size"), [(1, 0), (9, 0), (10, 4), (20, 4), (40, 4), (83, 8), (500, 50)]
)
def test_the_size_of_the_final(configurations: int, size: int) -> None:
    assert final_size(configurations) == size
    assert final_size(configurations, 0) == 0
    assert final_size(configurations, 5) == 5


def test_planned_trainings_count_all_of_them() -> None:
    assert planned_trainings(9) == 11
    assert planned_trainings(20) == 27
    assert planned_trainings(100) == 116


def test_the_next_seed_is_the_first_one_not_used() -> None:
    assert next_seed(42, ()) == 43
    assert next_seed(42, {42, 43, 45}) == 44
    assert next_seed(42, {43, 44}) == 45

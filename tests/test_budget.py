"""What a search may spend: which limit ends it, and when a person is told."""

from __future__ import annotations

import json

import pytest

from nas_agent_graph.budget import BudgetSpent, Left, Limits, Spent

LIMITS = Limits(max_runs=10, max_seconds=7200.0, max_tokens=1_000, max_cost_usd=2.0)


@pytest.mark.parametrize(
    ("spent", "end"),
    [
        (Spent(9, 7199.0, 999), None),
        (Spent(10, 0.0, 0), "all 10 runs are done"),
        (Spent(1, 7200.0, 0), "the time limit of 2 hours is reached"),
        (Spent(1, 0.0, 0, 2.0), "the budget of $2 is spent ($2.0000); raise --max-cost"),
        (Spent(1, 0.0, 1_000), "the budget of 1,000 tokens is spent (1,000); raise --max-tokens"),
    ],
)
@pytest.mark.fault(35)
def test_the_first_limit_that_is_reached_ends_the_search(spent: Spent, end: str | None) -> None:
    assert LIMITS.reached(spent) == end


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (Spent(1, 0.0, 0), Spent(2, 3599.0, 499), []),
        (Spent(1, 3599.0, 0), Spent(2, 3600.0, 0), ["50% of the time spent"]),
        (Spent(1, 3600.0, 0), Spent(2, 3700.0, 0), []),
        (Spent(1, 0.0, 400), Spent(2, 0.0, 900), ["80% of the tokens spent"]),
        (Spent(1, 0.0, 0, 0.9), Spent(2, 0.0, 0, 1.1), ["50% of the money spent"]),
        (Spent(1, 0.0, 400), Spent(2, 0.0, 1_200), []),  # the end itself is said elsewhere
    ],
)
def test_a_share_is_told_once_when_it_is_passed(before: Spent, now: Spent, said: list[str]) -> None:
    assert LIMITS.warnings(before, now) == said


def test_what_has_no_limit_is_never_spent() -> None:
    boundless = Limits(max_runs=10)
    assert boundless.reached(Spent(9, 1e9, 10**9)) is None
    assert boundless.warnings(Spent(0, 0.0, 0), Spent(9, 1e9, 10**9)) == []


def test_what_is_left_is_never_below_zero_and_unknown_without_a_limit() -> None:
    assert LIMITS.left(Spent(1, 8000.0, 400, 0.5)) == Left(seconds=0.0, tokens=600, cost_usd=1.5)
    assert Limits(max_runs=10).left(Spent(9, 1e9, 10**9, 1e9)) == Left()


def test_what_is_left_survives_its_way_through_a_transcript() -> None:
    left = Left(seconds=12.5, tokens=600)
    assert Left.from_record(json.loads(json.dumps(left.to_record()))) == left
    for spoiled in (None, [], {"tokens": "many", "seconds": float("nan"), "cost_usd": None}):
        assert Left.from_record(spoiled) == Left()


def test_a_run_that_has_used_up_what_was_left_is_asked_about_no_more() -> None:
    left = Left(tokens=1_000, cost_usd=0.5)
    left.refuse_if_spent(999, 0.49)
    with pytest.raises(BudgetSpent, match="tokens"):
        left.refuse_if_spent(1_000, 0.0)
    with pytest.raises(BudgetSpent, match="money"):
        left.refuse_if_spent(0, 0.5)
    Left().refuse_if_spent(10**9, 10.0**9)

"""What a search may spend: which limit ends it, and when a person is told."""

from __future__ import annotations

import pytest

from nas_agent_graph.context import Limits, Spent

LIMITS = Limits(max_runs=10, max_seconds=7200.0, max_tokens=1_000)


@pytest.mark.parametrize(
    ("spent", "end"),
    [
        (Spent(9, 7199.0, 999), None),
        (Spent(10, 0.0, 0), "all 10 runs are done"),
        (Spent(1, 7200.0, 0), "the time limit of 2 hours is reached"),
        (Spent(1, 0.0, 1_000), "the budget of 1,000 tokens is spent (1,000); raise --max-tokens"),
    ],
)
def test_the_first_limit_that_is_reached_ends_the_search(spent: Spent, end: str | None) -> None:
    assert LIMITS.reached(spent) == end


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (Spent(1, 0.0, 0), Spent(2, 3599.0, 499), []),
        (Spent(1, 3599.0, 0), Spent(2, 3600.0, 0), ["50% of the time spent"]),
        (Spent(1, 3600.0, 0), Spent(2, 3700.0, 0), []),
        (Spent(1, 0.0, 400), Spent(2, 0.0, 900), ["80% of the tokens spent"]),
        (Spent(1, 0.0, 400), Spent(2, 0.0, 1_200), []),  # the end itself is said elsewhere
    ],
)
def test_a_share_is_told_once_when_it_is_passed(before: Spent, now: Spent, said: list[str]) -> None:
    assert LIMITS.warnings(before, now) == said


def test_what_has_no_limit_is_never_spent() -> None:
    boundless = Limits(max_runs=10)
    assert boundless.reached(Spent(9, 1e9, 10**9)) is None
    assert boundless.warnings(Spent(0, 0.0, 0), Spent(9, 1e9, 10**9)) == []

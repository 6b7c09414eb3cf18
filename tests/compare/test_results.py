"""What a comparison says of scores that are known."""

from __future__ import annotations

import dataclasses

import pytest

from nas_agent_graph.compare.pages import lines_of, sentences
from nas_agent_graph.compare.plan import Cell, cells_of
from nas_agent_graph.compare.results import Comparison, Found, Interval, compare
from nas_system.space.score import Direction


def found(proposer: str, seed: int, *scores: float | None, direction: Direction = "minimize") -> Found:
    choose = min if direction == "minimize" else max
    so_far = [choose(known) if (known := [s for s in scores[: n + 1] if s is not None]) else None
              for n in range(len(scores))]  # fmt: skip
    return Found(
        Cell(proposer, seed), "val_mse", direction, "", so_far[-1], "run_0000", tuple(so_far),
        scores.count(None), 10.0, 100, 0.5,
    )  # fmt: skip


def compared(*searches: Found, proposers: tuple[str, ...] = ("tpe", "random_search")) -> Comparison:
    result = compare(searches, proposers, runs=2)
    assert result is not None
    return result


def test_searches_take_turns_so_that_a_stop_is_fair() -> None:
    cells = cells_of(("a", "b", "c"), first_seed=4, seeds=3)
    assert [cell.name for cell in cells[:4]] == ["seed_4/a", "seed_4/b", "seed_4/c", "seed_5/b"]
    for stop in range(len(cells)):
        counts = [sum(cell.proposer == name for cell in cells[:stop]) for name in ("a", "b", "c")]
        assert max(counts) - min(counts) <= 1
    assert len(set(cells)) == 9


def test_differences_are_taken_seed_by_seed() -> None:
    """The seeds differ by far more than the proposers, and all in the same way."""
    searches = [found("tpe", seed, 9.0, float(seed)) for seed in (1, 2, 3)]
    searches += [found("random_search", seed, 9.0, seed + 0.1 + 0.001 * seed) for seed in (1, 2, 3)]
    result = compared(*searches)
    leader, other = result.rows
    assert (leader.proposer, leader.best and leader.best.mean, leader.behind) == ("tpe", 2.0, None)
    assert other.behind is not None and other.behind.mean == pytest.approx(0.102)
    assert not other.behind.holds_zero
    assert "tpe is better than random_search by 0.102" in " ".join(sentences(result))


def test_overlapping_proposers_are_said_to_be_alike() -> None:
    searches = [found("tpe", 1, 9.0, 1.0), found("tpe", 2, 9.0, 2.0)]
    searches += [found("random_search", 1, 9.0, 1.5), found("random_search", 2, 9.0, 1.9)]
    said = sentences(compared(*searches))
    assert "tpe has the best mean; random_search cannot be told apart from it with 2 seeds." in said


def test_the_interval_is_students() -> None:
    """Of 1, 2, 3 the standard error is 1/sqrt(3), and t(0.95, 2) = 2.92."""
    interval = Interval.of([1.0, 2.0, 3.0])
    assert (interval.mean, interval.half_width) == (2.0, pytest.approx(2.92 / 3**0.5, rel=1e-3))


def test_only_seeds_that_every_proposer_has_ended_count() -> None:
    searches = (found("tpe", 1, 3.0, 2.0), found("random_search", 1, 3.0, 2.5), found("tpe", 2, 0.1, 0.1))
    result = compared(*searches)
    assert result.seeds == (1,)
    assert {row.proposer: row.above_best for row in result.rows} == {
        "tpe": {2: 0.0},
        "random_search": {2: 0.5},
    }
    assert compare(searches[2:], ("tpe", "random_search"), 2) is None


def test_higher_is_better_where_the_metric_is_maximised() -> None:
    searches = [found("tpe", 1, 0.5, 0.7, direction="maximize")]
    searches += [found("random_search", 1, 0.5, 0.9, direction="maximize")]
    result = compared(*searches)
    assert [row.proposer for row in result.rows] == ["random_search", "tpe"]
    assert result.rows[1].above_best[2] == pytest.approx(0.2)


def test_a_search_without_a_score_is_named() -> None:
    result = compared(found("tpe", 1, 3.0, 2.0), found("random_search", 1, None, None))
    assert "random_search has a search without any score." in sentences(result)
    text = "\n".join(line.text for line in lines_of(result, 200))
    assert "random_search" in text and "$0.50" in text


def test_a_price_that_is_not_known_is_not_zero() -> None:
    unpriced = dataclasses.replace(found("tpe", 1, 3.0, 2.0), cost_usd=None)
    result = compared(unpriced, found("random_search", 1, 3.0, 2.0))
    assert "unknown" in "\n".join(line.text for line in lines_of(result, 200))

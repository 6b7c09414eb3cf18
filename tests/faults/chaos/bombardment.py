"""Random kills, seeded: when, and whom."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from chaos.search import Search

STARTUP_S = 1.0
LONGEST_LIFE_S = 1.5
LONGEST_PAUSE_S = 0.5


def kill_agents(
    search: Search,
    rng: random.Random,
    kills: int,
    steps: Counter[str],
    *,
    longest_life_s: float = LONGEST_LIFE_S,
) -> int:
    """Start and kill the agent until it was killed so often or its search is over; how often that was.

    `steps` counts at which step of a run the blows fell.
    """
    struck = 0
    while struck < kills:
        # A third of the blows falls while the program starts, the others while it searches.
        starts = rng.random() < 1 / 3
        life_s = rng.uniform(0, STARTUP_S) if starts else rng.uniform(0, longest_life_s)
        process = search.start()
        while not starts and not _searches(search) and process.poll() is None:
            time.sleep(0.02)
        dies_at = time.monotonic() + life_s
        while process.poll() is None and time.monotonic() < dies_at:
            search.check()
            time.sleep(0.02)
        if not search.kill_agent():
            assert process.returncode == 0, search.text()
            return struck
        struck += 1
        steps[_step(search)] += 1
    return struck


def _searches(search: Search) -> bool:
    return "runs done" in search.text()


def _step(search: Search) -> str:
    if not _searches(search):
        return "start-up"
    current = next(iter(search.last.in_progress), None)
    return f"after {current.step}" if current else "between two runs"


def kill_parts(search: Search, rng: random.Random, wanted: Counter[str]) -> Counter[str]:
    """One agent lives; supervisors and trainings are killed until enough were or the search is over."""
    struck: Counter[str] = Counter()
    process = search.start()
    while process.poll() is None and struck < wanted:
        until = time.monotonic() + rng.uniform(0, LONGEST_PAUSE_S)
        part = rng.choice([part for part in wanted if struck[part] < wanted[part]])
        while time.monotonic() < until:
            search.check()
            time.sleep(0.01)
        # There is not always a training; wait for the next one, which so is also hit at its very start.
        while process.poll() is None and search.kill_part(part) is None:
            time.sleep(0.001 * rng.random())
        struck[part] += process.poll() is None
    return struck


def finish(search: Search, *, timeout_s: float = 200.0) -> None:
    """Let the search reach its end in peace, and look at all that it leaves."""
    if search.process is None or search.process.poll() is not None:
        search.start()
    assert search.wait(timeout_s) == 0, search.text()
    assert "The search has ended: all" in search.text()
    assert search.last.in_progress == ()
    assert search.alive() == []
    search.check_statuses()
    if search.stand_in:
        search.check_trainings()


def until_struck(
    wanted: int, make_search: Callable[[], Search], strike: Callable[[Search, int], int]
) -> list[Search]:
    """Search after search, each brought to its end, until so many blows have fallen."""
    searches, struck = [], 0
    while struck < wanted:
        search = make_search()
        struck += strike(search, wanted - struck)
        finish(search)
        searches.append(search)
    return searches

"""The agent is killed at every system call that matters, one after the other: not at random, at each.

`fsync` stands before and after every durable write, a new process between the plan and the start of a
training, a pause between its start and the record of it.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable

import pytest
from chaos.bombardment import finish
from chaos.search import Search

NewSearch = Callable[..., Search]
Record = Callable[[str, object], None]
FLAGS = ("--max-runs", "2", "--repeat-baseline", "0")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def crashes_at(search: Search, calls: str, number: int) -> bool:
    """Kill the agent at its `number`-th such call; False if it ended before."""
    inject = f"inject={calls}:signal=KILL:when={number}"
    process = search.start("strace", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject)
    code = process.wait(120)
    search.check()
    assert code in (0, -signal.SIGKILL), search.text()
    return code != 0


def crash_at_each(new_search: NewSearch, calls: str, points: range) -> list[int]:
    """A fresh search for each point; those at which there was something to kill."""
    struck = []
    for number in points:
        search = new_search(*FLAGS)
        crashed = crashes_at(search, calls, number)
        finish(search)
        shutil.rmtree(search.workspace)
        if not crashed:
            break
        struck.append(number)
    return struck


@needs_strace
@pytest.mark.fault(2)
@pytest.mark.parametrize(
    ("calls", "number"), [pytest.param("fsync", 4, marks=pytest.mark.faults_long), ("clock_nanosleep", 1)]
)
def test_a_crash_at_a_step_of_a_run_is_made_good(new_search: NewSearch, calls: str, number: int) -> None:
    assert crash_at_each(new_search, calls, range(number, number + 1)) == [number]


@needs_strace
@pytest.mark.faults_long
@pytest.mark.timeout(900)
@pytest.mark.fault(1, 2)
def test_a_crash_before_and_after_durable_writes(new_search: NewSearch, record_property: Record) -> None:
    # fsync of the file and of its folder take turns, so an odd step meets both sides of the writes.
    points = crash_at_each(new_search, "fsync", range(1, 200, 3))
    assert len(points) > 10
    assert points[-1] < 190, "the search has ended before the last point"
    record_property(
        "measured",
        f"killed at {len(points)} durable writes of a search of two runs, every third of {points[-1]} fsync",
    )


@needs_strace
@pytest.mark.faults_long
@pytest.mark.timeout(600)
@pytest.mark.fault(2)
def test_a_crash_at_every_pause_between_start_and_record_of_a_training(
    new_search: NewSearch, record_property: Record
) -> None:
    points = crash_at_each(new_search, "clock_nanosleep", range(1, 13))
    assert len(points) >= 10
    record_property(
        "measured", f"killed at each of the first {len(points)} pauses after a supervisor's start"
    )


@needs_strace
@pytest.mark.faults_long
@pytest.mark.timeout(300)
@pytest.mark.fault(2)
def test_a_crash_at_every_start_of_a_process(new_search: NewSearch, record_property: Record) -> None:
    calls = "vfork,fork,clone,clone3"
    points = crash_at_each(new_search, calls, range(1, 40))
    assert 2 <= len(points) < 39
    record_property("measured", f"killed at each of the {len(points)} starts of a process or thread")

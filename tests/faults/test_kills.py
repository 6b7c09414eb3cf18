"""`kill -9`, at random: of the agent, of supervisors, of trainings. Nothing is lost, nothing runs twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.bombardment import finish, kill_agents, kill_parts, until_struck
from chaos.search import Search, wait_for
from chaos.series import CHEAP, TASK, write_series

from nas_agent_graph.replay.search import RecordedSearch, differences, replay
from nas_system.processes.process_tree import children_of

NewSearch = Callable[..., Search]
Record = Callable[[str, object], None]


def bombard_agents(
    new_search: NewSearch, record: Record, *flags: str, kills: int, runs: int, seed: int
) -> list[Search]:
    rng, steps = random.Random(seed), Counter[str]()

    def make() -> Search:
        search = new_search("--max-runs", str(runs), "--seed", str(42), *flags)
        if flags:  # long enough for the next ones to begin meanwhile
            search.wish("epoch_s", "0.5")
        return search

    searches = until_struck(kills, make, lambda search, left: kill_agents(search, rng, left, steps))
    assert steps.total() == kills
    done = sum(len(search.last.runs) for search in searches)
    reads = sum(search.reads for search in searches)
    at_once = f", {max(search.most_at_once() for search in searches)} trainings at once" if flags else ""
    record(
        "measured",
        f"{kills} kills of the agent ({_format_run(steps)}{at_once}) over {len(searches)} searches: "
        f"{done} of {runs * len(searches)} runs there, "
        f"0 trained twice, {reads:,} looks at the state, all whole",
    )
    record("seed", seed)
    return searches


def replays_equal(search: Search, into: Path) -> bool:
    """Return whether the search, driven again from what it left, ends in the same state."""
    recorded = RecordedSearch.open(search.workspace)
    return differences(recorded.state, replay(recorded, into)) == []


def bombard_parts(
    new_search: NewSearch, record: Record, wanted: Counter[str], *flags: str, runs: int, seed: int
) -> None:
    rng, struck = random.Random(seed), Counter[str]()

    def strike(search: Search, _left: int) -> int:
        now = kill_parts(search, rng, wanted - struck)
        struck.update(now)
        return now.total()

    searches = until_struck(wanted.total(), lambda: new_search("--max-runs", str(runs), *flags), strike)
    assert struck == wanted
    ends = Counter(run.status for search in searches for run in search.last.runs)
    twice = sum(hits > 1 for search in searches for hits in search.hits.values())
    record(
        "measured",
        f"{_format_run(struck)} killed over {len(searches)} searches of {runs} runs"
        f"{', 4 at a time' if flags else ''}: {_format_run(ends)}; "
        f"{twice} were hit more than once",
    )
    record("seed", seed)


def _format_run(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


@pytest.mark.fault(1, 2, 3, 50)
def test_an_agent_killed_at_random_loses_nothing_and_trains_nothing_twice(
    new_search: NewSearch, record_property: Record
) -> None:
    bombard_agents(new_search, record_property, kills=3, runs=3, seed=6)


@pytest.mark.fault(53)
def test_an_agent_of_four_trainings_at_once_killed_at_random_begins_each_once(
    new_search: NewSearch, tmp_path: Path, record_property: Record
) -> None:
    searches = bombard_agents(new_search, record_property, "--parallel", "4", kills=3, runs=8, seed=7)
    assert 1 < max(search.most_at_once() for search in searches) <= 4
    assert replays_equal(searches[0], tmp_path / "again")


@pytest.mark.fault(58)
def test_early_stops_and_a_killed_agent_train_nothing_twice(new_search: NewSearch, tmp_path: Path) -> None:
    """In its first epochs every stand-in is far behind the best run. Which of those after the first five stay
    in the better half depends on who ends first, so there are several."""
    search = new_search("--max-runs", "18", "--parallel", "3", "--stop-early", "margin")
    search.wish("epoch_s", "0.3")
    process = search.start()
    evidence = search.workspace / "runs"
    wait_for(lambda: process.poll() is not None or any(evidence.glob("run_*/pruned.json")), "a reason")
    assert search.kill_agent()
    search.start()
    assert search.wait() == 0, search.text()
    stopped = {run.run_id for run in search.last.runs if run.status == "PRUNED"}
    # What has ended by itself before the next agent came has its score.
    assert stopped and stopped <= {path.parent.name for path in evidence.glob("run_*/pruned.json")}
    assert {run.status for run in search.last.runs} == {"OK", "PRUNED"}
    ledger = (search.evidence / "ledger").read_text()
    assert all(ledger.count(f"{run.run_id} start") == 1 for run in search.last.runs)
    assert replays_equal(search, tmp_path / "again")


@pytest.mark.fault(4)
def test_killed_supervisors_and_trainings_are_made_good_once(
    new_search: NewSearch, record_property: Record
) -> None:
    wanted = Counter(supervisor=3, training=3)
    bombard_parts(new_search, record_property, wanted, runs=8, seed=6)


@pytest.mark.fault(59)
def test_killed_parts_of_four_trainings_at_once_are_made_good_once(
    new_search: NewSearch, record_property: Record
) -> None:
    wanted = Counter(supervisor=3, training=3)
    bombard_parts(new_search, record_property, wanted, "--parallel", "4", runs=8, seed=7)


@pytest.mark.faults_long
@pytest.mark.timeout(1500)
@pytest.mark.fault(1, 2, 3, 50)
def test_two_hundred_kills_of_the_agent(new_search: NewSearch, record_property: Record) -> None:
    bombard_agents(new_search, record_property, kills=200, runs=20, seed=2026)


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.fault(53)
def test_two_hundred_kills_of_an_agent_of_four_trainings_at_once(
    new_search: NewSearch, tmp_path: Path, record_property: Record
) -> None:
    searches = bombard_agents(new_search, record_property, "--parallel", "4", kills=200, runs=40, seed=2026)
    assert 1 < max(search.most_at_once() for search in searches) <= 4
    assert all(replays_equal(search, tmp_path / str(n)) for n, search in enumerate(searches))


@pytest.mark.faults_long
@pytest.mark.timeout(900)
@pytest.mark.fault(4)
def test_sixty_kills_of_supervisors_and_sixty_of_trainings(
    new_search: NewSearch, record_property: Record
) -> None:
    wanted = Counter(supervisor=60, training=60)
    bombard_parts(new_search, record_property, wanted, runs=40, seed=2026)


@pytest.mark.faults_long
@pytest.mark.timeout(900)
@pytest.mark.fault(59)
def test_sixty_kills_of_supervisors_and_sixty_of_trainings_four_at_once(
    new_search: NewSearch, record_property: Record
) -> None:
    wanted = Counter(supervisor=60, training=60)
    bombard_parts(new_search, record_property, wanted, "--parallel", "4", runs=40, seed=2026)


BASE = """
model: {family: linear}
data: {features: S, seq_len: 24, batch_size: 4}
training: {lr: 0.0001, scheduler: none, max_epochs: 60, patience: 60}
"""


@pytest.fixture
def real_search(tmp_path: Path) -> Iterator[Search]:
    """A search that trains for real, each run for about two seconds."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    write_series(workspace)
    (workspace / "base.yaml").write_text(BASE)
    flags = (*TASK, *CHEAP, "--base-config", "base.yaml", "--repeat-baseline", "1", "--max-runs", "30")
    search = Search(workspace, *flags, "--minutes-per-run", "0.03", stand_in=False)
    yield search
    search.clean_up()


@pytest.mark.faults_long
@pytest.mark.timeout(900)
@pytest.mark.fault(1, 3, 4)
def test_kills_over_real_trainings(real_search: Search, record_property: Record) -> None:
    rng, steps, seed = random.Random(2026), Counter[str](), 2026
    parts = kill_parts(real_search, rng, Counter(supervisor=3, training=3))
    real_search.kill_agent()
    agents = kill_agents(real_search, rng, 8, steps, longest_life_s=6.0)
    finish(real_search, timeout_s=300)
    assert (agents, parts.total()) == (8, 6)
    ends = Counter(run.status for run in real_search.last.runs)
    record_property(
        "measured",
        "8 agents, 3 supervisors, 3 trainings killed over a search of 30 real trainings: "
        + _format_run(ends),
    )
    record_property("seed", seed)


@pytest.mark.faults_long
@pytest.mark.timeout(900)
@pytest.mark.fault(60)
def test_a_fork_server_killed_again_and_again_costs_no_training(
    real_search: Search, record_property: Record
) -> None:
    """Each server forks trainings before it is killed; after the second there are interpreters for each."""
    real_search.command += ["--max-runs", "12", "--parallel", "2"]
    process, kills = real_search.start(), 0
    while process.poll() is None:
        begun = len(real_search.of_runs("proc.json"))
        wait_for(
            lambda begun=begun: process.poll() is not None or len(real_search.of_runs("proc.json")) > begun,
            "another training",
            timeout_s=300,
        )
        kills += kill_fork_server(process.pid)
    finish(real_search)
    assert kills >= 2
    assert {(run.status, run.attempt) for run in real_search.last.runs} == {("OK", 1)}
    record_property(
        "measured",
        f"{kills} kills over a search of 12 real trainings, 2 at a time: 12 OK at their first attempt",
    )


def kill_fork_server(agent: int) -> bool:
    """`kill -9` of the agent's fork server; whether there was one."""
    for child in children_of(agent):
        with contextlib.suppress(OSError):
            if b"nas_system.processes.fork_server" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
                return True
    return False

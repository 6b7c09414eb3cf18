"""Ctrl-C, SIGTERM and SIGHUP at every stage of a search; the second Ctrl-C; and the same command after it."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from chaos.bombardment import finish
from chaos.search import Search, wait_for

from nas_agent_graph.llm.scripted_server import FAULTS, ScriptedServer
from nas_system.files import read_record

NewSearch = Callable[..., Search]
Record = Callable[[str, object], None]


def each_signal(quick: signal.Signals) -> pytest.MarkDecorator:
    """One signal in the quick set, the others in the long one."""
    params = [
        pytest.param(number, id=number.name, marks=[] if number is quick else [pytest.mark.faults_long])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ]
    return pytest.mark.parametrize("number", params)


def leaves(search: Search, code: int, within_s: float = 120.0) -> float:
    """The agent leaves with this code, its state is whole and no training lives; how long it took."""
    began = time.monotonic()
    assert search.wait(within_s) == code, search.text()
    took_s = time.monotonic() - began
    assert not [run_dir for run_dir, training in search.trainings() if training.is_alive()]
    # A supervisor has its last microseconds after exit.json.
    wait_for(lambda: search.alive() == [], "the supervisors to leave")
    assert "Traceback" not in search.text()
    for run in search.last.in_progress:
        search.hits[run.run_id] += 1
    if search.last.in_progress:
        for number in search.workspace.glob("runs/run_0000/repeats/*"):
            search.hits[search.name_of(number)] += 1
    return took_s


def trains(search: Search) -> Callable[[], bool]:
    """Whether some training has ended an epoch."""
    return lambda: any(search.workspace.glob("runs/run_*/history.json"))


@pytest.mark.fault(29)
@each_signal(signal.SIGINT)
def test_a_signal_during_a_training_stops_it_and_the_same_command_continues(
    new_search: NewSearch, number: signal.Signals
) -> None:
    search = new_search("--max-runs", "2")
    search.wish("epoch_s", "20")
    process = search.start()
    wait_for(lambda: list(search.trainings()), "a training")
    process.send_signal(number)
    leaves(search, 128 + number)
    assert f"stopped by {number.name}; everything is on disk" in search.text()
    assert (search.last.runs, search.last.in_progress != ()) == ((), True)
    search.wish("epoch_s", None)
    finish(search)
    assert search.last.runs[0].attempt == 2


@pytest.mark.fault(54)
@each_signal(signal.SIGTERM)
def test_a_signal_stops_four_trainings_side_by_side_and_the_same_command_continues_each(
    new_search: NewSearch, number: signal.Signals
) -> None:
    search = new_search("--parallel", "4", "--max-runs", "1")
    finish(search)
    search.command[-1] = "6"
    search.wish("epoch_s", "20")
    (search.workspace / "runs" / "run_0000" / "pictures.json").write_text("{}")
    process = search.start()
    ledger = search.evidence / "ledger"
    four = [f"run_{number:04d}" for number in range(1, 5)]
    wait_for(lambda: all(f"{run_id} start" in ledger.read_text() for run_id in four), "four trainings")
    process.send_signal(number)
    leaves(search, 128 + number)
    assert "note: the pictures of 1 finished run are drawn when the search goes on" in search.text()
    assert [run.run_id for run in search.last.in_progress] == four
    ends = [read_record(search.workspace / "runs" / run_id / "exit.json") or {} for run_id in four]
    assert [end.get("ended") for end in ends] == ["stop_request"] * 4
    search.wish("epoch_s", None)
    finish(search)
    assert {run.run_id: run.attempt for run in search.last.runs} == {
        "run_0000": 1,
        **dict.fromkeys(four, 2),
        "run_0005": 1,
    }
    assert all(ledger.read_text().count(f"{run_id} start") == 2 for run_id in four)


@pytest.mark.fault(29)
@each_signal(signal.SIGTERM)
def test_a_signal_while_the_language_model_hangs_is_served_at_once(
    new_search: NewSearch, number: signal.Signals
) -> None:
    with ScriptedServer(lambda body: FAULTS["hang"]) as server:
        env = {"NAS_LLM_MODEL": server.model, "NAS_LLM_BASE_URL": server.url, "NAS_LLM_API_KEY": "k"}
        env["NAS_LLM_TIMEOUT"] = "3600"
        search = new_search("--max-runs", "2", "--proposer", "llm", env=env)
        process = search.start()
        wait_for(lambda: server.requests or process.poll() is not None, "a question to the model")
        assert server.requests, search.text()
        process.send_signal(number)
        leaves(search, 128 + number)
    assert [run.run_id for run in search.last.runs] == ["run_0000"]
    with ScriptedServer(lambda body: FAULTS["garbage"], port=int(server.url.split(":")[2].split("/")[0])):
        finish(search)
    assert search.last.runs[1].status == "OK"


@pytest.mark.fault(29)
@each_signal(signal.SIGHUP)
def test_a_signal_while_the_best_run_is_scored_leaves_a_whole_search(
    new_search: NewSearch, number: signal.Signals
) -> None:
    search = new_search("--max-runs", "1")
    finish(search)
    facts = search.workspace / "runs" / "task_facts.json"
    changed = json.loads(facts.read_bytes())
    changed["sizes"]["hold_out"] = 1
    facts.write_text(json.dumps(changed))
    metrics = search.workspace / "runs" / "run_0000" / "metrics.json"
    kept = metrics.rename(metrics.with_name("kept.json"))
    # Whoever opens a pipe waits for the other end, which is never opened: the scorer stands still here.
    os.mkfifo(metrics)
    process = search.start()
    wait_for(lambda: any(search.running("nas_system.score")), "the scorer")
    process.send_signal(number)
    leaves(search, 128 + number)
    wait_for(lambda: not any(search.running("nas_system.score")), "the scorer to leave")
    assert "could not be scored" not in search.text(), "a signal is no reason to go on without a score"
    assert len(search.last.runs) == 1
    kept.replace(metrics)
    finish(search)


@pytest.mark.fault(29)
@each_signal(signal.SIGINT)
def test_a_signal_while_the_program_starts_leaves_nothing_behind(
    new_search: NewSearch, number: signal.Signals
) -> None:
    search = new_search("--max-runs", "1")
    for delay_s in (0.1, 0.4):
        process = search.start()
        time.sleep(delay_s)
        process.send_signal(number)
        # In its first instants the interpreter itself answers, before any line of this project.
        assert search.wait() in (128 + number, -number), search.text()
        wait_for(lambda: search.alive() == [], "the supervisors to leave")
        if process.returncode > 0:
            assert "Traceback" not in search.text()
        if search.last.in_progress != ():
            search.hits["run_0000"] += 1
    finish(search)


@pytest.mark.fault(29)
def test_a_second_ctrl_c_kills_a_training_that_ignores_the_first(
    new_search: NewSearch, record_property: Record
) -> None:
    search = new_search("--max-runs", "1")
    search.wish("epoch_s", "60")
    search.wish("deaf", "")
    process = search.start()
    ledger = search.evidence / "ledger"
    wait_for(lambda: ledger.exists() and "start" in ledger.read_text(), "the training")
    process.send_signal(signal.SIGINT)
    with pytest.raises(AssertionError, match="waited in vain"):
        wait_for(lambda: process.poll() is not None, "nothing: it is deaf", timeout_s=1)
    process.send_signal(signal.SIGINT)
    took_s = leaves(search, 130)
    record_property("measured", f"second Ctrl-C to exit of agent and training: {took_s:.2f} s")
    for name in ("epoch_s", "deaf"):
        search.wish(name, None)
    finish(search)


@pytest.mark.faults_long
@pytest.mark.timeout(600)
@pytest.mark.fault(29)
def test_two_ctrl_c_at_any_moments_tear_nothing(new_search: NewSearch, record_property: Record) -> None:
    trials, seed = 40, 2026
    rng, codes = random.Random(seed), Counter[int]()
    search = new_search("--max-runs", "500")
    for _ in range(trials):
        process = search.start()
        time.sleep(rng.uniform(0.2, 2.5))
        process.send_signal(signal.SIGINT)
        # Mostly while the first is being served.
        time.sleep(rng.expovariate(1 / 0.05))
        process.send_signal(signal.SIGINT)
        codes[search.wait()] += 1
        assert process.returncode in (130, -2), search.text()
        assert not [run_dir for run_dir, training in search.trainings() if training.is_alive()]
        if process.returncode == 130:
            assert "Traceback" not in search.text()
        if search.last.in_progress != ():
            search.hits[search.last.in_progress[0].run_id] += 1
        if not search.last.runs:
            search.hits["run_0000.repeats.seed_43"] += 1
    last = len(search.last.runs)
    search.command[search.command.index("500")] = str(last + 2)
    finish(search)
    record_property(
        "measured", f"{trials} times two Ctrl-C at random moments: {last} runs, none truncated or lost"
    )
    record_property("seed", seed)

"""What was ended from outside is tried once more, whoever decides it; the lock of the dead is nobody's."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.bombardment import finish
from chaos.search import Search, wait_for

from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.errors import RunError
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.job import Job

NewSearch = Callable[..., Search]


def kill_in_training(search: Search, part: str) -> None:
    wait_for(lambda: list(search.workspace.glob("runs/run_0000/history.json")), "a running training")
    wait_for(lambda: search.kill_part(part) == "run_0000", f"the {part}")


@pytest.mark.fault(1, 4)
def test_an_agent_that_dies_between_the_decision_to_retry_and_the_start_loses_no_retry(
    new_search: NewSearch,
) -> None:
    search = new_search("--max-runs", "1", "--repeat-baseline", "0")
    search.wish("epoch_s", "0.5")
    search.start()
    wait_for(lambda: list(search.workspace.glob("runs/run_0000/history.json")), "a running training")
    search.kill_agent()
    kill_in_training(search, "supervisor")
    # The dead agent's last deed: it wrote down that attempt 1 is tried again, and no more.
    decision = {"attempt": 1, "status": "LOST", "cause": "the supervisor was killed"}
    (search.workspace / "runs" / "run_0000" / "retried.json").write_text(json.dumps(decision))
    search.wish("epoch_s", None)
    finish(search)
    assert (search.last.runs[0].status, search.last.runs[0].attempt) == ("OK", 2)


@pytest.mark.fault(4)
def test_a_run_that_is_killed_twice_ends_without_a_score_and_the_search_goes_on(
    new_search: NewSearch,
) -> None:
    search = new_search("--max-runs", "2", "--repeat-baseline", "0")
    search.wish("epoch_s", "0.3")
    search.start()
    kill_in_training(search, "training")
    wait_for(lambda: read_attempt(search) == 2, "the second attempt")
    kill_in_training(search, "training")
    search.wish("epoch_s", None)
    finish(search)
    assert [(run.status, run.attempt) for run in search.last.runs] == [("KILLED", 2), ("OK", 1)]
    assert "SIGKILL" in str(search.last.runs[0].cause)


def read_attempt(search: Search) -> int:
    return json.loads((search.workspace / "runs" / "run_0000" / "proc.json").read_bytes())["attempt"]


@pytest.mark.fault(4)
@pytest.mark.parametrize("deaths", [1, 3, 4])
def test_a_supervisor_killed_before_its_first_word_is_started_again(tmp_path: Path, deaths: int) -> None:
    """An interpreter that dies `deaths` times by kill -9 before it becomes the real one."""
    interpreter, run_dir = tmp_path / "python", tmp_path / "run_0000"
    interpreter.write_text(
        f'#!/bin/sh\necho x >> "{tmp_path}/starts"\n'
        f'[ $(wc -l < "{tmp_path}/starts") -gt {deaths} ] || kill -9 $$\nexec "{sys.executable}" "$@"\n'
    )
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    run_dir.mkdir()
    launcher = LocalLauncher(python=str(interpreter))
    code = f"open({str(run_dir / 'work/metrics.json')!r}, 'w').write('{{\"val_mse\": 0.5}}')"
    job = Job((sys.executable, "-S", "-c", code), time_limit_s=10)
    if deaths > 3:
        with pytest.raises(RunError, match="signal 9 ended its supervisor 4 times"):
            launcher.submit(run_dir, job, attempt=1)
        return
    launcher.submit(run_dir, job, attempt=1)
    wait_for(lambda: launcher.survey([run_dir])[run_dir] == "finished", "the end of the run")
    assert read_outcome(run_dir).status is Status.OK


@pytest.mark.fault(12, 13)
def test_a_second_agent_names_the_holder_and_a_dead_holder_holds_nothing(
    new_search: NewSearch,
) -> None:
    search = new_search("--max-runs", "1", "--repeat-baseline", "0")
    search.wish("epoch_s", "0.2")
    holder = search.start()
    wait_for(lambda: list(search.trainings()), "a training")
    ((_, training),) = search.trainings()
    # It stands still until the next agent has found it.
    training.send(signal.SIGSTOP)
    state = (search.workspace / "agent_state.json").read_bytes()
    second = search.start()
    assert second.wait(120) == 3
    assert re.search(
        rf"held by another agent \(pid {holder.pid} on .*\); wait for it, stop it", search.text()
    )
    assert (search.workspace / "agent_state.json").read_bytes() == state
    holder.kill()
    holder.wait()
    process = search.start()
    wait_for(lambda: "is adopted" in search.text(), "the next agent")
    training.send(signal.SIGCONT)
    assert process.wait(120) == 0
    finish(search)


@pytest.mark.fault(13)
def test_a_lock_file_without_a_holder_delays_nobody(tmp_path: Path) -> None:
    from nas_system.nas_agent.workspace_lock import WorkspaceLock

    (tmp_path / "runs").mkdir()
    holder = f"pid {os.getpid()} on here\n"
    (tmp_path / "runs" / ".agent.lock").write_text(holder)
    with WorkspaceLock(tmp_path):
        assert (tmp_path / "runs" / ".agent.lock").read_text() != holder

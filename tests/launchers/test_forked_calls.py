"""Calls that a fork server answers: as in new interpreters, and nothing of them is left."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import write_wave
from forked_trainings import LOOK, ended, job, launcher_of, submit_training, wait_for

from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.data import locate
from nas_system.errors import ConfigError, RunError
from nas_system.files import write_json
from nas_system.processes.process_tree import COOKIE_NAME, ProcessId, identify
from nas_system.space import ForecastingTask
from nas_system.space.task_info import TaskInfo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    made = launcher_of("forked_code", http_proxy="http://user:secret@proxy:1")
    yield made
    made.close()


def call(launcher: LocalLauncher, code: str, timeout_s: float = 60.0) -> str:
    return launcher.call("forked_code", [code], timeout_s=timeout_s)


def server_of(launcher: LocalLauncher) -> ProcessId:
    assert launcher.fork_server is not None and launcher.fork_server.pid is not None
    return identify(launcher.fork_server.pid)


def without_server(launcher: LocalLauncher, call: Callable[[], str]) -> str:
    """Return what the same call answers in an interpreter of its own."""
    server, launcher.fork_server = launcher.fork_server, None
    try:
        return call()
    finally:
        launcher.fork_server = server


def test_a_forked_call_finds_what_one_in_its_own_interpreter_does(launcher: LocalLauncher) -> None:
    look = f"{LOOK}\nsys.stderr.write('not part of the answer')"
    forked, own = call(launcher, look), without_server(launcher, lambda: call(launcher, look))
    found, expected = json.loads(forked), json.loads(own)
    assert found["environment"]["http_proxy"] == "http://user:secret@proxy:1"
    assert COOKIE_NAME not in found["environment"]
    # What it prints goes to a file in memory, not to a pipe.
    kinds = {name: kind for name, kind in found["descriptors"].items() if name in "12"}
    assert set(kinds.values()) == {"/memfd"}
    assert found["descriptors"].keys() == expected["descriptors"].keys()
    del found["descriptors"], expected["descriptors"]
    assert found == expected


def test_the_server_forks_it_and_starts_no_interpreter(launcher: LocalLauncher) -> None:
    code = "import os; print(os.getppid(), os.getpgid(0) == os.getsid(0) == os.getpid())"
    assert call(launcher, code) == f"{server_of(launcher).pid} True\n"


def test_calls_and_trainings_have_nothing_to_do_with_each_other(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    launcher.submit(tmp_path, job("import time; time.sleep(1); print('trained')"), 1)
    answers = [call(launcher, f"print({number} * 2)") for number in range(5)]
    assert answers == ["0\n", "2\n", "4\n", "6\n", "8\n"]
    assert ended(launcher, tmp_path)["returncode"] == 0
    assert (tmp_path / "train.log").read_text() == "trained\n"


def test_a_complaint_is_a_persons_to_mend_and_long_answers_are_whole(launcher: LocalLauncher) -> None:
    with pytest.raises(ConfigError, match=r"^no such data$"):
        call(launcher, "import sys; print('error: no such data', file=sys.stderr); sys.exit(2)")
    assert call(launcher, "print('x' * 3_000_000)") == "x" * 3_000_000 + "\n"


@pytest.mark.parametrize("fault", ["raise SystemExit(3)", "1 / 0", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_what_a_fork_fails_at_is_done_in_an_interpreter_of_its_own(
    launcher: LocalLauncher, tmp_path: Path, fault: str
) -> None:
    marks = f"import os, sys; open({str(tmp_path / 'seen')!r}, 'a').write(sys.executable and '+')\n"
    forked = f"os.getppid() == {server_of(launcher).pid}"
    assert call(launcher, f"{marks}if {forked}: {fault}\nprint('done')") == "done\n"
    assert (tmp_path / "seen").read_text() == "++"
    with pytest.raises(RunError, match="forked_code ended with exit code"):
        call(launcher, f"{marks}{fault}")


STAYS = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen(['sleep', '600'])\n"
    "open({path!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}} {{os.getppid()}}')\n"
    "os.rename({path!r} + '.new', {path!r})\n"
    "time.sleep(600)\n"
)


def processes_in(path: Path) -> tuple[ProcessId, ProcessId, int]:
    own, child, parent = map(int, path.read_text().split())
    return identify(own), identify(child), parent


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    seen: list[tuple[ProcessId, ProcessId, int]] = []
    path = tmp_path / "pids"

    def look() -> None:
        wait_for(path.exists, "the call to start its child")
        seen.append(processes_in(path))

    looking = threading.Thread(target=look)
    looking.start()
    with pytest.raises(RunError, match=r"forked_code did not end within 5 s and was ended"):
        call(launcher, STAYS.format(path=str(path)), 5.0)
    looking.join()
    ((own, child, parent),) = seen
    assert parent == server_of(launcher).pid
    wait_for(lambda: not own.is_alive() and not child.is_alive(), "the call's processes to end")
    # It is still of use.
    assert call(launcher, "import os; print(os.getppid())") == f"{parent}\n"


class Interrupted(BaseException):
    pass


def interrupt(*_: object) -> None:
    raise Interrupted


def test_nothing_of_a_call_is_left_when_a_signal_interrupts_the_agent(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    path, before = tmp_path / "pids", signal.signal(signal.SIGUSR1, interrupt)

    def send() -> None:
        wait_for(path.exists, "the call to start its child")
        os.kill(os.getpid(), signal.SIGUSR1)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        with pytest.raises(Interrupted):
            call(launcher, STAYS.format(path=str(path)))
    finally:
        sending.join()
        signal.signal(signal.SIGUSR1, before)
    own, child, parent = processes_in(path)
    assert parent == server_of(launcher).pid
    wait_for(lambda: not own.is_alive() and not child.is_alive(), "the call's processes to end")


def test_a_call_dies_with_its_server_and_is_answered_all_the_same(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    path, server = tmp_path / "pids", server_of(launcher)
    code = (
        f"import os\nif os.getppid() != {server.pid}:\n    print('answered')\n    raise SystemExit(0)\n"
        + STAYS.format(path=str(path))
    )
    seen = []

    def kill() -> None:
        wait_for(path.exists, "the call to start its child")
        seen.append(processes_in(path))
        server.send(signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    assert call(launcher, code) == "answered\n"
    killing.join()
    ((own, child, _),) = seen
    assert not own.is_alive()
    child.send(signal.SIGKILL)


def test_a_stopped_server_is_given_up(launcher: LocalLauncher) -> None:
    server = server_of(launcher)
    server.send(signal.SIGSTOP)
    with pytest.raises(RunError, match="did not end within"):
        call(launcher, "print('never')", 0.5)
    wait_for(lambda: not server.is_alive(), "the server to be killed")
    assert call(launcher, "print('answered')") == "answered\n"


def test_forked_scores_are_those_of_an_interpreter_of_its_own(tmp_path: Path) -> None:
    data = write_wave(tmp_path / "wave.csv", 400)
    task = ForecastingTask(dataset=str(data), targets=("load",), pred_len=8)
    facts = tmp_path / "task_facts.json"
    write_json(facts, TaskInfo(task, locate(task, download=False)).to_json())
    launcher = launcher_of("nas_system.train")
    try:
        run_dirs = [tmp_path / "runs" / f"run_{family}" for family in ("gru", "linear")]
        for run_dir, family in zip(run_dirs, ("gru", "linear"), strict=True):
            run_dir.mkdir(parents=True)
            submit_training(launcher, run_dir, family, 1, task, facts, data)
        for run_dir in run_dirs:
            assert ended(launcher, run_dir)["returncode"] == 0, (run_dir / "train.log").read_text()
        common = ["--facts", str(facts), "--device", "cpu"]
        both = [flag for run_dir in run_dirs for flag in ("--run", str(run_dir))]
        for flags in (
            [*both, "--part", "val", "--memory-limit", "1024"],
            [*both, "--part", "val", "--threads", "2"],
            ["--run", str(run_dirs[0])],
        ):

            def score(flags: list[str] = flags) -> str:
                return launcher.call("nas_system.score", [*flags, *common], timeout_s=300)

            server = server_of(launcher)
            forked = score()
            assert forked == without_server(launcher, score)
            assert server_of(launcher) == server
        metrics = json.loads((run_dirs[0] / "metrics.json").read_text())
        again = json.loads(
            launcher.call("nas_system.score", [*both, "--part", "val", *common], timeout_s=300)
        )
        assert again["runs"][0]["val_mse"] == metrics["val_mse"]
    finally:
        launcher.close()


def test_where_no_file_can_be_opened_the_call_is_refused_and_nothing_is_left(launcher: LocalLauncher) -> None:
    server = server_of(launcher)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    try:
        with pytest.raises(RunError, match="cannot start"):
            call(launcher, "print('never')")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert call(launcher, "import os; print(os.getppid())") == f"{server.pid}\n"

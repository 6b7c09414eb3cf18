"""Trainings that are forked: they are what they would be in an interpreter of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import write_wave
from forked_trainings import (
    HERE,
    LOOK,
    READY_S,
    ROOT,
    ended,
    job,
    launcher_of,
    parent_of,
    process_of,
    run,
    submit_training,
    wait_for,
)

from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.data import locate
from nas_system.files import read_object, write_json
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.job import Job
from nas_system.processes.process_tree import COOKIE_NAME, carriers_of, identify
from nas_system.space import ForecastingTask
from nas_system.space.task_info import TaskInfo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")


@pytest.fixture
def launcher(request: pytest.FixtureRequest) -> Iterator[LocalLauncher]:
    made = launcher_of("forked_code", getattr(request, "param", "required"))
    yield made
    made.close()


MODES = ("required", "off")
in_both_modes = pytest.mark.parametrize("launcher", MODES, indirect=True)


def test_the_server_forks_the_supervisor_and_starts_no_interpreter(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    launcher.submit(tmp_path, job("import time; time.sleep(60)"), 1)
    assert launcher.fork_server is not None
    assert parent_of(process_of(tmp_path, "supervisor").pid) == launcher.fork_server.pid
    # What was exec'd has a command line of its own.
    shown = Path(f"/proc/{process_of(tmp_path, 'training').pid}/cmdline").read_bytes().split(b"\0")
    assert b"nas_system.processes.fork_server" in shown
    launcher.cancel(tmp_path)
    assert ended(launcher, tmp_path)["signal"] == signal.SIGTERM


@in_both_modes
def test_a_forked_training_finds_what_one_in_its_own_interpreter_does(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()
    forked_dir, own_dir = tmp_path / "log/run_0000", tmp_path / "log/run_0001"
    forked = json.loads(run(launcher, forked_dir, LOOK))
    assert launcher.fork_server is not None
    launcher.fork_server.close()
    own_dir.mkdir()
    launcher.submit(own_dir, Job((sys.executable, "-c", LOOK), time_limit_s=60), 1)
    confinement = ended(launcher, own_dir)["confinement"]
    own = json.loads((own_dir / "train.log").read_text().replace("run_0001", "run_0000"))
    cookies = forked["environment"].pop(COOKIE_NAME), own["environment"].pop(COOKIE_NAME)
    assert forked == own
    assert cookies[0] != cookies[1]
    assert ended(launcher, forked_dir)["confinement"] == confinement


@pytest.mark.parametrize(
    ("code", "returncode", "number"),
    [
        ("pass", 0, None),
        ("import sys; sys.exit(7)", 7, None),
        ("import sys; sys.exit('because')", 1, None),
        ("1 / 0", 1, None),
        ("import atexit; atexit.register(print, 'at the end')", 0, None),
        ("raise KeyboardInterrupt", None, signal.SIGINT),
        ("import os; os.abort()", None, signal.SIGABRT),
        (
            "import threading\nthreading.Timer(0.2, print, ['late']).start()",
            0,
            None,
        ),
    ],
)
def test_exit_codes_and_last_words_are_those_of_an_interpreter(
    launcher: LocalLauncher, tmp_path: Path, code: str, returncode: int | None, number: int | None
) -> None:
    log = run(launcher, tmp_path, code)
    record = ended(launcher, tmp_path)
    assert (record["returncode"], record["signal"]) == (returncode, number)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == (returncode if number is None else -number)
    for line in (done.stdout + done.stderr).splitlines():
        if not line.startswith(("  File", "Current thread")):
            assert line in log


@pytest.mark.parametrize(
    ("code", "limits", "status"),
    [
        (
            "import time, signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
            {"time_limit_s": 0.3, "grace_s": 0.2},
            Status.TIMEOUT,
        ),
        ("import time; time.sleep(60)", {"silence_limit_s": 0.3}, Status.HUNG),
        (
            "x = bytearray(300_000_000); import time; time.sleep(60)",
            {"memory_limit_mb": 200},
            Status.OOM_HOST,
        ),
    ],
)
def test_limits_hold_for_a_forked_training(
    launcher: LocalLauncher, tmp_path: Path, code: str, limits: dict[str, float], status: Status
) -> None:
    log = run(launcher, tmp_path, code, **limits)
    assert read_outcome(tmp_path).status is status
    # Where it hangs is worth knowing.
    assert ("Current thread" in log) == (status is Status.HUNG)


LEAVES_A_DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        for descriptor in range(3): os.close(descriptor)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep({seconds})
"""


@in_both_modes
def test_what_a_forked_training_leaves_running_is_found_by_its_cookie(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    """Its interpreter was not started with that cookie: the training has to write it where others look."""
    launcher.submit(tmp_path, job(LEAVES_A_DAEMON.format(seconds=600)), 1)
    log = tmp_path / "train.log"
    wait_for(lambda: log.exists() and log.read_text().strip(), "the daemon")
    supervisor, training = process_of(tmp_path, "supervisor"), process_of(tmp_path, "training")
    carriers = carriers_of(supervisor.cookie)
    assert training in carriers
    assert len(carriers) == 2, carriers
    assert launcher.fork_server is not None and launcher.fork_server.pid not in {c.pid for c in carriers}
    assert supervisor not in carriers
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_for(lambda: not training.is_alive(), "the training to die with its supervisor")
    launcher.cancel(tmp_path, force=True)
    launcher.submit(tmp_path, job("print('again')"), 2)
    assert ended(launcher, tmp_path)["returncode"] == 0
    assert not any(carrier.is_alive() for carrier in carriers)


def test_a_daemon_is_killed_with_its_training(launcher: LocalLauncher, tmp_path: Path) -> None:
    log = run(launcher, tmp_path, LEAVES_A_DAEMON.format(seconds=0))
    assert log.strip().isdigit()
    assert ended(launcher, tmp_path)["leftover_processes"] == 1


def test_a_forked_training_sees_no_secret_and_nothing_of_the_one_before(tmp_path: Path) -> None:
    launcher = launcher_of("forked_code", OPENAI_API_KEY="canary-1", MY_TOKEN="canary-2")
    code = (
        "import builtins, os, gc\n"
        "print(getattr(builtins, 'left', None), os.environ.get('LEFT'))\n"
        "builtins.left = os.environ['LEFT'] = 'canary-3'\n"
        "seen = open('/proc/self/environ').read() + repr(dict(os.environ))\n"
        "print('canary-1' in seen, 'canary-2' in seen)\n"
    )
    try:
        for number in range(2):
            assert run(launcher, tmp_path / f"run_{number:04d}", code) == "None None\nFalse False\n"
    finally:
        launcher.close()


def test_random_numbers_are_new_in_every_training(launcher: LocalLauncher, tmp_path: Path) -> None:
    code = "import random, numpy.random; print(random.random(), numpy.random.random())"
    seen = [run(launcher, tmp_path / f"run_{number:04d}", code) for number in range(3)]
    assert len(set(" ".join(seen).split())) == 6


@pytest.mark.fault(60)
def test_trainings_outlive_the_server_and_the_next_ones_are_started_all_the_same(tmp_path: Path) -> None:
    launcher = launcher_of("forked_code", "off")
    server = launcher.fork_server
    assert server is not None
    run_dirs = [tmp_path / f"run_{number:04d}" for number in range(4)]
    parents = []
    try:
        for number, run_dir in enumerate(run_dirs):
            run_dir.mkdir()
            launcher.submit(run_dir, job(f"import time; time.sleep(1.5); print({number})"), 1)
            parents.append(parent_of(process_of(run_dir, "supervisor").pid))
            if server.pid is not None:
                os.kill(server.pid, signal.SIGKILL)
                # It is started again once.
                wait_for(lambda: not server.is_ready, "the launcher to notice") if number else None
        assert len(set(parents)) == 2
        for number, run_dir in enumerate(run_dirs):
            assert ended(launcher, run_dir)["returncode"] == 0
            assert (run_dir / "train.log").read_text() == f"{number}\n"
        assert read_outcome(run_dirs[0]).attempt == 1
    finally:
        launcher.close()


AGENT = (
    "import pathlib, sys, time\n"
    "from nas_agent_graph.launchers.local import LocalLauncher\n"
    "from nas_system.processes.job import Job\n"
    "launcher = LocalLauncher(forked_program='forked_code', forked_calls=())\n"
    "launcher.warm_up(pathlib.Path())\n"
    "assert launcher.fork_server.wait_until_ready(100), launcher.fork_server.problem\n"
    "launcher.submit(pathlib.Path(sys.argv[1]), Job(tuple(sys.argv[2:]), 60), 1)\n"
    "print(launcher.fork_server.pid, flush=True); time.sleep(60)"
)


def test_the_server_ends_with_its_agent_and_the_next_agent_adopts_the_training(tmp_path: Path) -> None:
    code = "import time\nfor i in range(6): print(i); time.sleep(0.3)"
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(tmp_path), *job(code).command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{HERE}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with agent:
        assert agent.stdout is not None
        server = identify(int(agent.stdout.readline()))
        agent.kill()
    launcher = LocalLauncher()
    assert launcher.survey([tmp_path])[tmp_path] == "running"
    wait_for(lambda: not server.is_alive(), "the server to end with its agent")
    record = ended(launcher, tmp_path)
    assert (record["returncode"], record["attempt"]) == (0, 1)
    assert (tmp_path / "train.log").read_text() == "0\n1\n2\n3\n4\n5\n"


def test_a_server_whose_imports_start_threads_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading\n"
        "def preload(): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "def main(arguments): print('trained'); return 0\n"
        "if __name__ == '__main__': raise SystemExit(main([]))\n"
    )
    seen = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    launcher = LocalLauncher(environment=seen, sandbox="off", forked_program="threaded", forked_calls=())
    launcher.warm_up(tmp_path)
    server = launcher.fork_server
    assert server is not None
    assert not server.wait_until_ready(READY_S)
    assert server.problem == "the imports have started 1 threads"
    run_dir = tmp_path / "run_0000"
    run_dir.mkdir()
    launcher.submit(run_dir, Job((sys.executable, "-m", "threaded"), time_limit_s=60), 1)
    assert ended(launcher, run_dir)["returncode"] == 0
    assert (run_dir / "train.log").read_text() == "trained\n"


def test_no_server_is_started_where_a_person_wants_none(tmp_path: Path) -> None:
    launcher = LocalLauncher(environment={"PATH": os.environ["PATH"], "NAS_FORK_SERVER": "off"})
    launcher.warm_up(tmp_path)
    assert launcher.fork_server is None


def test_a_training_waits_for_a_server_that_is_at_its_imports(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "def preload(): time.sleep(1)\n"
        "def main(arguments): print('trained'); return 0\n"
        "if __name__ == '__main__': raise SystemExit('this is an interpreter of its own')\n"
    )
    seen = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    launcher = LocalLauncher(environment=seen, sandbox="off", forked_program="slow", forked_calls=())
    launcher.warm_up(tmp_path)
    try:
        run_dir = tmp_path / "run_0000"
        run_dir.mkdir()
        launcher.submit(run_dir, Job((sys.executable, "-m", "slow"), time_limit_s=60), 1)
        assert ended(launcher, run_dir)["returncode"] == 0
        assert (run_dir / "train.log").read_text() == "trained\n"
    finally:
        launcher.close()


def test_scores_are_those_of_an_interpreter_of_its_own_also_side_by_side(tmp_path: Path) -> None:
    data = write_wave(tmp_path / "wave.csv", 400)
    task = ForecastingTask(dataset=str(data), targets=("load",), pred_len=8)
    info = TaskInfo(task, locate(task, download=False))
    facts = tmp_path / "task_facts.json"
    write_json(facts, info.to_json())
    launcher = launcher_of("nas_system.train")
    own = LocalLauncher(forked_program=None)
    try:
        found = {}
        for family, threads in (("gru", 1), ("linear", 2)):
            run_dirs = [tmp_path / "runs" / f"run_{family}_{number}" for number in range(3)]
            for run_dir, by in zip(run_dirs, (own, launcher, launcher), strict=True):
                run_dir.mkdir(parents=True)
                submit_training(by, run_dir, family, threads, task, facts, data)
            for run_dir in run_dirs:
                assert ended(launcher, run_dir)["returncode"] == 0, (run_dir / "train.log").read_text()
            found[family] = [_results(run_dir) for run_dir in run_dirs]
            assert found[family][0] == found[family][1] == found[family][2]
        assert found["linear"] != found["gru"]
    finally:
        launcher.close()


def _results(run_dir: Path) -> tuple[object, ...]:
    """Everything of a training that does not depend on the time of day."""
    metrics = read_object(run_dir / "metrics.json")
    history = read_object(run_dir / "history.json")
    scores = {name: metrics[name] for name in ("val_mse", "test_mse", "best_epoch", "steps", "n_params")}
    curve = [{key: value for key, value in epoch.items() if "sec" not in key} for epoch in history["epochs"]]
    return scores, curve

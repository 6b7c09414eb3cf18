"""The local launcher with real processes: what is killed, found again, and never started twice."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_agent_graph.launchers.environment import training_environment
from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.errors import ConfigError, RunError
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.job import Job
from nas_system.processes.process_tree import ProcessId, identify

ROOT = Path(__file__).resolve().parents[2]
GOOD = "(here / 'metrics.json').write_text('{\"val_mse\": 0.5}')"


def job(run_dir: Path, code: str, **limits: float) -> Job:
    """A training that executes `code`, which finds the folder it may write to as `here`."""
    ready = "import os, pathlib, signal, sys, time\nhere = pathlib.Path(sys.argv[1])\n"
    # What is kept of a training that can go on tells how often it was begun.
    ready += "open(here / 'last.pth', 'a').write('x')\n"
    command = (sys.executable, "-S", "-u", "-c", ready + code, str(run_dir / "work"))
    return Job(command=command, **{"time_limit_s": 10, **limits})  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def wait_for_end(launcher: LocalLauncher, run_dir: Path) -> str:
    wait_for(lambda: launcher.survey([run_dir])[run_dir] != "running", "the end of the run")
    return launcher.survey([run_dir])[run_dir]


def supervisor_pid(run_dir: Path) -> int:
    return json.loads((run_dir / "proc.json").read_bytes())["supervisor"]["pid"]


def training(run_dir: Path) -> ProcessId:
    wait_for(lambda: json.loads((run_dir / "proc.json").read_bytes())["training"], "the training's pid")
    return identify(json.loads((run_dir / "proc.json").read_bytes())["training"]["pid"])


def children() -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            found.add(int(stat.parent.name))
    return found


def test_a_run_goes_from_absent_over_running_to_finished(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    assert launcher.survey([tmp_path])[tmp_path] == "absent"
    launcher.submit(tmp_path, job(tmp_path, "time.sleep(0.3)\n" + GOOD), attempt=1)
    assert launcher.survey([tmp_path])[tmp_path] == "running"
    assert not (tmp_path / "exit.json").exists()
    assert wait_for_end(launcher, tmp_path) == "finished"
    outcome = read_outcome(tmp_path)
    assert (outcome.status, outcome.val_score, outcome.attempt) == (Status.OK, 0.5, 1)


@pytest.mark.parametrize(
    ("code", "limits", "status"),
    [
        ("sys.exit(1)", {}, Status.FAILED),
        ("os.abort()", {}, Status.KILLED),
        ("pass", {}, Status.BAD_RESULT),
        (
            "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(30)",
            {"time_limit_s": 0.3, "grace_s": 0.2},
            Status.TIMEOUT,
        ),
        ("time.sleep(30)", {"silence_limit_s": 0.3}, Status.HUNG),
        ("x = bytearray(90_000_000); time.sleep(30)", {"memory_limit_mb": 80}, Status.OOM_HOST),
    ],
)
@pytest.mark.fault(16, 17, 18, 20, 21, 26)
def test_bad_ends_are_harvested_as_what_they_were(
    tmp_path: Path, code: str, limits: dict[str, float], status: Status
) -> None:
    launcher = LocalLauncher()
    launcher.submit(tmp_path, job(tmp_path, code, **limits), attempt=1)
    assert wait_for_end(launcher, tmp_path) == "finished"
    assert read_outcome(tmp_path).status is status


AGENT = (
    "import pathlib, sys, time\n"
    "from nas_agent_graph.launchers.local import LocalLauncher\n"
    "from nas_system.processes.job import Job\n"
    "LocalLauncher().submit(pathlib.Path(sys.argv[1]), Job(tuple(sys.argv[2:]), 10), 1)\n"
    "print('submitted', flush=True); time.sleep(60)"
)


def start_agent(run_dir: Path, code: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Another program that submits `code`, says so, and waits to be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, str(run_dir), *job(run_dir, code).command],
        env={"PATH": os.environ["PATH"], **(environment or {}), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.fault(2, 50)
def test_an_agent_killed_while_it_submits_neither_loses_nor_doubles_the_training(tmp_path: Path) -> None:
    launcher, run_dirs = LocalLauncher(), [tmp_path / f"run_{number:04d}" for number in range(10)]
    for number, run_dir in enumerate(run_dirs):
        run_dir.mkdir()
        agent = start_agent(run_dir, "time.sleep(0.2)\n" + GOOD)
        # From before its imports until after the start of the training.
        time.sleep(0.05 + 0.02 * number)
        agent.kill()
        agent.communicate()
        if launcher.survey([run_dir])[run_dir] == "absent":
            launcher.submit(run_dir, job(run_dir, "time.sleep(0.2)\n" + GOOD), attempt=1)
    for run_dir in run_dirs:
        assert wait_for_end(launcher, run_dir) == "finished"
        assert read_outcome(run_dir).status is Status.OK
        assert (run_dir / "work/last.pth").read_text() == "x"


@pytest.mark.fault(3, 50)
def test_a_training_outlives_its_agent_and_the_next_agent_adopts_it(tmp_path: Path) -> None:
    agent = start_agent(tmp_path, "for i in range(6): print(i); time.sleep(0.15)\n" + GOOD)
    with agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "submitted\n"
        agent.kill()
    launcher = LocalLauncher()
    assert launcher.survey([tmp_path])[tmp_path] == "running"
    assert wait_for_end(launcher, tmp_path) == "finished"
    outcome = read_outcome(tmp_path)
    assert (outcome.status, outcome.attempt) == (Status.OK, 1)
    assert (tmp_path / "work/last.pth").read_text() == "x"
    assert (tmp_path / "train.log").read_text() == "0\n1\n2\n3\n4\n5\n"


@pytest.mark.fault(4)
def test_a_run_whose_supervisor_was_killed_is_lost_and_can_be_tried_again(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    launcher.submit(tmp_path, job(tmp_path, "time.sleep(60)"), attempt=1)
    process = training(tmp_path)
    os.kill(supervisor_pid(tmp_path), signal.SIGKILL)
    wait_for(lambda: not process.is_alive(), "the training to die with its supervisor")
    assert wait_for_end(launcher, tmp_path) == "lost"
    assert read_outcome(tmp_path).status is Status.LOST
    launcher.submit(tmp_path, job(tmp_path, GOOD), attempt=2)
    assert wait_for_end(launcher, tmp_path) == "finished"
    assert (read_outcome(tmp_path).status, read_outcome(tmp_path).attempt) == (Status.OK, 2)


@pytest.mark.fault(4)
def test_a_supervisor_that_somebody_has_stopped_ends_with_the_search(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    launcher.submit(tmp_path, job(tmp_path, "time.sleep(60)"), attempt=1)
    process = training(tmp_path)
    os.kill(supervisor_pid(tmp_path), signal.SIGSTOP)
    launcher.cancel(tmp_path)
    assert wait_for_end(launcher, tmp_path) == "finished"
    assert read_outcome(tmp_path).status is Status.STOPPED
    assert not process.is_alive()


@pytest.mark.fault(2)
def test_two_agents_at_once_start_one_training(tmp_path: Path) -> None:
    submits = [
        threading.Thread(target=LocalLauncher().submit, args=(tmp_path, job(tmp_path, "time.sleep(0.4)"), 1))
        for _ in range(3)
    ]
    for submit in submits:
        submit.start()
    for submit in submits:
        submit.join(timeout=240)
    launcher = LocalLauncher()
    assert launcher.survey([tmp_path])[tmp_path] == "running"
    assert wait_for_end(launcher, tmp_path) == "finished"
    assert (tmp_path / "work/last.pth").read_text() == "x"


def test_submitting_what_ran_already_does_nothing_and_the_next_attempt_runs(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    for attempt, starts in ((1, "x"), (1, "x"), (2, "xx")):
        launcher.submit(tmp_path, job(tmp_path, GOOD), attempt=attempt)
        assert wait_for_end(launcher, tmp_path) == "finished"
        assert (tmp_path / "work/last.pth").read_text() == starts
    assert read_outcome(tmp_path).attempt == 2


@pytest.mark.fault(2)
def test_a_start_that_was_lost_can_be_made_again_under_its_number(tmp_path: Path) -> None:
    dead = identify(os.getpid())._replace(start_ticks=1)
    (tmp_path / "proc.json").write_text(json.dumps({"schema": 1, "attempt": 1, "supervisor": dead._asdict()}))
    launcher = LocalLauncher()
    assert launcher.survey([tmp_path])[tmp_path] == "lost"
    launcher.submit(tmp_path, job(tmp_path, "time.sleep(0.2)\n" + GOOD), attempt=1)
    assert launcher.survey([tmp_path])[tmp_path] == "running"
    assert wait_for_end(launcher, tmp_path) == "finished"


@pytest.mark.fault(29)
def test_cancel_is_graceful_however_often_it_is_asked(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    launcher.cancel(tmp_path)
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.4), sys.exit(5)))\n"
        "(here / 'ready').touch(); time.sleep(60)"
    )
    launcher.submit(tmp_path, job(tmp_path, code), attempt=1)
    wait_for((tmp_path / "work/ready").exists, "the training")
    for _ in range(4):
        launcher.cancel(tmp_path)
        time.sleep(0.05)
    assert wait_for_end(launcher, tmp_path) == "finished"
    outcome = read_outcome(tmp_path)
    assert (outcome.status, outcome.returncode) == (Status.STOPPED, 5)
    launcher.cancel(tmp_path)
    launcher.cancel(tmp_path, force=True)


@pytest.mark.fault(29)
def test_a_forced_cancel_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); (here / 'ready').touch(); time.sleep(60)"
    launcher.submit(tmp_path, job(tmp_path, code), attempt=1)
    wait_for((tmp_path / "work/ready").exists, "the training")
    launcher.cancel(tmp_path, force=True)
    assert wait_for_end(launcher, tmp_path) == "finished"
    outcome = read_outcome(tmp_path)
    assert (outcome.status, outcome.signal) == (Status.STOPPED, signal.SIGKILL)


@pytest.mark.parametrize("change", [{"boot_id": "another boot"}, {"start_ticks": 1}])
@pytest.mark.fault(27)
def test_a_pid_from_another_life_is_lost_and_never_signalled(
    tmp_path: Path, change: dict[str, object]
) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        record = {**identify(bystander.pid)._asdict(), **change}
        (tmp_path / "proc.json").write_text(json.dumps({"schema": 1, "attempt": 1, "supervisor": record}))
        launcher = LocalLauncher()
        assert launcher.survey([tmp_path])[tmp_path] == "lost"
        # Even if somebody holds the lock, as after a restore of an old proc.json into a live run.
        with open(tmp_path / "run.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert launcher.survey([tmp_path])[tmp_path] == "running"
            launcher.cancel(tmp_path)
            launcher.cancel(tmp_path, force=True)
            time.sleep(0.1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_supervisors_leave_no_zombies_and_no_empty_files(tmp_path: Path) -> None:
    launcher, before = LocalLauncher(), children()
    launcher.submit(tmp_path, job(tmp_path, "pass"), attempt=1)
    wait_for_end(launcher, tmp_path)
    wait_for(lambda: launcher.survey([tmp_path]) and children() <= before, "the supervisor to be collected")
    assert sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size == 0) == ["train.log"]


def test_a_supervisor_that_cannot_start_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file"):
        LocalLauncher(python=str(tmp_path / "no-python")).submit(tmp_path, job(tmp_path, ""), attempt=1)
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(RunError, match=r"cannot supervise .*run\.lock"):
        LocalLauncher().submit(tmp_path, job(tmp_path, ""), attempt=1)


PARENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/home/somebody",
    "LC_ALL": "C.UTF-8",
    "CUDA_VISIBLE_DEVICES": "1",
    "https_proxy": "http://proxy:3128",
    "HTTP_PROXY": "http://user:canary@proxy:3128",
    "NAS_DATA_DIR": "/data",
    "OPENAI_API_KEY": "sk-canary",
    "CUDA_SECRET": "canary",
    "LC_TOKEN": "canary",
    "NAS_LLM_BASE_URL": "canary",
    "MY_SETTING": "7",
}


@pytest.mark.fault(38)
def test_a_training_sees_what_it_needs_and_no_secret(tmp_path: Path) -> None:
    launcher = LocalLauncher(environment=PARENT, extra_names=["MY_SETTING"])
    code = "import json; print(json.dumps(dict(os.environ)))"
    launcher.submit(tmp_path, job(tmp_path, code), attempt=1)
    assert wait_for_end(launcher, tmp_path) == "finished"
    seen = json.loads((tmp_path / "train.log").read_text())
    assert seen.pop("NAS_RUN_COOKIE")
    work = str(tmp_path / "work")
    own = {name for name, value in seen.items() if value.startswith(f"{work}/")}
    caches = {"TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"}
    assert own == {"TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "PYTHONPATH", *caches}
    seen = {name: value for name, value in seen.items() if name not in own - {"PYTHONPATH"}}
    assert seen == {
        **{name: PARENT[name] for name in ("PATH", "HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "https_proxy")},
        **{"NAS_DATA_DIR": "/data", "MY_SETTING": "7", "PYTHONPATH": f"{work}/packages:{ROOT}"},
        **{"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "OPENBLAS_NUM_THREADS": "1"},
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }


@pytest.mark.fault(38)
def test_a_key_in_our_own_environment_reaches_neither_supervisor_nor_training(tmp_path: Path) -> None:
    code = (
        "for pid in ('self', os.getppid()):\n"
        "  try: print(open(f'/proc/{pid}/environ').read())\n"
        "  except PermissionError: print('denied by the sandbox')\n"
        "print('done')"
    )
    with start_agent(tmp_path, code, PARENT) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "submitted\n"
        agent.kill()
    assert wait_for_end(LocalLauncher(), tmp_path) == "finished"
    printed = (tmp_path / "train.log").read_text()
    assert printed.endswith("done\n")
    assert "PATH=" in printed
    assert "canary" not in printed


def test_the_name_of_a_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="WANDB_API_KEY looks like a secret"):
        LocalLauncher(extra_names=["WANDB_API_KEY"])
    assert "MY_SETTING" not in training_environment(PARENT)
    assert training_environment({"PYTHONPATH": "/x"})["PYTHONPATH"] == f"{ROOT}:/x"


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], LocalLauncher]:
    """Writes a module `job_of_test` and returns a launcher that finds it."""

    def make(code: str) -> LocalLauncher:
        (tmp_path / "job_of_test.py").write_text(code)
        return LocalLauncher(environment={**PARENT, "PYTHONPATH": str(tmp_path)})

    return make


def test_call_returns_what_a_module_prints(module: Callable[[str], LocalLauncher]) -> None:
    launcher = module(
        "import os, sys; print(sys.argv[1:], 'OPENAI_API_KEY' in os.environ, sys.stdin.read() == '')"
    )
    assert launcher.call("job_of_test", ["a", "--b"], timeout_s=120) == "['a', '--b'] False True\n"


def test_call_tells_bad_input_from_a_crash(module: Callable[[str], LocalLauncher]) -> None:
    launcher = module(
        "import sys; print('the file x.csv is missing', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    )
    with pytest.raises(ConfigError, match=r"^the file x\.csv is missing$"):
        launcher.call("job_of_test", ["2"], timeout_s=120)
    with pytest.raises(RunError, match=r"job_of_test ended with exit code 1: the file x\.csv is missing"):
        launcher.call("job_of_test", ["1"], timeout_s=120)
    with pytest.raises(RunError, match="No module named"):
        launcher.call("no_such_module_here", [], timeout_s=120)


SLEEPERS = (
    "import os, pathlib, subprocess, sys, time\n"
    "child = subprocess.Popen(['sleep', '60'])\n"
    "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {child.pid}')\n"
    "time.sleep(60)"
)


def test_call_ends_the_whole_process_group_after_its_time(
    module: Callable[[str], LocalLauncher], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"did not end within 0\.5 s"):
        module(SLEEPERS).call("job_of_test", [str(tmp_path / "pids")], timeout_s=0.5)
    for pid in (tmp_path / "pids").read_text().split():
        wait_for(lambda pid=pid: not identify(int(pid)).is_alive(), "the process group's end")


@pytest.mark.fault(29)
def test_ctrl_c_during_a_call_ends_its_process_group(
    module: Callable[[str], LocalLauncher], tmp_path: Path
) -> None:
    module(SLEEPERS)
    agent_code = (
        "import sys; from nas_agent_graph.launchers.local import LocalLauncher\n"
        "LocalLauncher().call('job_of_test', [sys.argv[1]], timeout_s=60)"
    )
    agent = subprocess.Popen(
        [sys.executable, "-c", agent_code, str(tmp_path / "pids")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stderr=subprocess.PIPE,
    )
    with agent:
        pids = tmp_path / "pids"
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, "the module")
        agent.send_signal(signal.SIGINT)
        _, complaint = agent.communicate(timeout=10)
    assert b"KeyboardInterrupt" in complaint
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not identify(int(pid)).is_alive(), "the process group's end")


def pictures_of(run_dir: Path) -> set[str]:
    return {path.name for path in run_dir.glob("*.png")}


DRAWABLE = (
    "import json\n"
    "epochs = [{'epoch': 0, 'train_mse': 1.0, 'val_mse': 0.5}]\n"
    "(here / 'history.json').write_text(json.dumps({'epochs': epochs}))\n"
    "kept = {'title': 'a run', 'baselines': [], 'drawings': []}\n"
    "(here / 'pictures.json').write_text(json.dumps(kept))\n"
) + GOOD


def test_pictures_are_drawn_in_the_background_and_are_there_at_the_end(tmp_path: Path) -> None:
    launcher = LocalLauncher(forked_program=None)
    launcher.warm_up(tmp_path)
    run_dirs = [tmp_path / f"run_{number:04d}" for number in range(3)]
    for run_dir in run_dirs:
        run_dir.mkdir()
        launcher.submit(run_dir, job(run_dir, DRAWABLE), attempt=1)
        assert wait_for_end(launcher, run_dir) == "finished"
    drawers = [pid for pid in children() if b"nas_system.draw_pictures" in command_line(pid)]
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in drawers] in ([19], [0])  # 0 before its first line
    wait_for(lambda: pictures_of(run_dirs[0]), "a picture in the background")
    launcher.finish(tmp_path)
    launcher.close()
    assert all(pictures_of(run_dir) == {"learning_curve.png"} for run_dir in run_dirs)
    assert not any((run_dir / "pictures.json").exists() for run_dir in run_dirs)
    assert not any(b"nas_system.draw_pictures" in command_line(pid) for pid in children())


def test_the_next_agent_draws_what_a_killed_one_has_left(tmp_path: Path) -> None:
    run_dir = tmp_path / "run_0000"
    run_dir.mkdir()
    dead = LocalLauncher(forked_program=None)  # it never comes to drawing
    dead.submit(run_dir, job(run_dir, DRAWABLE), attempt=1)
    assert wait_for_end(dead, run_dir) == "finished"
    assert pictures_of(run_dir) == set()
    LocalLauncher(forked_program=None).finish(tmp_path)
    assert pictures_of(run_dir) == {"learning_curve.png"}


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""

"""The supervisor against real processes that misbehave. Limits are short, so that the file is fast."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_system.processes.process_tree import ProcessId, identify, process_id_from_json
from nas_system.processes.run_lock import acquire_run_lock, is_alive, is_supervised

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
READY = "import pathlib, signal, sys, time, os\nhere = pathlib.Path(sys.argv[1])\n"


def start(
    run_dir: Path,
    code: str,
    *options: str,
    attempt: int = 1,
    limit: float = 10,
    world: Callable[[list[str]], list[str]] | None = None,
) -> subprocess.Popen[str]:
    """A supervisor whose training is `code`, which finds the folder it may write to as `here`."""
    return start_command(
        run_dir,
        [sys.executable, "-S", "-u", "-c", READY + code, str(run_dir / "work")],
        *options,
        attempt=attempt,
        limit=limit,
        world=world,
    )


def start_command(
    run_dir: Path,
    command: list[str],
    *options: str,
    attempt: int = 1,
    limit: float = 10,
    world: Callable[[list[str]], list[str]] | None = None,
) -> subprocess.Popen[str]:
    own = [sys.executable, "-m", "nas_system.processes.supervisor", str(run_dir)]
    own += ["--attempt", str(attempt), "--time-limit", str(limit), *options]
    own += ["--", *command]
    return subprocess.Popen(
        own if world is None else world(own),
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def supervise(run_dir: Path, code: str, *options: str, attempt: int = 1, limit: float = 10) -> dict[str, Any]:
    """Run `code` under a supervisor to its end; what exit.json says."""
    with start(run_dir, code, *options, attempt=attempt, limit=limit) as process:
        output, _ = process.communicate(timeout=240)
    assert (process.returncode, output) == (0, "")
    return exit_record(run_dir)


def exit_record(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "exit.json").read_bytes())


def wait_for(condition: Any, what: str, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def processes_of(run_dir: Path) -> list[ProcessId]:
    """The training and what it has started: they have its folder on their command line. In there their pids
    are others."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if os.fsencode(run_dir / "work") in line and b"processes.supervisor" not in line:
                found.append(identify(int(entry.name)))
    return found


def training_of(run_dir: Path) -> ProcessId:
    """The running training, once it has said in `work/ready` that it is ready."""
    wait_for((run_dir / "work/ready").exists, "the training")
    (training,) = processes_of(run_dir)
    return training


def without_namespaces(command: list[str]) -> list[str]:
    """The same command where the kernel allows no further namespaces, as in many containers."""
    limits = "".join(f"echo 0 > /proc/sys/user/max_{kind}_namespaces; " for kind in ("pid", "user"))
    command = ["unshare", "-r", "sh", "-c", f'{limits}exec "$@"', "sh", *command]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command[:6], "true"], capture_output=True).returncode
    ):
        pytest.skip("needs user namespaces to do without them")
    return command


def test_a_good_end_is_recorded_with_its_cost(tmp_path: Path) -> None:
    code = "print('epoch 1'); x = bytearray(40_000_000)\nwhile time.process_time() < 0.3: pass"
    record = supervise(tmp_path, code)
    assert (record["ended"], record["returncode"], record["signal"]) == ("exited", 0, None)
    assert (record["schema"], record["attempt"]) == (1, 1)
    assert "attempts refused" in record["confinement"]
    assert record["confinement"].endswith("refused") == (record["sandbox"]["open"] == {})
    assert record["wall_s"] >= record["user_s"] > 0.01
    assert record["user_s"] + record["sys_s"] > 0.2
    assert 40 < record["peak_memory_mb"] < 200
    assert record["log_bytes"] == len("epoch 1\n")
    assert (tmp_path / "train.log").read_text() == "epoch 1\n"
    assert record["started_at"] <= record["ended_at"]


def test_an_exit_code_and_both_streams_are_kept(tmp_path: Path) -> None:
    record = supervise(tmp_path, "print('out'); print('err', file=sys.stderr); sys.exit(7)")
    assert (record["ended"], record["returncode"]) == ("exited", 7)
    assert (tmp_path / "train.log").read_text() == "out\nerr\n"


@pytest.mark.fault(17)
def test_an_abort_is_recorded_with_its_signal(tmp_path: Path) -> None:
    record = supervise(tmp_path, "os.abort()")
    assert (record["ended"], record["returncode"], record["signal"]) == ("signaled", None, signal.SIGABRT)


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="core dumps are off here anyway")
def test_a_crash_dumps_no_gigabytes(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        supervise(tmp_path, "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert (tmp_path / "train.log").read_text() == "1\n"


def test_a_training_that_closes_its_output_costs_no_busy_waiting(tmp_path: Path) -> None:
    process = start(tmp_path, "os.close(1); os.close(2); time.sleep(1)")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert exit_record(tmp_path)["returncode"] == 0
    assert usage.ru_utime + usage.ru_stime < 0.5


def test_a_command_that_does_not_exist_is_recorded(tmp_path: Path) -> None:
    process = start_command(tmp_path, ["/does/not/exist"])
    assert process.communicate(timeout=10)[0] == ""
    record = exit_record(tmp_path)
    assert (record["ended"], record["returncode"], record["signal"]) == ("cannot_start", None, None)
    assert "/does/not/exist" in record["message"]
    assert "/does/not/exist" in (tmp_path / "train.log").read_text()


@pytest.mark.fault(21)
def test_time_limit_ends_a_training_that_ignores_sigterm(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    record = supervise(tmp_path, code, "--grace", "0.3", limit=0.8)
    assert (record["ended"], record["signal"]) == ("time_limit", signal.SIGKILL)
    assert processes_of(tmp_path) == []


def test_a_training_may_tidy_up_within_its_grace(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(5))); time.sleep(60)"
    record = supervise(tmp_path, code, limit=0.8)
    assert (record["ended"], record["returncode"]) == ("time_limit", 5)
    assert (tmp_path / "train.log").read_text() == "saved\n"


@pytest.mark.fault(20)
def test_silence_ends_a_hung_training_and_shows_where_it_hung(tmp_path: Path) -> None:
    record = supervise(
        tmp_path, "print('begin')\ndef deadlock(): time.sleep(60)\ndeadlock()", "--silence-limit", "0.4"
    )
    assert (record["ended"], record["signal"]) == ("silence_limit", signal.SIGABRT)
    assert record["wall_s"] < 2
    assert "in deadlock" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize("sign", ["print(i)", "(here / 'history.json').write_text(str(i))"])
@pytest.mark.fault(20)
def test_output_or_a_new_history_is_a_sign_of_life(tmp_path: Path, sign: str) -> None:
    record = supervise(tmp_path, f"for i in range(8): {sign}; time.sleep(0.12)", "--silence-limit", "0.6")
    assert (record["ended"], record["returncode"]) == ("exited", 0)
    assert record["wall_s"] > 0.9, "longer than the limit on silence"


@pytest.mark.fault(18)
def test_memory_limit_counts_the_children_too(tmp_path: Path) -> None:
    code = (
        "import subprocess\n"
        "large = 'x = bytearray(60_000_000); import time; time.sleep(30)'\n"
        "loaders = [subprocess.Popen([sys.executable, '-S', '-c', large]) for _ in range(2)]\n"
        "time.sleep(30)"
    )
    record = supervise(tmp_path, code, "--memory-limit-mb", "100")
    assert (record["ended"], record["signal"]) == ("memory_limit", signal.SIGKILL)
    assert record["wall_s"] < 5
    assert record["peak_memory_mb"] > 100


@pytest.mark.fault(18)
def test_memory_shared_by_forked_loaders_is_counted_once(tmp_path: Path) -> None:
    code = (
        "x = bytearray(60_000_000)\n"
        "for _ in range(3):\n  if os.fork() == 0: time.sleep(0.7); os._exit(0)\n"
        "time.sleep(0.7)"
    )
    record = supervise(tmp_path, code, "--memory-limit-mb", "120")
    assert (record["ended"], record["returncode"]) == ("exited", 0)
    assert record["peak_memory_mb"] > 120, "the cheap measure counts shared pages for each process"


@pytest.mark.fault(22)
def test_a_daemon_that_left_its_session_and_its_environment_does_not_survive(tmp_path: Path) -> None:
    code = (
        "import subprocess\n"
        "if os.fork() == 0:\n"
        "  os.setsid()\n"
        "  if os.fork() == 0:\n"
        "    (here / 'ready').touch()\n"
        "    os.execve('/bin/sh', ['sh', '-c', 'sleep 60', str(here)], {})\n"
        "  os._exit(0)\n"
        "while not (here / 'ready').exists(): time.sleep(0.01)"
    )
    record = supervise(tmp_path, code)
    assert (record["ended"], record["returncode"]) == ("exited", 0)
    assert record["leftover_processes"] >= 1
    assert processes_of(tmp_path) == []


def test_a_folder_nested_thousands_deep_is_removed_and_the_end_is_on_record(tmp_path: Path) -> None:
    code = "os.chdir(here)\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\ntime.sleep(9)"
    record = supervise(tmp_path, code)
    assert record["ended"] == "disk_limit", "what cannot be measured counts as too much"
    assert not (tmp_path / "work").exists()


def test_a_process_may_have_any_name(tmp_path: Path) -> None:
    code = (
        "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff) Z 1 (\\n\\xfe', 0, 0, 0)\n"
        "x = open(here / 'file', 'wb'); os.unlink(here / 'file'); x.write(bytes(9999)); x.flush()\n"
        "time.sleep(0.5)"
    )
    record = supervise(tmp_path, code)
    assert (record["ended"], record["returncode"]) == ("exited", 0)
    assert record["peak_memory_mb"] > 5


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="by the number of a system call")
def test_a_process_that_has_lost_its_first_thread_is_not_taken_for_dead(tmp_path: Path) -> None:
    code = (
        "import ctypes, threading\n"
        "def grow():\n  global x\n  time.sleep(9); x = bytearray(80_000_000); time.sleep(9)\n"
        "if os.fork() == 0:\n"
        "  threading.Thread(target=grow).start(); time.sleep(0.1); ctypes.CDLL(None).syscall(60, 0)\n"
        "time.sleep(30)"
    )
    record = supervise(tmp_path, code, "--memory-limit-mb", "60", limit=20)
    assert record["ended"] == "unmeasurable"
    assert processes_of(tmp_path) == []


@pytest.mark.fault(23)
def test_a_log_bomb_is_capped_and_its_last_line_kept(tmp_path: Path) -> None:
    code = (
        "print('head of the log')\n"
        "for _ in range(60): os.write(1, b'\\0\\x1b[31m\\xff' * 2**20)\n"
        "time.sleep(0.1); print('\\nthe last line')"
    )
    cap = 300_000
    process = start(tmp_path, code, "--log-cap-bytes", str(cap))
    largest = 0
    while process.poll() is None:
        log = tmp_path / "train.log"
        largest = max(largest, log.stat().st_size if log.exists() else 0)
    process.communicate()
    content = (tmp_path / "train.log").read_bytes()
    record = exit_record(tmp_path)
    assert record["log_bytes"] == 60 * 7 * 2**20 + len("head of the log\n\nthe last line\n")
    assert cap // 3 < len(content) <= cap
    assert largest <= cap
    assert content.startswith(b"head of the log\n")
    assert content.endswith(b"\nthe last line\n")
    (told,) = [line for line in content.split(b"\n") if line.startswith(b"[... ")]
    notice = len(told) + 2
    assert int(told.split()[1]) == record["log_bytes"] - (len(content) - notice)


def test_a_stop_request_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.2), sys.exit(5)))\n"
        "(here / 'ready').touch(); time.sleep(60)"
    )
    with start(tmp_path, code) as process:
        training_of(tmp_path)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=10)
    record = exit_record(tmp_path)
    assert (record["ended"], record["returncode"]) == ("stop_request", 5)


@pytest.mark.fault(29)
def test_a_second_stop_request_kills(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); (here / 'ready').touch(); time.sleep(60)"
    with start(tmp_path, code) as process:
        training_of(tmp_path)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None, "the first request leaves the training its ten seconds of grace"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=9)
    record = exit_record(tmp_path)
    assert (record["ended"], record["signal"]) == ("stop_request", signal.SIGKILL)


@pytest.mark.fault(4)
def test_the_training_dies_with_its_supervisor(tmp_path: Path) -> None:
    process = start(tmp_path, "(here / 'ready').touch(); time.sleep(60)")
    training = training_of(tmp_path)
    assert is_supervised(tmp_path)
    process.kill()
    wait_for(lambda: not training.is_alive(), "the training's death")
    process.communicate()
    wait_for(lambda: not is_alive(tmp_path), "the lock")
    assert not (tmp_path / "exit.json").exists()


@pytest.mark.fault(4)
@pytest.mark.fault(22)
@pytest.mark.parametrize("namespaces", [True, False])
def test_daemons_of_a_killed_supervisor_end_with_it_or_before_the_next_attempt(
    namespaces: bool, tmp_path: Path
) -> None:
    code = "if os.fork() == 0: os.setsid(); (here / 'ready').touch()\ntime.sleep(60)"
    process = start(tmp_path, code, world=None if namespaces else without_namespaces)
    wait_for((tmp_path / "work/ready").exists, "the daemon")
    there = processes_of(tmp_path)
    assert len(there) == 2
    subprocess.run(["pkill", "-KILL", "-f", f"supervisor {tmp_path}"], check=True)
    process.communicate()
    wait_for(lambda: not is_alive(tmp_path), "the lock")
    if namespaces:
        wait_for(lambda: not any(process.is_alive() for process in there), "the kernel to end them")
    else:
        wait_for(lambda: sum(process.is_alive() for process in there) == 1, "the training's end")
    record = supervise(tmp_path, "print('second')", attempt=2)
    assert (record["attempt"], record["ended"]) == (2, "exited")
    assert not any(process.is_alive() for process in there)


@pytest.mark.fault(2)
def test_only_one_supervisor_runs_a_run(tmp_path: Path) -> None:
    count = "open(here / 'last.pth', 'a').write('x'); time.sleep(0.6)"
    processes = [start(tmp_path, count) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=15)
    assert sorted(process.returncode for process in processes) == [0, 75, 75]
    assert (tmp_path / "work/last.pth").read_text() == "x"


@pytest.mark.fault(2)
def test_a_recorded_attempt_is_not_repeated_and_the_next_one_runs(tmp_path: Path) -> None:
    count = "open(here / 'last.pth', 'a').write('x')"
    supervise(tmp_path, count)
    supervise(tmp_path, count)
    assert (tmp_path / "work/last.pth").read_text() == "x"
    assert supervise(tmp_path, count, attempt=2)["attempt"] == 2
    assert supervise(tmp_path, count, attempt=1)["attempt"] == 2
    assert (tmp_path / "work/last.pth").read_text() == "xx"


def test_results_of_an_earlier_attempt_cannot_pass_for_those_of_the_next(tmp_path: Path) -> None:
    for name in ("metrics.json", "error.json", "history.json"):
        (tmp_path / name).write_text("{}")
    supervise(tmp_path, "pass")
    assert not (tmp_path / "metrics.json").exists()
    assert not (tmp_path / "error.json").exists()
    assert (tmp_path / "history.json").exists(), "it is not known that the training will write another"


def test_the_process_record_leads_to_both_processes_and_exit_json_comes_last(tmp_path: Path) -> None:
    with start(tmp_path, "(here / 'ready').touch(); sys.stdin.read(); time.sleep(0.3)") as process:
        training = training_of(tmp_path)
        record = json.loads((tmp_path / "proc.json").read_bytes())
        assert process_id_from_json(record["supervisor"]) == identify(process.pid)
        wait_for(lambda: json.loads((tmp_path / "proc.json").read_bytes())["training"], "the training's pid")
        record = json.loads((tmp_path / "proc.json").read_bytes())
        assert process_id_from_json(record["training"]) == training
        assert record["command"][-1] == str(tmp_path / "work")
        assert not (tmp_path / "exit.json").exists()
        assert os.getsid(training.pid) not in (os.getsid(0), os.getsid(process.pid))
        process.communicate(timeout=10)
    assert exit_record(tmp_path)["returncode"] == 0
    assert not is_alive(tmp_path)


def test_a_deleted_run_folder_ends_its_training(tmp_path: Path) -> None:
    run_dir = tmp_path / "run_0001"
    run_dir.mkdir()
    process = start(run_dir, "(here / 'ready').touch(); time.sleep(60)")
    training = training_of(run_dir)
    shutil.rmtree(run_dir)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "was deleted while its training ran" in output
    assert not training.is_alive()


def test_a_file_system_that_refuses_writes_costs_the_log_and_not_the_training(tmp_path: Path) -> None:
    # RLIMIT_FSIZE stands in for a full disk: the log hits it, the small exit.json does not.
    command = [sys.executable, "-S", "-u", "-c", "for i in range(3000): print('x' * 99)\nprint('end')"]
    limited = ["/bin/sh", "-c", 'ulimit -f 64; exec "$@"', "sh", sys.executable]
    limited += [
        "-m",
        "nas_system.processes.supervisor",
        str(tmp_path),
        "--attempt",
        "1",
        "--time-limit",
        "10",
    ]
    done = subprocess.run(
        [*limited, "--", *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    assert (done.returncode, done.stderr) == (0, "")
    record = exit_record(tmp_path)
    assert (record["ended"], record["returncode"]) == ("exited", 0)
    assert record["log_bytes"] == 3000 * 100 + 4
    assert record["log_bytes_unwritable"] > 0


ON_A_SMALL_DISK = 'mount -t tmpfs -o size=128k none "$1" && cd "$1" && shift && { "$@"; cat exit.json; }'


@pytest.mark.parametrize(
    "fill",
    [
        "f = open('work/best_model.pth', 'wb', 0)\nwhile True: f.write(bytes(999))",
        "while True: print('x' * 99)",
    ],
)
def test_a_full_disk_is_recorded_on_that_disk(tmp_path: Path, fill: str) -> None:
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True).returncode != 0:
        pytest.skip("needs a mount namespace for a disk of its own")
    supervisor = [sys.executable, "-m", "nas_system.processes.supervisor", ".", "--attempt", "1"]
    supervisor += ["--time-limit", "1", "--", sys.executable, "-S", "-u", "-c", fill]
    command = ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path), *supervisor]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)
    record = json.loads(done.stdout)
    assert record["ended"] == ("exited" if "model" in fill else "time_limit")
    assert record["uncopied"] == {}
    assert record["disk_free_mb"] < 0.01


@pytest.mark.fault(27)
def test_another_process_with_the_same_pid_is_not_taken_for_ours(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        process = identify(bystander.pid)
        assert process.is_alive()
        strangers = [
            process._replace(start_ticks=(process.start_ticks or 0) + 1),
            process._replace(boot_id="another boot"),
            process._replace(pid_namespace="pid:[1]"),
        ]
        assert not any(stranger.is_alive() or stranger.send(signal.SIGKILL) for stranger in strangers)
        assert bystander.poll() is None
        assert [stranger.is_certainly_dead() for stranger in strangers] == [True, False, False]
        assert process.send(signal.SIGKILL)
        assert bystander.wait(timeout=5) == -signal.SIGKILL
        assert not process.is_alive()
    finally:
        bystander.kill()
        bystander.wait()


def test_a_zombie_counts_as_dead() -> None:
    child = subprocess.Popen(["true"])
    process = identify(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_alive()
    child.wait()


def test_looking_at_a_lock_does_not_keep_a_supervisor_from_taking_it(tmp_path: Path) -> None:
    assert not is_alive(tmp_path)
    # A look holds a shared lock; here one that takes unusually long.
    with open(tmp_path / "run.lock", "w") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.03, lambda: fcntl.flock(look, fcntl.LOCK_UN)).start()
        descriptor = acquire_run_lock(tmp_path)
    assert descriptor is not None
    assert is_alive(tmp_path)
    assert acquire_run_lock(tmp_path) is None
    os.close(descriptor)
    assert not is_alive(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--attempt", "1"],
        ["--attempt", "1", "--time-limit", "5"],
        ["--attempt", "0", "--time-limit", "5", "--", "true"],
        ["--attempt", "1", "--time-limit", "nan", "--", "true"],
        ["--attempt", "1", "--time-limit", "-1", "--", "true"],
    ],
)
def test_bad_arguments_start_nothing(tmp_path: Path, arguments: list[str]) -> None:
    from nas_system.processes.supervisor import main

    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), *arguments])
    assert ended.value.code == 2
    assert not list(tmp_path.iterdir())


def test_the_supervisor_loads_nothing_heavy() -> None:
    code = "import sys, nas_system.processes.supervisor; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    ours = {name for name in done.stdout.split() if name.startswith("nas_system")}
    foreign = {"pydantic", "orjson", "numpy", "torch", "yaml", "dataclasses"} & set(done.stdout.split())
    assert not foreign
    assert {name for name in ours if name.startswith("nas_system.space")} == set()

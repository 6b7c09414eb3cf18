"""The sandbox against real processes that try to leave it. The same attempts succeed where it is off."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nas_agent_graph.launchers.environment import training_environment
from nas_system.errors import ConfigError
from nas_system.processes.sandbox.landlock import landlock_version
from nas_system.processes.sandbox.modes import SWITCHES, mode_in
from nas_system.processes.sandbox.probe import ATTEMPTS as ATTEMPTS_OF_THE_PROBE
from nas_system.processes.sandbox.sandbox import Report

ROOT = Path(__file__).resolve().parents[2]
TOO_OLD = "needs a kernel with Landlock 6 (Linux 6.12)"
needs_landlock = pytest.mark.skipif(landlock_version() < 6, reason=TOO_OLD)
SECRET = "canary-of-the-cage"

ATTEMPTS = """
import ctypes, json, os, pathlib, signal, socket, subprocess, sys
here, world = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
stranger, port = int(sys.argv[3]), int(sys.argv[4])
results = {}

def attempt(name, action):
    try:
        results[name] = repr(action())[:40] if action else ''
    except OSError as error:
        results[name] = f'denied: {error.strerror}'

def bound():
    with socket.socket() as s:
        return s.bind(('127.0.0.1', 0))

def connected():
    with socket.create_connection(('127.0.0.1', port), 2):
        return True

def of_a_child(code):
    done = subprocess.run([sys.executable, '-S', '-c', code], capture_output=True, text=True)
    if done.returncode:
        raise OSError(1, done.stderr.splitlines()[-1])
    return done.returncode

parent = int(sys.argv[5])
"""
ESCAPES: dict[str, str] = {
    "write beside the run": "(world / 'runs/agent_state.json').write_text('x')",
    "make a file beside the run": "(world / 'runs/new').write_text('x')",
    "make a folder": "(world / 'runs/folder').mkdir()",
    "write in the home folder": "(world / 'home/new').write_text('x')",
    "overwrite a start-up file": "(world / 'home/.bashrc').write_text('x')",
    "write into the shared temporary folder": "(lambda path: (path.touch(), path.unlink()))("
    "pathlib.Path('/tmp', f'nas-escape-{os.getpid()}'))",
    "truncate": "os.truncate(world / 'runs/victim', 0)",
    "delete": "os.unlink(world / 'runs/doomed')",
    "delete a folder": "os.rmdir(world / 'runs/empty')",
    "rename": "os.rename(world / 'runs/victim', world / 'runs/other')",
    "move in": "os.rename(world / 'runs/victim', here / 'victim')",
    "link to the outside": "os.link(world / 'runs/victim', world / 'runs/hard')",
    "through a link": "(os.symlink(world / 'runs', here / 'way_out'), (here / 'way_out/new2').touch())",
    "by a child": "of_a_child('open(' + repr(str(world / 'runs/by_child')) + ', chr(119))')",
    "read a private key": "(world / 'home/.ssh/id').read_text()",
    "read beside the run": "(world / 'runs/read_me').read_text()",
    "list the folder of all runs": "os.listdir(world / 'runs')",
    "read the home folder": "(world / 'home/notes').read_text()",
    "write into a cache": "(world / 'home/.cache/matplotlib/fonts.json').write_text('x')",
    "change a mode": "os.chmod(world / 'runs/victim', 0o777)",
    "read the .env of the workspace": "(world / '.env').read_text()",
    "read it by another name": "(world / 'elsewhere/keys').read_text()",
    "environment of the supervisor": "open(f'/proc/{parent}/environ').read()[:5]",
    "environment of a stranger": "open(f'/proc/{stranger}/environ').read()[:5]",
    "memory of a stranger": "open(f'/proc/{stranger}/mem', 'rb').close()",
    "open files of a stranger": "os.readlink(f'/proc/{stranger}/fd/0')",
    "signal the supervisor": "os.kill(parent, 0)",
    "signal a stranger": "os.kill(stranger, 0)",
    "listen": "bound()",
    "connect": "connected()",
}
NEEDS: dict[str, str] = {
    "write into the run": "(here / 'sub').mkdir() or (here / 'sub/file').write_text('x')",
    "replace": "os.replace(here / 'sub/file', here / 'file')",
    "read the run": "(here / 'file').read_text()",
    "read data in a hidden folder": "(world / 'home/.data/series.csv').read_text()",
    "temporary file": "__import__('tempfile').TemporaryFile().write(b'x')",
    "cache": "pathlib.Path(os.environ['XDG_CACHE_HOME'], 'torch').mkdir()",
    "null": "open('/dev/null', 'w').write('x')",
    "shared memory": "__import__('multiprocessing.shared_memory').shared_memory.SharedMemory("
    "create=True, size=9).unlink()",
    "a child": "of_a_child('pass')",
    "signal a child": "(lambda p: (p.kill(), p.wait()))(subprocess.Popen(['sleep', '9']))",
    "talk to a child": "__import__('multiprocessing').get_context('fork').Pool(1).map(abs, [-1])",
    "own processes": "open('/proc/self/environ').read()[:5]",
    "processors": "open('/proc/cpuinfo').read()[:5]",
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A workspace, a home folder, and people's things in both."""
    for folder in (
        "runs/run_0001",
        "runs/empty",
        "home/.ssh",
        "home/.data",
        "home/.cache/matplotlib",
        "elsewhere",
    ):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("runs/agent_state.json", "runs/victim", "runs/doomed", "runs/read_me", "home/notes"):
        (tmp_path / name).write_text("precious")
    for name in ("home/.ssh/id", "home/.bashrc", "elsewhere/keys"):
        (tmp_path / name).write_text(SECRET)
    (tmp_path / ".env").symlink_to(tmp_path / "elsewhere/keys")
    (tmp_path / "home/.data/series.csv").write_text("date,load\n")
    return tmp_path


def environment_in(world: Path, **variables: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(world / "home"),
        **variables,
    }


WITHOUT_LANDLOCK = """
import ctypes, os, platform, struct, sys
libc = ctypes.CDLL(None)
# A filter that refuses landlock_create_ruleset, as the profile of an old container does.
code = struct.pack('=HBBIHBBIHBBIHBBI', 0x20, 0, 0, 0, 0x15, 0, 1, 444, 6, 0, 0, 0x50001, 6, 0, 0, 0x7fff0000)
class Program(ctypes.Structure):
    _fields_ = (('length', ctypes.c_ushort), ('code', ctypes.c_char_p))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Program(4, code)), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def start_supervisor(
    run_dir: Path,
    command: list[str],
    environment: Mapping[str, str],
    *options: str,
    attempt: int = 1,
    before: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a supervisor to its end, by a program that first executes `before`."""
    own = [sys.executable, "-m", "nas_system.processes.supervisor", str(run_dir), "--attempt", str(attempt)]
    return subprocess.run(
        [
            *([sys.executable, "-c", before] if before else []),
            *own,
            "--time-limit",
            "30",
            *options,
            "--",
            *command,
        ],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def supervise(
    run_dir: Path, command: list[str], environment: Mapping[str, str], *options: str
) -> dict[str, Any]:
    done = start_supervisor(run_dir, command, environment, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads((run_dir / "exit.json").read_bytes())


def attempt_all(
    world: Path, actions: Mapping[str, str], **variables: str
) -> tuple[dict[str, str], dict[str, Any]]:
    """What became of every action, tried by a training, and exit.json."""
    run_dir = world / "runs/run_0001"
    lines = [f"attempt({name!r}, lambda: {code})" for name, code in actions.items()]
    code = "\n".join([ATTEMPTS, *lines, "print(json.dumps(results))"])
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            command = [sys.executable, "-c", code, str(run_dir / "work"), str(world)]
            command += [str(stranger.pid), str(port), str(os.getpid())]
            data = world / "home/.data/series.csv"
            record = supervise(run_dir, command, environment_in(world, **variables), "--read", str(data))
    finally:
        stranger.kill()
        stranger.wait()
    printed = (run_dir / "train.log").read_text()
    assert record["returncode"] == 0, printed
    return json.loads(printed.splitlines()[-1]), record


@needs_landlock
@pytest.mark.fault(37, 38, 39)
def test_no_escape_succeeds(world: Path, record_property: Callable[[str, object], None]) -> None:
    results, record = attempt_all(world, ESCAPES)
    assert {name: result for name, result in results.items() if not result.startswith("denied")} == {}
    assert results.keys() == ESCAPES.keys()
    # That takes namespaces, which not every kernel allows.
    assert record["sandbox"]["open"].keys() <= {"outliving the supervisor"}
    tried = len(ATTEMPTS_OF_THE_PROBE) + 1
    refused = tried - len(record["sandbox"]["open"])
    assert f"landlock {landlock_version()}, seccomp; {refused} of {tried}" in record["confinement"]
    assert (world / "runs/victim").read_text() == "precious"
    assert SECRET not in (world / "runs/run_0001/train.log").read_text()
    record_property("measured", f"{len(ESCAPES)} ways out tried, {len(ESCAPES)} denied")


def test_every_escape_succeeds_where_the_sandbox_is_off(world: Path) -> None:
    """Or the test above would prove nothing."""
    names = dict(ESCAPES)
    # One file cannot be renamed twice, and a link away is no longer there afterwards.
    for name in ("rename", "move in", "link to the outside"):
        del names[name]
    results, record = attempt_all(world, names, **{SWITCHES[0]: "off"})
    assert record["confinement"] == "off"
    assert {name: result for name, result in results.items() if result.startswith("denied")} == {}


@pytest.mark.parametrize("name", ["NAS_SANDBOX", "NAS_CONFINEMENT"])
def test_the_switch_is_understood_under_its_old_and_its_new_name(name: str, world: Path) -> None:
    environment = training_environment(environment_in(world, **{name: "off"}))
    record = supervise(world / "runs/run_0001", [sys.executable, "-c", "pass"], environment)
    assert record["confinement"] == "off"
    with pytest.raises(ConfigError, match=f"{name}='no' is none of required, best, off"):
        training_environment({name: "no"})
    assert mode_in({name: "on"}) == mode_in({}) == "best"


@needs_landlock
def test_what_a_training_needs_is_there(world: Path) -> None:
    results, _ = attempt_all(world, NEEDS)
    assert {name: result for name, result in results.items() if result.startswith("denied")} == {}
    assert results.keys() == NEEDS.keys()


@pytest.mark.fault(39)
def test_a_run_folder_that_is_a_link_is_refused(world: Path) -> None:
    (world / "disk/run_0002").mkdir(parents=True)
    (world / "runs/run_0002").symlink_to(world / "disk/run_0002")
    done = start_supervisor(world / "runs/run_0002", [sys.executable, "-c", "pass"], environment_in(world))
    assert (done.returncode, "must not be a link" in done.stderr) == (1, True)
    assert list((world / "disk/run_0002").iterdir()) == []


OLDER = """
import json, os, pathlib, sys
from nas_system.processes.sandbox.sandbox import Limits, Sandbox
run_dir = pathlib.Path(sys.argv[1])
record = run_dir / 'exit.json'
record.touch()
(run_dir / 'work').mkdir(exist_ok=True)
supervisor = os.getpid()
if os.fork() == 0:
    sandbox = Sandbox('best', run_dir, run_dir / 'work', command=[sys.executable], record=record,
                      newest_landlock=int(sys.argv[5]))
    sandbox._supervisor = supervisor
    print(json.dumps(sandbox.enter().to_json()), flush=True)
    os._exit(0)
os.wait()
"""
WITHOUT = {
    0: {
        *("writing elsewhere", "reading elsewhere", "listing elsewhere"),
        "signals to others",
    },
    1: {"signals to others"},
    3: {"signals to others"},
    5: {"signals to others"},
    6: set(),
}


@needs_landlock
@pytest.mark.parametrize(("version", "holes"), WITHOUT.items())
def test_an_older_kernel_holds_what_it_knows_and_says_what_it_does_not(
    version: int, holes: set[str], world: Path
) -> None:
    """Without namespaces, as in most containers; with them, there is nobody to send a signal to."""
    done = subprocess.run(
        [sys.executable, "-c", OLDER, str(world / "runs/run_0001"), "", "", "", str(version)],
        env=environment_in(world),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    report = Report.from_json(json.loads(done.stdout))
    # Of root, most of whose privileges it has given up, the training may not read them in any case.
    assert report.open.keys() - {"environment of others"} == holes | {"outliving the supervisor"}
    assert ("landlock" in report.level) == (version > 0)
    assert report.level.endswith(f"; open: {', '.join(report.open)}")
    if version == 0:
        assert "restrict files: the kernel offers no Landlock" in report.open.values()


def test_a_required_sandbox_that_does_not_hold_starts_no_training(world: Path) -> None:
    run_dir = world / "runs/run_0001"
    # Landlock rules are a resource of the process: where none can be made, nothing holds.
    command = [sys.executable, "-c", "print('trained')"]
    done = start_supervisor(
        run_dir, command, environment_in(world), "--sandbox", "required", before=WITHOUT_LANDLOCK
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((run_dir / "exit.json").read_bytes())
    assert (record["ended"], record["returncode"]) == ("cannot_start", None)
    assert "the sandbox is required and does not hold: writing elsewhere" in record["message"]
    assert "trained" not in (run_dir / "train.log").read_text()
    done = start_supervisor(
        run_dir, command, environment_in(world), "--sandbox", "best", attempt=2, before=WITHOUT_LANDLOCK
    )
    assert (run_dir / "train.log").read_text() == "trained\n"
    assert "open: writing elsewhere" in json.loads((run_dir / "exit.json").read_bytes())["confinement"]


def test_what_a_search_prints_and_refuses_where_the_sandbox_does_not_hold(world: Path) -> None:
    check = [sys.executable, "-m", "nas_system.processes.sandbox.check", "--sandbox"]
    for mode, code, said in (
        (
            "best",
            0,
            "the sandbox does not hold everything here (restrict files: the kernel offers no Landlock)",
        ),
        ("required", 2, "the sandbox is required and does not hold: writing elsewhere"),
        ("off", 0, "the sandbox is off: a training can do what you can"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_LANDLOCK, *check, mode],
            env=environment_in(world),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, done.stderr
        assert said in (json.loads(done.stdout)["warning"] if code == 0 else done.stderr)


@pytest.mark.parametrize("mode", ["required", "best"])
def test_a_search_says_at_its_start_what_does_not_hold_or_trains_nothing(mode: str, world: Path) -> None:
    flags = ["--dataset", "synthetic", "--max-runs", "1", "--repeat-base", "0", "--base-config", "base.json"]
    (world / "elsewhere/base.json").write_text(
        json.dumps({"model": {"family": "linear"}, "training": {"max_epochs": 1}, "data": {"seq_len": 24}})
    )
    agent = [sys.executable, "-m", "nas_agent_graph.run", *flags, "--sandbox", mode]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LANDLOCK, *agent],
        env=environment_in(world, OMP_NUM_THREADS="1", NAS_STATS_SECONDS="0"),
        cwd=world / "elsewhere",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if mode == "required":
        assert done.returncode == 2
        assert "error: the sandbox is required and does not hold: writing elsewhere" in done.stderr
        assert not (world / "elsewhere/agent_state.json").exists()
    else:
        assert (done.returncode, "note: the sandbox does not hold everything here" in done.stderr) == (
            0,
            True,
        )


@needs_landlock
def test_a_stop_file_is_removed_although_the_training_may_not(world: Path) -> None:
    run_dir = world / "runs/run_0001"
    (world / "stop_run_0001").touch()
    own = [sys.executable, "-m", "nas_system.processes.supervisor", str(run_dir), "--attempt", "1"]
    code = (
        "from pathlib import Path\n"
        "from nas_system.training.callbacks import StopFile\n"
        "stop = StopFile(Path('stop_run_0001'))\n"
        "print(stop.epoch_ended(None, None)); stop.fit_ended(None, '')"
    )
    command = [*own, "--time-limit", "60", "--", sys.executable, "-c", code]
    subprocess.run(command, env=environment_in(world), cwd=world, check=True, timeout=240)
    assert (run_dir / "train.log").read_text() == "stop_file\n"
    assert not (world / "stop_run_0001").exists()


# -- the process that holds the key --------------------------------------------------------------------

AS_A_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
PEEK = "import sys; print(open(f'/proc/{sys.argv[1]}/environ').read())"


def as_a_user() -> tuple[list[str], str]:
    """How to run as somebody without privileges, for whom alone the protection is made, and a Python
    that they can run."""
    prefix = list(AS_A_USER) if os.getuid() == 0 else []
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [*prefix, python, "-c", "import nas_agent_graph.host.privacy"],
                env={"PYTHONPATH": str(ROOT)},
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return prefix, python
    pytest.skip("nobody but root can run Python here")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.fault(38)
@pytest.mark.parametrize("protected", [True, False])
def test_another_program_of_the_same_user_cannot_read_the_key(protected: bool) -> None:
    prefix, python = as_a_user()
    call = (
        "from nas_agent_graph.host.privacy import refuse_inspection; refuse_inspection()" if protected else ""
    )
    code = f"import sys\n{call}\nprint('ready', flush=True); sys.stdin.read()"
    agent = subprocess.Popen(
        [*prefix, python, "-c", code],
        env={"OPENAI_API_KEY": SECRET, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert agent.stdout is not None
    try:
        assert agent.stdout.readline() == "ready\n"
        done = subprocess.run(
            [*prefix, python, "-c", PEEK, str(agent.pid)], capture_output=True, text=True, check=False
        )
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.communicate()
    assert (SECRET in done.stdout) == (not protected)
    assert ("PermissionError" in done.stderr) == protected


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.fault(38)
@pytest.mark.parametrize("program", ["run", "doctor"])
def test_programs_that_hold_a_key_refuse_inspection(program: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = (
        "import ctypes, sys\n"
        "from nas_agent_graph.cli import main\n"
        "before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "main(sys.argv[1:])\n"
        "print('dumpable', before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, program, "--workspace", str(tmp_path / "file" / "x")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "dumpable 1 0"

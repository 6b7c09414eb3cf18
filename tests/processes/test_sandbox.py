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
from nas_system.processes.sandbox import SWITCHES, Sandbox, landlock_version

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

parent = os.getppid()
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
NETWORK = ("listen", "connect")
NEEDS: dict[str, str] = {
    "write into the run": "(here / 'sub').mkdir() or (here / 'sub/file').write_text('x')",
    "replace": "os.replace(here / 'sub/file', here / 'file')",
    "read the run": "(here / 'file').read_text()",
    "read beside the run": "(world / 'runs/read_me').read_text()",
    "read the home folder": "(world / 'home/notes').read_text()",
    "read data in a hidden folder": "(world / 'home/.data/series.csv').read_text()",
    "temporary file": "__import__('tempfile').TemporaryFile().write(b'x')",
    "cache": "(world / 'home/.cache/matplotlib/fonts.json').write_text('x')",
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
    for folder in ("runs/run_0001", "runs/empty", "home/.ssh", "home/.data", "home/.cache", "elsewhere"):
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


def supervise(
    run_dir: Path, command: list[str], environment: Mapping[str, str], *options: str
) -> dict[str, Any]:
    own = [sys.executable, "-m", "nas_system.processes.supervisor", str(run_dir), "--attempt", "1"]
    done = subprocess.run(
        [*own, "--time-limit", "30", *options, "--", *command],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads((run_dir / "exit.json").read_bytes())


def attempt_all(
    world: Path, actions: Mapping[str, str], run_dir: Path | None = None, **variables: str
) -> tuple[dict[str, str], str]:
    """What became of every action, tried by a training, and its sandbox's level."""
    run_dir = run_dir or world / "runs/run_0001"
    lines = [f"attempt({name!r}, lambda: {code})" for name, code in actions.items()]
    code = "\n".join([ATTEMPTS, *lines, "(here / 'results.json').write_text(json.dumps(results))"])
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            command = [sys.executable, "-c", code, str(run_dir), str(world), str(stranger.pid), str(port)]
            data = world / "home/.data/series.csv"
            record = supervise(run_dir, command, environment_in(world, **variables), "--read", str(data))
    finally:
        stranger.kill()
        stranger.wait()
    assert record["returncode"] == 0, (run_dir / "train.log").read_text()
    return json.loads((run_dir / "results.json").read_bytes()), record["confinement"]


@needs_landlock
@pytest.mark.fault(37, 38, 39)
def test_no_escape_succeeds(world: Path, record_property: Callable[[str, object], None]) -> None:
    results, level = attempt_all(world, ESCAPES)
    assert {name: result for name, result in results.items() if not result.startswith("denied")} == {}
    assert results.keys() == ESCAPES.keys()
    assert level == f"landlock {landlock_version()}: writes, secrets, processes, TCP, signals"
    assert (world / "runs/victim").read_text() == "precious"
    assert SECRET not in (world / "runs/run_0001/results.json").read_text()
    record_property("measured", f"{len(ESCAPES)} ways out tried, {len(ESCAPES)} denied")


def test_every_escape_succeeds_where_the_sandbox_is_off(world: Path) -> None:
    """Or the test above would prove nothing."""
    names = dict(ESCAPES)
    # One file cannot be renamed twice, and a link away is no longer there afterwards.
    for name in ("rename", "move in", "link to the outside"):
        del names[name]
    results, level = attempt_all(world, names, **{SWITCHES[0]: "off"})
    assert level == "off"
    assert {name: result for name, result in results.items() if result.startswith("denied")} == {}


@pytest.mark.parametrize("name", ["NAS_SANDBOX", "NAS_CONFINEMENT"])
def test_the_switch_is_understood_under_its_old_and_its_new_name(name: str, world: Path) -> None:
    environment = training_environment(environment_in(world, **{name: "off"}))
    record = supervise(world / "runs/run_0001", [sys.executable, "-c", "pass"], environment)
    assert record["confinement"] == "off"
    with pytest.raises(ConfigError, match=f"{name}='no' is neither on nor off"):
        training_environment({name: "no"})
    switched_on = Sandbox(world / "runs/run_0001", environment=environment_in(world, **{name: "on"}))
    assert switched_on.level != "off"
    switched_on.close()


@needs_landlock
def test_what_a_training_needs_is_there(world: Path) -> None:
    results, _ = attempt_all(world, NEEDS)
    assert {name: result for name, result in results.items() if result.startswith("denied")} == {}
    assert results.keys() == NEEDS.keys()


@needs_landlock
@pytest.mark.fault(39)
def test_a_run_folder_that_is_a_link_is_confined_to_where_it_leads(world: Path) -> None:
    (world / "disk/run_0002").mkdir(parents=True)
    (world / "runs/run_0002").symlink_to(world / "disk/run_0002")
    actions = {
        "inside": "(here / 'file').write_text('x')",
        "beside": "(here / '../file').write_text('x')",
        "beside the link": "(world / 'runs/file').write_text('x')",
    }
    results, _ = attempt_all(world, actions, world / "runs/run_0002")
    assert [name for name, result in results.items() if result.startswith("denied")] == [
        "beside",
        "beside the link",
    ]
    assert not (world / "runs/run_0002" / "../file").exists()


@needs_landlock
@pytest.mark.parametrize(
    ("version", "held", "free"),
    [
        (1, "writes (but not truncation), secrets, processes", ("truncate", *NETWORK, "signal a stranger")),
        (2, "writes (but not truncation), secrets, processes", ("truncate", *NETWORK, "signal a stranger")),
        (3, "writes, secrets, processes", (*NETWORK, "signal a stranger")),
        (4, "writes, secrets, processes, TCP", ("signal a stranger",)),
        (5, "writes, secrets, processes, TCP", ("signal a stranger",)),
        (6, "writes, secrets, processes, TCP, signals", ()),
    ],
)
def test_an_older_kernel_enforces_what_it_knows_and_says_so(
    version: int, held: str, free: tuple[str, ...], world: Path
) -> None:
    run_dir = world / "runs/run_0001"
    sandbox = Sandbox(run_dir, environment=environment_in(world), newest_version=version)
    assert sandbox.level == f"landlock {version}: {held}"
    always = {"write beside the run", "read a private key"}
    tried = ("truncate", "connect", "listen", "signal a stranger", *always)
    lines = [f"attempt({name!r}, lambda: {ESCAPES[name]})" for name in tried]
    code = "\n".join([ATTEMPTS, *lines, "print(json.dumps(results))"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", code, str(run_dir), str(world), str(os.getpid()), port],
            preexec_fn=sandbox.enter,
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
    sandbox.close()
    allowed = {name for name, result in json.loads(done.stdout).items() if not result.startswith("denied")}
    assert allowed == set(free)


def test_a_kernel_without_landlock_stops_no_training(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, newest_version=0)
    assert sandbox.level == "none (kernel without Landlock)"
    sandbox.enter()
    sandbox.close()
    (tmp_path / "still").write_text("free")


@needs_landlock
def test_the_temporary_folder_is_private_and_goes_with_the_run(world: Path) -> None:
    run_dir = world / "runs/run_0001"
    (world / "tmp").mkdir()
    environment = environment_in(world, TMPDIR=str(world / "tmp"))
    code = (
        "import os, sys, tempfile\n"
        "folder = tempfile.mkdtemp(); open(folder + '/litter', 'w').close()\n"
        "print(tempfile.gettempdir(), oct(os.stat(tempfile.gettempdir()).st_mode))"
    )
    supervise(run_dir, [sys.executable, "-c", code], environment)
    path, mode = (run_dir / "train.log").read_text().split()
    assert Path(path).parent == world / "tmp"
    assert mode == "0o40700"
    assert list((world / "tmp").iterdir()) == []


@needs_landlock
def test_the_litter_of_a_killed_supervisor_is_removed_by_the_next_attempt(world: Path) -> None:
    run_dir = world / "runs/run_0001"
    (world / "tmp").mkdir()
    environment = environment_in(world, TMPDIR=str(world / "tmp"))
    first = Sandbox(run_dir, environment=environment)
    assert first.temporary is not None
    (first.temporary / "litter").write_text("of the first")
    (first.temporary / "link").symlink_to(world / "runs")
    second = Sandbox(run_dir, environment=environment)
    assert second.temporary == first.temporary
    assert list(second.temporary.iterdir()) == []
    assert (world / "runs/victim").exists(), "a link in it leads nowhere"
    second.close()


@needs_landlock
def test_a_link_in_the_place_of_the_temporary_folder_is_not_followed(world: Path) -> None:
    run_dir = world / "runs/run_0001"
    (world / "tmp").mkdir()
    environment = environment_in(world, TMPDIR=str(world / "tmp"))
    probe = Sandbox(run_dir, environment=environment)
    assert probe.temporary is not None
    place = probe.temporary
    probe.close()
    place.symlink_to(world / "runs")
    planted = Sandbox(run_dir, environment=environment)
    assert planted.level.startswith("none (")
    assert planted.temporary is None
    assert (world / "runs/victim").exists()


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

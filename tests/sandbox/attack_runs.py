"""Trainings that attack, under the real supervisor, and what became of their attacks."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack_world import World, as_user
from attacks import everybody, files, kernel, network, processes
from attacks.runner import MARK
from attacks.toolbox import CLAIM, ROOT, SECCOMP, SECRET, SERVERS, USER, WAYS, Way, call

from nas_system.processes.fork_server import LARGEST_MESSAGE_BYTES, send
from nas_system.processes.forked_program import placeholder
from nas_system.processes.process_tree import COOKIE_NAME

PROJECT = Path(__file__).resolve().parents[2]
ATTACKS = Path(__file__).resolve().parent / "attacks"
MODULES = {
    "files": files,
    "processes": processes,
    "everybody": everybody,
    "network": network,
    "kernel": kernel,
}
"""Of attacks that are tried many in one training."""
BATCHES = {
    batch: [way for way in WAYS.values() if way.attack.__module__ == module.__name__]
    for batch, module in MODULES.items()
}
NOBODY = 65533
"""A user without files and, unlike 65534, without processes of other tests."""
HANGS_AFTER_S = 120
FORKED_PROGRAM = "forked_attacks"
AGENT_CHANGED, SUPERVISOR_STOPPED = 98, 99
AGENT = f"""
import os, sys
def look():
    return open("/proc/self/limits").read(), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)
before = look()
os.environ["AGENT_PID"] = str(os.getpid())
child = os.fork()
if child == 0:
    os.environ["SUPERVISOR_PID"] = str(os.getpid())
    os.execv(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(child, os.WUNTRACED)
if os.WIFSTOPPED(status):
    os.kill(child, 9)
    sys.exit({SUPERVISOR_STOPPED})
sys.exit({AGENT_CHANGED} if look() != before else os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Identity:
    """Who runs the search."""

    name: str
    uid: int
    python: str


def identities() -> list[Identity]:
    """Return who can be tried: root and a normal user, or whoever runs the tests."""
    if os.getuid() != 0:
        return [Identity(USER, os.getuid(), sys.executable)]
    # The interpreter of the tests may lie in root's home folder.
    usable = [python for python in ("/usr/bin/python3", sys.executable) if _works_for_a_user(python)]
    return [Identity(ROOT, 0, sys.executable), *(Identity(USER, NOBODY, python) for python in usable[:1])]


@functools.cache
def _works_for_a_user(python: str) -> bool:
    code = "import sys, nas_system.processes.supervisor; sys.exit(sys.version_info < (3, 11))"
    environment = {"PYTHONPATH": str(PROJECT)}
    try:
        done = subprocess.run([python, "-c", code], env=environment, capture_output=True, **as_user(NOBODY))
    except OSError:  # not there, or not for everybody
        return False
    return done.returncode == 0


def why_it_does_not_hold() -> str | None:
    """Return what a required sandbox says on this machine in the place of a training; None if it holds."""
    check = [sys.executable, "-m", "nas_system.processes.sandbox.check", "--sandbox", "required"]
    done = subprocess.run(check, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode == 2 else None


def landlock_version() -> int:
    """Return the version of Landlock that the kernel offers; 0 for none."""
    try:
        return call("syscall", 444, None, 0, 1)
    except OSError:
        return 0


@dataclass
class Supervised:
    """How a supervised training ended."""

    code: int | None
    """The supervisor's exit code; None if it was stopped or hung and had to be killed."""
    record: dict[str, Any] | None
    """exit.json."""
    log: str
    errors: str


def supervise(
    run_dir: Path,
    command: Sequence[str],
    identity: Identity,
    *options: str,
    sandboxed: bool = True,
    attempt: int = 1,
    time_limit: float = 60,
    environment: Mapping[str, str] | None = None,
    cwd: Path | str = "/",
    agent: bool = False,
    forked: bool = False,
    during: Callable[[], None] = lambda: None,
) -> Supervised:
    """Run a command as training under the supervisor; `sandboxed` demands the whole sandbox.

    `agent`: a process above the supervisor stands for the agent, and both are named in the environment.
    `forked`: a fork server forks the supervisor, and the training does not start an interpreter.
    """
    environment = dict(environment or {})
    arguments = [str(run_dir), "--attempt", str(attempt), "--time-limit", str(time_limit)]
    arguments += ["--grace", "0.5", *options]
    # The limits hold without a sandbox, too.
    arguments += ["--sandbox", "required"] if sandboxed else ["--sandbox", "off", "--disk-limit-mb", "inf"]
    arguments += ["--", *command]
    if forked:
        code, errors = _fork(arguments, identity, environment, cwd, during)
        return Supervised(code, _record(run_dir / "exit.json"), _text(run_dir / "train.log"), errors)
    own = [identity.python, "-c", AGENT] if agent else []
    supervisor = subprocess.Popen(
        [*own, identity.python, "-m", "nas_system.processes.supervisor", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **as_user(identity.uid),
    )
    code = _wait(supervisor, during)
    _, errors = supervisor.communicate()
    return Supervised(code, _record(run_dir / "exit.json"), _text(run_dir / "train.log"), errors)


def _fork(
    arguments: Sequence[str],
    identity: Identity,
    environment: Mapping[str, str],
    cwd: Path | str,
    during: Callable[[], None],
) -> tuple[int | None, str]:
    """Let a fork server fork a supervisor; return its exit code as `_wait` does, and what it printed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = f"{PROJECT}:{PROJECT / 'tests/sandbox'}"
    marked = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment, COOKIE_NAME: placeholder()}
    server = subprocess.Popen(
        [identity.python, "-m", "nas_system.processes.fork_server", "--program", FORKED_PROGRAM],
        env=marked,
        cwd=cwd,
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **as_user(identity.uid),
    )
    theirs.close()
    with server, ours, tempfile.TemporaryFile("w+") as log:
        ours.settimeout(HANGS_AFTER_S)
        ready = json.loads(ours.recv(LARGEST_MESSAGE_BYTES))
        assert ready["ready"], ready
        send(ours, {"arguments": arguments, "environment": {}, "folder": str(cwd)}, log.fileno())
        pid, code = json.loads(ours.recv(LARGEST_MESSAGE_BYTES))["started"], None
        give_up_at = time.monotonic() + HANGS_AFTER_S
        while time.monotonic() < give_up_at and not _is_stopped(pid):
            if select.select([ours], [], [], 0.01)[0]:
                code = json.loads(ours.recv(LARGEST_MESSAGE_BYTES))["code"]
                break
            during()
        else:
            os.killpg(pid, signal.SIGKILL)
        log.seek(0)
        return code, log.read()


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False


def _wait(supervisor: subprocess.Popen[str], during: Callable[[], None]) -> int | None:
    """Wait for the end; None if the supervisor was stopped or hangs, and was killed for it."""
    give_up_at = time.monotonic() + HANGS_AFTER_S
    while time.monotonic() < give_up_at:
        pid, status = os.waitpid(supervisor.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            break
        if pid:
            supervisor.returncode = os.waitstatus_to_exitcode(status)
            return supervisor.returncode
        during()
        time.sleep(0.01)
    os.killpg(supervisor.pid, signal.SIGKILL)
    return None


def _record(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace") if path.is_file() else ""
    except OSError:
        return ""


# -- batches ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one attack."""

    open: bool
    by: str | None
    """Which part of the sandbox stopped it, as far as its error says; None if nothing did, or not as
    declared."""
    error: str
    """The error that the attack saw, and what changed on its victim."""


def program(names: Iterable[str]) -> str:
    """Return the named attacks and their runner as one file of Python."""
    modules = dict.fromkeys(WAYS[name].attack.__module__ for name in names)
    listed = ("attacks.toolbox", *modules, "attacks.runner")
    sources = {name: (ATTACKS / f"{name.partition('.')[2]}.py").read_text() for name in listed}
    return (
        "import sys, types\n"
        "sys.modules['attacks'] = types.ModuleType('attacks')\n"
        f"for name, text in {sources!r}.items():\n"
        "    sys.modules[name] = module = types.ModuleType(name)\n"
        "    exec(compile(text, name, 'exec'), module.__dict__)\n"
        "sys.modules['attacks.runner'].main(sys.argv[1], 'alone' in sys.argv)\n"
    )


def measure(batch: str, identity: Identity, *, sandboxed: bool, forked: bool = False) -> dict[str, Outcome]:
    """Try every way of a batch in one training and return what became of each."""
    with World(identity.uid) as world:
        ways = [way for way in BATCHES[batch] if identity.name in way.who and _possible(way, world)]
        world.victims(ways)
        before = world.everything()
        ended = run_ways(world, ways, identity, sandboxed=sandboxed, forked=forked)
        assert ended.record is not None, ended
        assert ended.record["returncode"] == 0, ended.log or ended
        outcomes = outcomes_of(world, ways, ended)
        if sandboxed and not any(outcome.open for outcome in outcomes.values()):
            after = world.everything()
            assert {path: after.get(path) for path in before} == before
            assert world.leaked() == []
        return outcomes


def _possible(way: Way, world: World) -> bool:
    return way.name != "run_a_setuid_program" or world.setuid is not None


def outcomes_of(world: World, ways: Sequence[Way], ended: Supervised) -> dict[str, Outcome]:
    """Return what became of the ways that a training has tried."""
    reports = _reports(ended)
    assert reports.keys() == {way.name for way in ways}, ended.log
    return {way.name: _outcome(way, reports[way.name], world) for way in ways}


def run_attack(
    world: World, name: str, identity: Identity, *options: str, sandboxed: bool, **more: Any
) -> Supervised:
    """Run one attack as a training of its own."""
    return _run(world, [name], identity, *options, sandboxed=sandboxed, alone=True, **more)


def run_ways(
    world: World, ways: Sequence[Way], identity: Identity, *, sandboxed: bool, **more: Any
) -> Supervised:
    """Run a training that tries the ways one after the other."""
    return _run(world, [way.name for way in ways], identity, sandboxed=sandboxed, **more)


def report_of(ended: Supervised, name: str) -> dict[str, Any]:
    """Return what an attack has reported; nothing if it did not live to do so."""
    return _reports(ended).get(name, {})


def _reports(ended: Supervised) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line[len(MARK) :]) for line in ended.log.splitlines() if line.startswith(MARK)]
    return {line["way"]: line for line in lines}


def _run(
    world: World,
    names: Sequence[str],
    identity: Identity,
    *options: str,
    sandboxed: bool,
    alone: bool = False,
    environment: Mapping[str, str] | None = None,
    forked: bool = False,
    **more: Any,
) -> Supervised:
    source = world.make_file(world.base / "program.py", program(names))
    here = world.run_dir / "work"
    plan = json.dumps({name: world.target(name, here) for name in names})
    reading = [text for path in (source, *world.readable_files()) for text in ("--read", str(path))]
    flags = ["-m", FORKED_PROGRAM] if forked else ["-I", "-S", "-B"]
    command = [identity.python, *flags, str(source), plan, *(["alone"] if alone else [])]
    if environment is None:
        environment = {"HOME": str(world.home)}
    return supervise(
        world.run_dir,
        command,
        identity,
        *reading,
        *options,
        sandboxed=sandboxed,
        environment=environment,
        forked=forked,
        **more,
    )


def _outcome(way: Way, report: dict[str, Any], world: World) -> Outcome:
    assert "crashed" not in report, report
    if way.seen == CLAIM:
        hit = report["text"] if report.get("got") else None
    elif way.seen == SECRET:
        hit = "the secret in the run's folder" if world.canary in report.get("text", "") else None
    elif way.seen in SERVERS:
        hit = "arrived" if world.was_reached(way.name) else None
    else:
        hit = world.was_hit(way.name)
    if hit is not None:
        return Outcome(True, None, hit.replace(world.canary, "...").replace(str(world.base), "..."))
    return layers_of(way, report)


def layers_of(way: Way, report: dict[str, Any], record: dict[str, Any] | None = None) -> Outcome:
    """Return by which part of the sandbox an attack was stopped, as its report shows."""
    assert "crashed" not in report, report
    if number := report.get("signal"):
        by = SECCOMP.name if number == signal.SIGSYS else None
        return Outcome(False, by, signal.Signals(number).name)
    code = report.get("errno", 0)
    layers = dict.fromkeys(layer.name for layer in way.by if code in layer.errors)
    # What did not live to report was ended, or has ended itself.
    error = errno_name(code) if report or not record else f"ended: {record['ended']}"
    return Outcome(False, " or ".join(layers) or None, error)


def errno_name(code: int) -> str:
    """Return the name of an error number, such as EPERM."""
    import errno

    return errno.errorcode.get(code, "no error" if code == 0 else str(code))

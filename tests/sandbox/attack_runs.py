"""Trainings that attack, under the real supervisor, and what became of their attacks."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attack_world import World, as_user
from attacks import everybody, files, kernel, network, processes
from attacks.runner import MARK
from attacks.toolbox import CLAIM, ROOT, SECCOMP, SECRET, SERVERS, USER, WAYS, Way

PROJECT = Path(__file__).resolve().parents[2]
ATTACKS = Path(__file__).resolve().parent / "attacks"
MODULES = {
    "files": files,
    "processes": processes,
    "everybody": everybody,
    "network": network,
    "kernel": kernel,
}
BATCHES = {
    batch: [way for way in WAYS.values() if way.attack.__module__ == module.__name__]
    for batch, module in MODULES.items()
}
NOBODY = 65533
"""A user without files and, unlike 65534, without processes of other tests."""
HANGS_AFTER_S = 60


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
    return [Identity(ROOT, 0, sys.executable), Identity(USER, NOBODY, "/usr/bin/python3")]


@functools.cache
def supports(option: str) -> bool:
    """Return whether the supervisor knows an option."""
    done = subprocess.run(
        [sys.executable, "-m", "nas_system.processes.supervisor", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return option in done.stdout


def work_folder(run_dir: Path) -> Path:
    """Return the only place where the training may write."""
    return run_dir / "work" if supports("--sandbox") else run_dir


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
) -> Supervised:
    """Run a command as training under the supervisor; `sandboxed` demands the whole sandbox."""
    environment = dict(environment or {})
    own = [identity.python, "-m", "nas_system.processes.supervisor", str(run_dir)]
    own += ["--attempt", str(attempt), "--time-limit", str(time_limit), "--grace", "0.5", *options]
    if supports("--sandbox"):
        own += ["--sandbox", "required" if sandboxed else "off"]
    elif not sandboxed:
        environment["NAS_SANDBOX"] = "off"
    supervisor = subprocess.Popen(
        [*own, "--", *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **as_user(identity.uid),
    )
    code = _wait(supervisor)
    _, errors = supervisor.communicate()
    return Supervised(code, _record(run_dir / "exit.json"), _text(run_dir / "train.log"), errors)


def _wait(supervisor: subprocess.Popen[str]) -> int | None:
    """Wait for the end; None if the supervisor was stopped or hangs, and was killed for it."""
    give_up_at = time.monotonic() + HANGS_AFTER_S
    while time.monotonic() < give_up_at:
        pid, status = os.waitpid(supervisor.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            break
        if pid:
            supervisor.returncode = os.waitstatus_to_exitcode(status)
            return supervisor.returncode
        time.sleep(0.01)
    supervisor.send_signal(signal.SIGKILL)
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


def program() -> str:
    """Return the attacks and their runner as one file of Python."""
    names = ("toolbox", *MODULES, "runner")
    sources = {f"attacks.{name}": (ATTACKS / f"{name}.py").read_text() for name in names}
    return (
        "import sys, types\n"
        "sys.modules['attacks'] = types.ModuleType('attacks')\n"
        f"for name, text in {sources!r}.items():\n"
        "    sys.modules[name] = module = types.ModuleType(name)\n"
        "    exec(compile(text, name, 'exec'), module.__dict__)\n"
        "sys.modules['attacks.runner'].main(sys.argv[1])\n"
    )


def measure(batch: str, identity: Identity, *, sandboxed: bool) -> dict[str, Outcome]:
    """Try every way of a batch in one training and return what became of each."""
    with World(identity.uid) as world:
        ways = [way for way in BATCHES[batch] if identity.name in way.who and _possible(way, world)]
        world.victims(ways)
        before = world.everything()
        here = work_folder(world.run_dir)
        source = world.make_file(world.base / "program.py", program())
        plan = json.dumps({way.name: world.target(way.name, here) for way in ways})
        reading = [text for path in (source, *world.readable_files()) for text in ("--read", str(path))]
        command = [identity.python, "-I", "-S", "-B", str(source), plan]
        ended = supervise(
            world.run_dir,
            command,
            identity,
            *reading,
            sandboxed=sandboxed,
            environment={"HOME": str(world.home)},
        )
        assert ended.record is not None, ended
        assert ended.record["returncode"] == 0, ended.log or ended
        lines = [json.loads(line[len(MARK) :]) for line in ended.log.splitlines() if line.startswith(MARK)]
        reports = {line["way"]: line for line in lines}
        assert reports.keys() == {way.name for way in ways}, ended.log
        outcomes = {way.name: _outcome(way, reports[way.name], world) for way in ways}
        if sandboxed and not any(outcome.open for outcome in outcomes.values()):
            after = world.everything()
            assert {path: after.get(path) for path in before} == before
        return outcomes


def _possible(way: Way, world: World) -> bool:
    return way.name != "run_a_setuid_program" or world.setuid is not None


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
    if number := report.get("signal"):
        by = SECCOMP.name if number == signal.SIGSYS else None
        return Outcome(False, by, signal.Signals(number).name)
    code = report["errno"]
    layers = dict.fromkeys(layer.name for layer in way.by if code in layer.errors)
    return Outcome(False, " or ".join(layers) or None, errno_name(code))


def errno_name(code: int) -> str:
    """Return the name of an error number, such as EPERM."""
    import errno

    return errno.errorcode.get(code, "no error" if code == 0 else str(code))


def as_json(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Return outcomes as they are recorded."""
    return {name: asdict(outcome) for name, outcome in outcomes.items()}

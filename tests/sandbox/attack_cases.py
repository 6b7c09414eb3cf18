"""Attacks that are a training each: how they are run, and what must be left of the run then."""

from __future__ import annotations

import contextlib
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attack_runs import Identity, Outcome, Supervised, layers_of, report_of, run_attack, supervise
from attack_world import World
from attacks.supervisor import MIB, RECORDS
from attacks.toolbox import WAYS

from nas_system.errors import StateError
from nas_system.files import read_record, write_json
from nas_system.processes.run_files import RunPaths
from nas_system.processes.run_lock import is_alive, supervisor_of

LARGEST_COPY = 2**34
MEMORY_MIB, DISK_MIB, PROCESSES = 96, 32, 100
RECORDED_AFTERWARDS = ("retried", "verdict", "hold_out")


@dataclass
class Case:
    """One attack, tried once."""

    name: str
    identity: Identity
    sandboxed: bool
    world: World
    runs: list[Supervised] = field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        """The folder of the attacked run."""
        return self.world.run_dir

    def attack(self, *options: str, **more: Any) -> Supervised:
        """Run the attack as the first attempt."""
        ended = run_attack(self.world, self.name, self.identity, *options, sandboxed=self.sandboxed, **more)
        self.runs.append(ended)
        return ended

    def go_on(self, run_dir: Path | None = None, attempt: int = 2) -> Supervised:
        """Run a harmless training, as the agent does after the attack."""
        command = [self.identity.python, "-I", "-S", "-c", "print('harmless')"]
        ended = supervise(
            run_dir or self.run_dir,
            command,
            self.identity,
            sandboxed=self.sandboxed,
            attempt=attempt,
            environment={"HOME": str(self.world.home)},
        )
        self.runs.append(ended)
        return ended

    def hit(self) -> str | None:
        """Return what has changed on the victim."""
        return self.world.was_hit(self.name)


Verdict = str | None
"""What the attack has achieved."""
CASES: dict[str, Callable[[Case], Verdict]] = {}


def case(*names: str) -> Callable[[Callable[[Case], Verdict]], Callable[[Case], Verdict]]:
    """Make a function the evaluation of attacks."""

    def register(evaluation: Callable[[Case], Verdict]) -> Callable[[Case], Verdict]:
        CASES.update(dict.fromkeys(names, evaluation))
        return evaluation

    return register


def measure_case(name: str, identity: Identity, *, sandboxed: bool) -> Outcome:
    """Try one attack and return what became of it."""
    way = WAYS[name]
    with World(identity.uid) as world:
        folder = world.make_folder(world.base / "victims" / name)
        for record in (*RECORDS, "run.lock"):
            world.make_file(folder / f"of {record}", "precious")
        world.victims([way])
        tried = Case(name, identity, sandboxed, world)
        achieved = CASES[name](tried)
        with contextlib.suppress(OSError):
            for path in Path("/dev/shm").glob(f"{world.outside.name}*"):
                path.unlink()
        if achieved is not None:
            return Outcome(True, None, achieved.replace(str(world.base), "..."))
        return layers_of(way, report_of(tried.runs[0], name), tried.runs[0].record)


# -- what must be left -----------------------------------------------------------------------------------


def unrecorded(ended: Supervised) -> Verdict:
    """Return what is wrong with the end of a run that must have been recorded."""
    if ended.code is None:
        return "the supervisor hangs"
    if ended.code != 0 or ended.record is None:
        return f"not recorded: {ended.errors.strip().splitlines()[-1:]}, exit code {ended.code}"
    return None


def bad_files(run_dir: Path, canary: str) -> Verdict:
    """Return a file of the run's folder, the training's own aside, that none of ours may be."""
    for path in run_dir.iterdir():
        if path.name == "work":
            continue
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{path.name} is {stat.filemode(status.st_mode)}"
        if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            return f"{path.name} is setuid"
        if status.st_size > LARGEST_COPY:
            return f"{path.name} has {status.st_size} bytes"
        with open(path, "rb") as file:
            if canary.encode() in file.read(64 * MIB):
                return f"{path.name} holds the secret"
    return None


@case("link_records", "hard_link_records", "link_lock", "hard_link_lock", "fifo_records")
def _records(tried: Case) -> Verdict:
    tried.attack()
    second = tried.go_on()
    for name in RECORDED_AFTERWARDS:  # by the agent
        with contextlib.suppress(OSError):
            write_json(getattr(RunPaths(tried.run_dir), name), {})
    return tried.hit() or ("the supervisor hangs" if second.code is None else None)


@case("link_folder_of_a_repeat")
def _folder_of_a_repeat(tried: Case) -> Verdict:
    tried.attack()
    folder = tried.run_dir / "repeats/seed_43"
    if not folder.exists():
        tried.world.make_folder(folder)
    tried.go_on(folder, attempt=1)
    return tried.hit()


@case("link_run_folder")
def _run_folder(tried: Case) -> Verdict:
    link = tried.run_dir.with_name("run_0002")
    link.symlink_to(tried.world.base / "victims" / tried.name)
    ended = tried.go_on(link, attempt=1)
    return tried.hit() or ("was started" if ended.code == 0 else None)


@case(
    "results_that_are_links",
    "results_that_are_hard_links",
    "results_that_never_end",
    "results_that_wait",
    "results_that_are_sockets",
    "results_that_are_devices",
    "results_that_are_folders",
    "results_with_privileges",
    "results_that_change",
    "results_that_grow",
)
def _results(tried: Case) -> Verdict:
    ended = tried.attack()
    return unrecorded(ended) or bad_files(tried.run_dir, tried.world.canary) or tried.hit()


@case("results_that_are_huge")
def _huge_results(tried: Case) -> Verdict:
    # Without a limit a checkpoint may have any size.
    limit = ("--disk-limit-mb", str(DISK_MIB))
    ended = tried.attack(*limit)
    return unrecorded(ended) or bad_files(tried.run_dir, tried.world.canary)


@case("folder_that_is_a_link")
def _folder_that_is_a_link(tried: Case) -> Verdict:
    ended = tried.attack()
    return tried.hit() or unrecorded(ended) or bad_files(tried.run_dir, tried.world.canary)


@case("empty_the_folder")
def _empty_the_folder(tried: Case) -> Verdict:
    config = tried.world.make_file(tried.run_dir / "config_used.py", "precious")
    ended = tried.attack()
    return unrecorded(ended) or (None if config.exists() else "config_used.py is gone")


@case("forge_end")
def _forge_end(tried: Case) -> Verdict:
    ended = tried.attack()
    return unrecorded(ended) or ("believed" if ended.record and ended.record["attempt"] != 1 else None)


@case("forge_process")
def _forge_process(tried: Case) -> Verdict:
    tried.attack()
    named = supervisor_of(tried.run_dir)
    stranger = tried.world.target(tried.name, tried.run_dir)["pid"]
    return "named as supervisor" if named and named.pid == stranger else tried.hit()


@case("forge_repeats")
def _forge_repeats(tried: Case) -> Verdict:
    tried.attack()
    return "repeats/ is there" if (tried.run_dir / "repeats").exists() else None


@case("verdict_that_is_a_folder")
def _verdict_that_is_a_folder(tried: Case) -> Verdict:
    tried.attack()
    path = RunPaths(tried.run_dir).verdict
    try:
        write_json(path, {"accepted": False})
    except OSError as error:
        return f"no verdict: {error.strerror}"
    return None if read_record(path) == {"accepted": False} else "no verdict"


@case("unlock")
def _unlock(tried: Case) -> Verdict:
    found: list[bool] = []
    log = tried.run_dir / "train.log"

    def look() -> None:
        if log.exists() and "unlocked" in log.read_text() and not (tried.run_dir / "exit.json").exists():
            with contextlib.suppress(StateError):
                found.append(is_alive(tried.run_dir))

    tried.attack(during=look)
    # At the very end nobody lives any more: the first looks count.
    assert found, "the training was never seen running"
    return None if found[0] else "the running training counts as dead"


@case(
    "kill_supervisor",
    "stop_supervisor",
    "limit_files_of_supervisor",
    "limit_time_of_supervisor",
    "trace_supervisor",
    "stop_agent",
    "limit_agent",
    "slow_down_agent",
)
def _processes(tried: Case) -> Verdict:
    return unrecorded(tried.attack(agent=True))


@case("stop_itself")
def _stop_itself(tried: Case) -> Verdict:
    ended = tried.attack(time_limit=1)
    reason = ended.record and ended.record["ended"]
    return unrecorded(ended) or (None if reason == "time_limit" else f"ended: {reason}")


@case("outlive", "outrun")
def _outlive(tried: Case) -> Verdict:
    ended = tried.attack()
    time.sleep(0.1)
    return unrecorded(ended) or ("still alive" if tried.world.is_alive() else None)


@case("outlive_a_killed_supervisor")
def _outlive_a_killed_supervisor(tried: Case) -> Verdict:
    log = tried.run_dir / "train.log"

    def kill() -> None:
        if log.exists() and "left" in log.read_text() and (supervisor := supervisor_of(tried.run_dir)):
            supervisor.send(signal.SIGKILL)

    ended = tried.attack(during=kill)
    assert ended.code == -signal.SIGKILL, ended
    # What the death of a supervisor does not end, the next attempt must.
    tried.go_on()
    time.sleep(0.1)
    return "still alive" if tried.world.is_alive() else None


def _within(tried: Case, option: str, value: int) -> Verdict:
    """Run under a limit. Not where the sandbox is off, which shows that the attack can do what it tries."""
    limit = (option, str(value)) if tried.sandboxed else ()
    ended = tried.attack(*limit)
    return unrecorded(ended) or ("all of it" if report_of(ended, tried.name).get("got") else None)


@case(
    "take_memory",
    "take_shared_memory",
    "take_memory_by_descriptor",
    "take_memory_by_files",
    "take_memory_by_pipes",
    "take_memory_in_a_message",
    "take_memory_and_give_it_up",
)
def _memory(tried: Case) -> Verdict:
    return _within(tried, "--memory-limit-mb", MEMORY_MIB)


@case(
    "fill_disk",
    "fill_disk_by_many",
    "fill_disk_by_a_deleted_file",
    "fill_disk_in_a_message",
    "fill_disk_in_a_closed_folder",
    "fill_disk_in_temporary_folder",
    "fill_disk_with_names",
    "make_a_huge_file",
)
def _disk(tried: Case) -> Verdict:
    return _within(tried, "--disk-limit-mb", DISK_MIB)


@case("fork_bomb", "zombie_bomb", "thread_bomb")
def _many(tried: Case) -> Verdict:
    return _within(tried, "--process-limit", PROCESSES)


@case("log_bomb")
def _log_bomb(tried: Case) -> Verdict:
    ended = tried.attack("--log-cap-bytes", str(MIB))
    size = (tried.run_dir / "train.log").stat().st_size
    return unrecorded(ended) or (f"{size} bytes" if size > MIB else None)


@case("exhaust_descriptors")
def _exhaust_descriptors(tried: Case) -> Verdict:
    return unrecorded(tried.attack())

"""A launcher whose fork server is ready, and what its trainings are looked at with."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nas_agent_graph.launchers.fork_server import CALLED, PROGRAM
from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.config_io.config_file import write_config
from nas_system.files import read_object
from nas_system.processes.job import Job
from nas_system.processes.process_tree import ProcessId, identify
from nas_system.processes.run_files import RunPaths
from nas_system.space import ForecastingTask, family_default

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "tests/launchers"
READY_S = 100.0


def launcher_of(program: str, sandbox: str = "required", **environment: str) -> LocalLauncher:
    """Return a launcher whose fork server is ready; the program lies next to this file, or is ours."""
    seen = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(HERE), **environment}
    calls = CALLED if program == PROGRAM else [program]
    launcher = LocalLauncher(environment=seen, sandbox=sandbox, forked_program=program, forked_calls=calls)
    launcher.warm_up(ROOT)
    server = launcher.fork_server
    assert server is not None
    assert server.wait_until_ready(READY_S), server.problem
    return launcher


def job(code: str, **limits: float | str | None) -> Job:
    command = (sys.executable, "-m", "forked_code", code)
    return Job(command=command, **{"time_limit_s": 60, **limits})  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < give_up_at, f"waited in vain for {what}"
        time.sleep(0.01)


def ended(launcher: LocalLauncher, run_dir: Path) -> dict[str, object]:
    """Wait for the end and return exit.json."""
    wait_for(lambda: launcher.survey([run_dir])[run_dir] != "running", "the end of the run")
    assert launcher.survey([run_dir])[run_dir] == "finished"
    return json.loads((run_dir / "exit.json").read_bytes())


def run(launcher: LocalLauncher, run_dir: Path, code: str, **limits: float | str | None) -> str:
    """Run code as a training to its end and return what it printed."""
    run_dir.mkdir(exist_ok=True)
    launcher.submit(run_dir, job(code, **limits), 1)
    ended(launcher, run_dir)
    return (run_dir / "train.log").read_text()


def process_of(run_dir: Path, who: str) -> ProcessId:
    wait_for(lambda: read_object(run_dir / "proc.json").get(who), who)
    return identify(read_object(run_dir / "proc.json")[who]["pid"])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


LOOK = """
import faulthandler, gc, json, os, random, resource, signal, sys, threading
import numpy
umask = os.umask(0)
handlers = {number.name: repr(signal.getsignal(number)) for number in signal.Signals if number != 9}
kinds = [name for name in dir(resource) if name.startswith("RLIMIT_")]
limits = {name: resource.getrlimit(getattr(resource, name)) for name in kinds}
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "environment": dict(os.environ), "folder": os.getcwd(), "umask": umask, "arguments": sys.argv[1:],
    "handlers": handlers, "limits": limits, "threads": threading.active_count(), "gc": gc.isenabled(),
    "descriptors": {name: os.readlink("/proc/self/fd/" + name).partition(":")[0]
                    for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)},
    "faulthandler": faulthandler.is_enabled(), "session": [stat[2] != stat[0], stat[3] != stat[0]],
    "status": {name: status[name] for name in ("CapEff", "CapPrm", "CapInh", "NoNewPrivs", "Seccomp",
               "SigBlk", "SigIgn", "SigCgt", "Uid", "Gid", "Threads", "Cpus_allowed")},
    "nice": os.nice(0), "dumpable": os.stat("/proc/self/environ").st_uid, "name": __name__,
    "oom": open("/proc/self/oom_score_adj").read(), "packages": [p for p in sys.path if "packages" in p],
}))
"""


def submit_training(
    launcher: LocalLauncher,
    run_dir: Path,
    family: str,
    threads: int,
    task: ForecastingTask,
    facts: Path,
    data: Path,
) -> None:
    config = family_default(family)
    training = config.training.model_copy(update={"max_epochs": 2, "warmup_epochs": 0})
    shape = config.data.model_copy(update={"seq_len": 24})
    config = config.model_copy(update={"task": task, "training": training, "data": shape})
    write_config(RunPaths(run_dir).config, config)
    command = [sys.executable, "-m", "nas_system.train", "--config", str(RunPaths(run_dir).config)]
    command += ["--facts", str(facts), "--runs-dir", str(run_dir.parent), "--tag", run_dir.name]
    command += ["--output-dir", str(run_dir / "work"), "--device", "cpu", "--pictures", "later"]
    command += ["--threads", str(threads)]
    package = config.model.needs_package
    launcher.submit(run_dir, Job(tuple(command), 300, package=package, readable=(facts, data)), 1)

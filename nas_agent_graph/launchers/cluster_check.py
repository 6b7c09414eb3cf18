"""Prove, from inside a job, that a cluster can train for a search: `nas doctor --launcher slurm`.

One small job is submitted exactly as a training is, with the same supervisor, environment and sandbox. What
it leaves in the shared folder, and what it finds on its node, is compared with what is true here.
"""

from __future__ import annotations

import contextlib
import json
import platform
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from nas_agent_graph.context import SearchLauncher
from nas_agent_graph.launchers.environment import SECRET
from nas_system.files import LARGEST_RECORD_BYTES, read_bounded, read_record
from nas_system.nas_agent.log_text import log_tail, one_line
from nas_system.processes.cluster_job import claim_attempt
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths

PATIENCE_S = 600.0
PROBE = "nas_system.processes.cluster_probe"
MOST_SKEW_S = 5.0
_LOOK_S = 0.5
_SAID_EVERY_S = 30.0


def check_cluster(name: str, launcher: SearchLauncher, workspace: Path, device: str = "auto") -> int:
    """Submit a job to the launcher called `name`, wait for it, and print what was found.

    Returns 0 if trainings can run there, 4 if something has to be fixed first. Raises ConfigError for flags
    that the engine refuses, SearchPaused if it cannot be asked.
    """
    launcher.check_device(device)
    print(f"{name} answers, and would take such a job.", flush=True)
    run_dir = workspace / "runs" / f"doctor_{secrets.token_hex(4)}"
    run_dir.mkdir(parents=True)
    job = Job(command=(sys.executable, "-m", PROBE), time_limit_s=300.0)
    submitted_at = time.time()
    try:
        launcher.submit(run_dir, job, 1)
        has_ended = _wait(launcher, run_dir)
    finally:
        if not RunPaths(run_dir).exit.exists():
            launcher.cancel(run_dir, force=True)
            time.sleep(2 * _LOOK_S)  # the request goes out on another thread
    if not has_ended:
        log = one_line(log_tail(run_dir) or _text(RunPaths(run_dir).supervisor_log), 500)
        print(
            f"\nTo fix: the job did not run to its end ({log or 'it left no word'}). Do the nodes see "
            f"{run_dir} and {sys.executable}? Both must lie in folders that all nodes share."
        )
        return 4
    problems = _examine(run_dir, submitted_at, time.time())
    shutil.rmtree(run_dir, ignore_errors=True)
    print()
    for problem in problems:
        print(f"To fix: {problem}.")
    if not problems:
        print("Trainings can run there.")
    return 4 if problems else 0


def _wait(launcher: SearchLauncher, run_dir: Path) -> bool:
    """Wait for the job; return whether it has ended on record."""
    began = said = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        state = launcher.survey([run_dir])[run_dir]
        if state in ("finished", "lost") or (state == "absent" and time.monotonic() - began > 1.0):
            return state == "finished"
        if time.monotonic() - said > _SAID_EVERY_S:
            said = time.monotonic()
            print(f"  after {said - began:.0f} s: {state}", flush=True)
        time.sleep(_LOOK_S)
    print(f"  it has been {state} for ten minutes, and is taken back")
    return False


def _examine(run_dir: Path, submitted_at: float, seen_at: float) -> list[str]:
    """Print a line for each thing that was looked at; return what has to be fixed."""
    paths, problems = RunPaths(run_dir), []
    claim, ended = read_record(paths.claim(1)) or {}, read_record(paths.exit) or {}
    found = _found(run_dir)

    def say(what: str, text: str, problem: str | None = None) -> None:
        print(f"  {what:<12} {text}")
        if problem is not None:
            problems.append(problem)

    job = claim.get("job") or (read_record(paths.place) or {}).get("name")
    say("node", f"{found.get('host') or claim.get('host')}, as job {job}")
    say("folder", f"{run_dir.parent.parent} is the same there and here")
    is_ours = not claim_attempt(run_dir, 1, "doctor")
    say(
        "claim",
        "made once, and seen here" if is_ours else "made twice",
        None
        if is_ours
        else f"{run_dir.parent} does not keep two hosts from making one file; use another folder",
    )
    skew_s = _skew(str(ended.get("started_at", "")), submitted_at, seen_at)
    far = skew_s > MOST_SKEW_S
    say(
        "clock",
        f"{skew_s:.0f} s apart at least" if far else "agrees",
        f"the node's clock is {skew_s:.0f} s off: times in reports will be, too; see to its NTP"
        if far
        else None,
    )
    if not found:
        say(
            "training",
            "printed nothing that can be read",
            f"the job failed: {one_line(log_tail(run_dir), 400)}",
        )
        return problems
    here, there = platform.python_version(), found.get("python")
    other = None if there == here else f"{sys.executable} is Python {here} here and {there} there"
    say("Python", f"{there}, {found.get('executable')}", other)
    memory = found.get("memory_mb")
    say(
        "share",
        f"{found.get('cores')} cores, {'unknown' if memory is None else f'{memory:,.0f}'} MiB of memory",
    )
    devices, visible = found.get("devices") or [], found.get("visible_devices")
    lacking = bool(visible) and not devices
    say(
        "GPU",
        f"{len(devices)} that torch can use; CUDA_VISIBLE_DEVICES is {visible or 'not set'}",
        f"the job has GPU {visible}, and torch finds none: {found.get('problem') or 'install a CUDA build'}"
        if lacking
        else None,
    )
    level = str(ended.get("confinement"))
    say("sandbox", level)
    keys = [name for name in found.get("variables", ()) if SECRET.search(str(name))]
    say(
        "secrets",
        ", ".join(keys) if keys else "no variable of the job looks like one",
        f"jobs see {', '.join(keys)}" if keys else None,
    )
    return problems


def _found(run_dir: Path) -> Mapping[str, Any]:
    """Return what the probe printed; empty if that cannot be read."""
    for line in _text(RunPaths(run_dir).log).splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return {}


def _skew(started_at: str, submitted_at: float, seen_at: float) -> float:
    """Return by how many seconds at least the node's clock is off, from when it says that the job began."""
    try:
        began_at = datetime.fromisoformat(started_at).timestamp()
    except ValueError:
        return 0.0
    return max(submitted_at - began_at, began_at - seen_at, 0.0)


def _text(path: Path) -> str:
    try:
        return read_bounded(path, LARGEST_RECORD_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return ""

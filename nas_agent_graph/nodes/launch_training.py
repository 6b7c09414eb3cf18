"""Train the configuration in its own process, or take up a training that is already running."""

from __future__ import annotations

from typing import Any

from nas_agent_graph.context import Context, SearchInterrupted
from nas_agent_graph.state import SearchState
from nas_system.errors import StateError
from nas_system.nas_agent.config_file import write_config
from nas_system.nas_agent.job import Job, hard_limit_s
from nas_system.nas_agent.logging_utils import load_history
from nas_system.nas_agent.outcome import Outcome, Status, read_outcome
from nas_system.nas_agent.records import save_record
from nas_system.nas_agent.run_manager import RunPaths

POLL_S = 0.1
FORCE_AFTER_S = 30.0
"""How long a stopped training may take to end by itself before it is killed."""
DEFAULT_RUN_SECONDS = 24 * 3600.0
NOT_ITS_FAULT = (Status.LOST, Status.KILLED)
"""Ends that say nothing about the configuration: tried once more, from where the training stood."""


def launch_training(state: SearchState, context: Context) -> dict[str, Any]:
    """Returns when the run, and for the baseline its repeats with other seeds, have ended."""
    run_id = state["run_id"]
    paths = context.ledger.paths(run_id)
    train_to_the_end(paths, run_id, context)
    if not context.ledger.state.runs and read_outcome(paths.folder).status is Status.OK:
        for number in range(1, context.limits.repeat_baseline + 1):
            seed = context.base.seed + number
            repeat = RunPaths(paths.folder / "repeats" / f"seed_{seed}")
            repeat.folder.mkdir(parents=True, exist_ok=True)
            if not repeat.config.exists():
                write_config(repeat.config, context.base.model_copy(update={"seed": seed}))
            label = f"{run_id}, repeat {number} of {context.limits.repeat_baseline} with seed {seed}"
            train_to_the_end(repeat, label, context)
    return {}


def train_to_the_end(paths: RunPaths, label: str, context: Context) -> None:
    """Submit, adopt or harvest, by what the run's folder says; never two processes for one run."""
    if context.launcher.poll(paths.folder) == "running":
        context.progress.note(f"{label}: its training outlived an earlier agent and is adopted")
    while True:
        found = context.launcher.poll(paths.folder)
        if found == "running":
            _watch(paths, label, context)
            continue
        if found == "absent":
            attempt = 1
        else:
            outcome = read_outcome(paths.folder)
            if not _goes_on(paths, outcome):
                return
            attempt = outcome.attempt + 1
        context.launcher.submit(paths.folder, _job(paths, context), attempt)
        _watch(paths, label, context)


def _goes_on(paths: RunPaths, outcome: Outcome) -> bool:
    """Whether another attempt is due: always after a stop on request, once after an end from outside."""
    if outcome.status is Status.STOPPED:
        return True
    if outcome.status not in NOT_ITS_FAULT or paths.retried.exists():
        return False
    save_record(paths.retried, {"attempt": outcome.attempt, "status": outcome.status, "cause": outcome.cause})
    return True


def _watch(paths: RunPaths, label: str, context: Context) -> None:
    """Wait for the training; pass a stop request on to it and leave once it has ended."""
    stop, clock = context.stop, context.clock
    asked_at: float | None = None
    stop.waiting = True
    try:
        while context.launcher.poll(paths.folder) == "running":
            if stop.signal is not None and asked_at is None:
                asked_at = clock.monotonic()
                context.launcher.cancel(paths.folder)
            if asked_at is not None and (stop.force or clock.monotonic() - asked_at > FORCE_AFTER_S):
                context.launcher.cancel(paths.folder, force=True)
            context.progress.training(paths.folder.name, label, _history(paths))
            clock.sleep(POLL_S)
    finally:
        stop.waiting = False
    if stop.signal is not None:
        raise SearchInterrupted(stop.signal)


def _job(paths: RunPaths, context: Context) -> Job:
    soft = context.limits.run_seconds
    command = [
        *context.train_command,
        *("--config", str(paths.config)),
        *("--runs-dir", str(paths.folder.parent)),
        *("--tag", paths.folder.name),
        "--resume",
    ]
    if soft is not None:
        command += ["--time-limit", f"{soft:g}"]
    hard = DEFAULT_RUN_SECONDS if soft is None else hard_limit_s(soft)
    return Job(command=tuple(command), time_limit_s=hard)


def _history(paths: RunPaths) -> dict[str, Any] | None:
    try:
        return load_history(paths.folder)
    except StateError:
        return None

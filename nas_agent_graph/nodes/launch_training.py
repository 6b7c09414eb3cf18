"""Train the configuration in its own process, or adopt a training that is already running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas_agent_graph.context import Context, RunState
from nas_agent_graph.state import SearchState, StateUpdate
from nas_system.config_io.config_file import write_config
from nas_system.errors import RunError, SearchPaused, StateError
from nas_system.files import read_record, write_json
from nas_system.nas_agent.logging_utils import load_history
from nas_system.nas_agent.outcome import Outcome, Status
from nas_system.nas_agent.run_folders import make_run_folder, refuse_links_in
from nas_system.processes.job import Job, hard_limit_s
from nas_system.processes.run_files import FACTS_FILE, RunPaths

POLL_S = 0.1
FORCE_AFTER_S = 30.0
"""How long a stopped training may take to end by itself before it is killed."""
DEFAULT_RUN_SECONDS = 24 * 3600.0


def launch_training(state: SearchState, context: Context) -> StateUpdate:
    """Return when the run, and for the base config its repeats with other seeds, have ended.

    The repeats are as long as the run was planned: their spread is the seed's alone.
    """
    run_id = state["run_id"]
    paths = context.ledger.paths(run_id)
    train_to_the_end(paths, run_id, context)
    if not context.ledger.state.runs and context.outcome(paths.folder).status is Status.OK:
        refuse_links_in(paths.folder)
        planned = _planned_under(paths)
        for number in range(1, context.limits.repeat_base + 1):
            seed = context.base.seed + number
            repeat = RunPaths(paths.folder / "repeats" / f"seed_{seed}")
            make_run_folder(repeat.folder)
            if not repeat.config.exists():
                write_config(repeat.config, context.base.model_copy(update={"seed": seed}))
            label = f"{run_id}, repeat {number} of {context.limits.repeat_base} with seed {seed}"
            train_to_the_end(repeat, label, context, planned)
    return {}


def train_to_the_end(paths: RunPaths, label: str, context: Context, planned_under: int | None = None) -> None:
    """Submit, adopt or harvest, by what the run's folder says; never two processes for one run.

    `planned_under` gives the most optimizer steps in place of the search's own limits.
    """
    # A signal must not come between the start of a supervisor and the files that tell of it: the
    # training would outlive an agent that knows of none.
    with context.stop.held_back():
        if _survey(paths, context) == "running":
            context.progress.note(f"{label}: its training outlived an earlier agent and is adopted")
        while True:
            found = _survey(paths, context)
            if found == "running":
                _watch(paths, label, context)
                continue
            attempt = 1
            if found != "absent":
                outcome = context.outcome(paths.folder)
                if not _goes_on(paths, outcome, context):
                    return
                attempt = outcome.attempt + 1
            context.stop.check()
            _submit(paths, attempt, context, planned_under)


def _planned_under(paths: RunPaths) -> int | None:
    """Return the most steps that a finished training was planned under; None if it does not say."""
    plan = (read_record(paths.metrics) or {}).get("plan")
    most = plan.get("most_steps") if isinstance(plan, dict) else None
    return most if type(most) is int and most >= 1 else None


def _survey(paths: RunPaths, context: Context) -> RunState:
    return context.launcher.survey([paths.folder])[paths.folder]


def _submit(paths: RunPaths, attempt: int, context: Context, planned_under: int | None) -> None:
    """Start the attempt. Raises OSError where there is no space for it."""
    context.disk.require(paths.folder)
    try:
        context.launcher.submit(paths.folder, _job(paths, context, planned_under), attempt)
    except RunError:
        # A supervisor that cannot write its first file does not begin; for space it is worth waiting.
        context.disk.prove(paths.folder)
        raise


def _goes_on(paths: RunPaths, outcome: Outcome, context: Context) -> bool:
    """Return whether another attempt is due, from where the training stood: always after a stop on request,
    once after an end that came from outside and says nothing about the configuration, a full disk included.

    Raises OSError while the disk is still full, SearchPaused if the machine refuses the second start as well.
    """
    if outcome.status is Status.STOPPED and outcome.requested:
        return True
    disk_full = outcome.status is Status.DISK_FULL
    if not (disk_full or outcome.came_from_outside):
        return False
    retried = read_record(paths.retried)
    if retried is not None:
        if outcome.refused and retried.get("attempt") != outcome.attempt:
            paths.retried.unlink()  # when the search goes on, this is forgotten
            raise SearchPaused(f"{outcome.cause}. What was trained is kept: then give the same command again")
        # The same attempt once more: an earlier agent died between this decision and the start.
        return retried.get("attempt") == outcome.attempt
    if disk_full:
        context.disk.prove(paths.folder)
    write_json(paths.retried, {"attempt": outcome.attempt, "status": outcome.status, "cause": outcome.cause})
    return True


def _watch(paths: RunPaths, label: str, context: Context) -> None:
    """Wait for the training; pass a stop request on to it and leave once it has ended."""
    stop, clock = context.stop, context.clock
    asked_at: float | None = None
    while _survey(paths, context) == "running":
        if stop.signal is not None and asked_at is None:
            asked_at = clock.monotonic()
            context.launcher.cancel(paths.folder)
        if asked_at is not None and (stop.force or clock.monotonic() - asked_at > FORCE_AFTER_S):
            context.launcher.cancel(paths.folder, force=True)
        context.progress.training(paths.folder.name, label, _history(paths))
        clock.sleep(POLL_S)
    stop.check()


def _job(paths: RunPaths, context: Context, planned_under: int | None) -> Job:
    compute_s = context.limits.run_seconds
    command = [
        *context.train_command,
        *("--config", str(paths.config)),
        *("--runs-dir", str(paths.folder.parent)),
        *("--tag", paths.folder.name),
        *("--output-dir", str(paths.work)),
        "--resume",
    ]
    if planned_under is None:
        command += context.limits.flags_of_a_run()
    else:
        command += ["--max-steps", str(planned_under)]
    memory_mb = context.limits.memory_mb
    if memory_mb is not None:
        command += ["--memory-limit", str(memory_mb)]
    return Job(
        command=tuple(command),
        time_limit_s=DEFAULT_RUN_SECONDS if compute_s is None else hard_limit_s(compute_s),
        silence_limit_s=context.limits.silence_seconds,
        memory_limit_mb=memory_mb,
        disk_limit_mb=context.limits.disk_mb,
        readable=_needed_files(context),
    )


def _needed_files(context: Context) -> tuple[Path, ...]:
    """Return the data and the task info, which may lie in a hidden folder of the home folder."""
    data = context.info.source.path
    return (context.ledger.runs_dir / FACTS_FILE, *([data] if data else []))


def _history(paths: RunPaths) -> dict[str, Any] | None:
    try:
        return load_history(paths.folder)
    except StateError:
        return None

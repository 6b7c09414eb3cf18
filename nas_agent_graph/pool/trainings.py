"""Each training from its start to its end, by what its folder says: submit, adopt, try again, harvest.

Never two processes for one run: a training's folder is its handle, and whoever starts or adopts it looks
there first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_agent_graph.analysis.pruning import Curve, EndedRun, evidence
from nas_agent_graph.context import IN_PROGRESS, Context, Launcher, RunState
from nas_agent_graph.launchers.place import has_outgrown_estimate
from nas_agent_graph.search_view import CONTINUED
from nas_system.config_io.config_file import write_config
from nas_system.errors import RunError, SearchPaused
from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import get_run, get_run_in_progress, is_repeat, parts_of_repeat
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.logging_utils import planned_under
from nas_system.nas_agent.outcome import Outcome, Status
from nas_system.nas_agent.pruned import read_pruned, write_pruned
from nas_system.nas_agent.run_folders import make_run_folder, refuse_links_in
from nas_system.processes.cluster_job import last_claim
from nas_system.processes.job import Job, hard_limit_s
from nas_system.processes.run_files import FACTS_FILE, RunPaths
from nas_system.processes.run_lock import attempt_in

POLL_S = 0.1
FORCE_AFTER_S = 30.0
"""How long stopped trainings may take to end by themselves before they are killed."""
DEFAULT_RUN_SECONDS = 24 * 3600.0
MOST_INTERRUPTIONS = 20
"""Attempts at a training on a cluster, which may take its node away for others again and again."""
MOST_QUEUED, QUEUED_SHARE = 2, 16
"""Trainings that wait for a node of a cluster, at most: two, or one of so many slots if that is more. They
were proposed with what was known then, so they are to be few. But a job needs about a second to begin even
where nodes are free: two at a time keep 100 slots busy with trainings of a minute, and no more."""


@dataclass(frozen=True)
class Training:
    """One training of a run: its own, or with another seed."""

    run_id: str
    """Of what holds the slot: the run, also for the base config's repeats; or the repeat."""
    paths: RunPaths
    label: str
    """Its name for people."""
    planned_under: int | None = None
    """Most optimizer steps, in the place of the search's own limits."""


def launch(run_id: str, context: Context) -> None:
    """Start the run's training, or adopt it if it runs already; one that has ended is left as it is."""
    training = _training(run_id, context)
    folder = training.paths.folder
    # A signal must not come between the start of a supervisor and the files that tell of it: the
    # training would outlive an agent that knows of none.
    with context.stop.held_back():
        found = _state_of(training, context)
        if found in IN_PROGRESS:
            context.progress.note(f"{run_id}: {_ADOPTED[found]}")
        elif found == "absent":
            context.stop.check()
            _submit(training, last_claim(folder) + 1, context)


_ADOPTED = {
    "running": "its training outlived an earlier agent and is adopted",
    "queued": "its job waits for a node since an earlier agent, and is adopted",
    "unknown": "an earlier agent sent it to a cluster, which has not said yet how it stands",
}


def is_queue_full(context: Context) -> bool:
    """Return whether so many trainings wait for a node of a cluster that no further one is proposed."""
    folders = [context.ledger.paths(run.run_id).folder for run in context.ledger.state.in_progress]
    most = max(MOST_QUEUED, context.slots.total // QUEUED_SHARE)
    return context.launcher.n_queued(folders) >= most


def _training(training_id: str, context: Context) -> Training:
    """Return a run's own training, or a repeat; that is as long as the run was planned."""
    paths = context.ledger.paths(training_id)
    if not is_repeat(training_id):
        return Training(training_id, paths, training_id)
    run_id, seed = parts_of_repeat(training_id)
    label = f"{run_id}, once more with seed {seed}"
    return Training(training_id, paths, label, planned_under(context.ledger.paths(run_id)))


def await_end(run_ids: Sequence[str], context: Context) -> str:
    """Return the first of the runs that has ended for good; on a stop request end all and raise.

    A run has ended when its training and, for the first run of a search, those with other seeds have, and no
    further attempt is due.
    """
    ended = _await(run_ids, context, lambda: False)
    assert ended is not None, "nothing else is waited for"
    return ended


def await_room(run_ids: Sequence[str], context: Context) -> bool:
    """Return whether a further training may wait for a node, once it may or one of the runs has ended; on a
    stop request end all and raise."""
    return _await(run_ids, context, lambda: not is_queue_full(context)) is None


def _await(run_ids: Sequence[str], context: Context, is_enough: Callable[[], bool]) -> str | None:
    """Return the first of the runs that has ended for good; None if it is enough to have looked at them."""
    stop, clock = context.stop, context.clock
    asked_at: float | None = None
    epochs: dict[Path, int] = {}
    with stop.held_back():
        while True:
            ended = _ended_of(run_ids, context, epochs)
            if stop.signal is None and ended:
                first = min(ended, key=lambda run_id: (_ended_at(run_id, context), run_id))
                context.ended.pop(first, None)
                return first
            if stop.signal is None and is_enough():
                return None
            if stop.signal is not None:
                force = asked_at is not None and (stop.force or clock.monotonic() - asked_at > FORCE_AFTER_S)
                folders = [folder for run_id in run_ids for folder in folders_of(run_id, context.ledger)]
                running = still_to_end(folders, context.launcher, forced=force)
                if context.detaches or not running:
                    stop.check()
                for folder in running if asked_at is None or force else ():
                    context.launcher.cancel(folder, force=force)
                asked_at = clock.monotonic() if asked_at is None else asked_at
            clock.sleep(POLL_S)


def _ended_of(run_ids: Sequence[str], context: Context, epochs: dict[Path, int]) -> list[str]:
    """Look at the runs, as `_advance` does; return those that have ended for good.

    What has ended and waits for its verdict is not looked at again while the same end is on record: where
    runs end faster than verdicts are written, that is many.
    """
    trainings = {run_id: _training(run_id, context) for run_id in run_ids}
    left = {run_id: own for run_id, own in trainings.items() if not _has_known_end(own, context)}
    found = context.launcher.survey([own.paths.folder for own in left.values()])
    for run_id, own in left.items():
        if not _advance(own, found[own.paths.folder], context, epochs):
            del trainings[run_id]
        elif (end := context.ledger.end(own.paths)) is not None:
            context.ended[run_id] = end
    return list(trainings)


def _has_known_end(own: Training, context: Context) -> bool:
    known = context.ended.get(own.run_id)
    return known is not None and known == context.ledger.end(own.paths)


def folders_of(run_id: str, ledger: Ledger) -> list[Path]:
    """Return the folders of a run's trainings. A link is no run of ours: what trains there is another's."""
    folder = ledger.paths(run_id).folder
    return [folder, *(path for path in sorted((folder / "repeats").glob("seed_*")) if not path.is_symlink())]


def still_to_end(folders: Sequence[Path], launcher: Launcher, *, forced: bool) -> list[Path]:
    """Return the trainings that a stopped search has to end; once they are `forced` to, none of which nobody
    can tell how it stands: the next agent finds it."""
    awaited = IN_PROGRESS - {"unknown"} if forced else IN_PROGRESS
    return [folder for folder, found in launcher.survey(folders).items() if found in awaited]


def _advance(own: Training, found: RunState, context: Context, epochs: dict[Path, int]) -> bool:
    """Look at a run's trainings, start what is due and stop what cannot win; return whether all have ended.

    `found` is how its own training stands; `epochs` holds how many epochs of each have been looked at.
    """
    if not _has_ended(own, found, context):
        if context.ledger.state.runs and not is_repeat(own.run_id):
            _stop_early(own.paths, context, epochs)
        return False
    n_running = 0
    for repeat in _due_repeats(own, context):
        n_running += not _has_ended(repeat, _state_of(repeat, context), context)
        if n_running == context.slots.parallel_repeats(context.ledger.state, own.run_id):
            break
    return n_running == 0


def _due_repeats(own: Training, context: Context) -> Iterator[Training]:
    """Yield the repeats of a search's first run, as many side by side as there are slots.

    They are as long as the run was planned: their spread is the seed's alone.
    """
    number_of_repeats = context.limits.repeat_base
    if context.ledger.state.runs or context.outcome(own.paths.folder).status is not Status.OK:
        return
    refuse_links_in(own.paths.folder)
    planned = planned_under(own.paths)
    for number in range(1, number_of_repeats + 1):
        seed = context.base.seed + number
        repeat = RunPaths(own.paths.folder / "repeats" / f"seed_{seed}")
        make_run_folder(repeat.folder)
        if not repeat.config.exists():
            write_config(repeat.config, context.base.model_copy(update={"seed": seed}))
        label = f"{own.run_id}, repeat {number} of {number_of_repeats} with seed {seed}"
        yield Training(own.run_id, repeat, label, planned)


def _state_of(training: Training, context: Context) -> RunState:
    folder = training.paths.folder
    return context.launcher.survey([folder])[folder]


def _has_ended(training: Training, found: RunState, context: Context) -> bool:
    """Return whether the training, which stands as it was `found`, has ended and no further attempt is due;
    start what is due."""
    folder = training.paths.folder
    while True:
        if found in IN_PROGRESS:
            if found == "running":
                history = context.ledger.history(training.paths)
                context.progress.training(folder.name, training.label, history)
            return False
        if found == "absent":
            attempt = last_claim(folder) + 1
        else:
            outcome = context.outcome(folder)
            if not _goes_on(training, outcome, context):
                return True
            attempt = outcome.attempt + 1
        if context.slots.must_wait(context.ledger.state, training.run_id):
            return False  # until the others on its device have ended
        if context.stop.signal is not None:
            return False
        _submit(training, attempt, context)
        found = _state_of(training, context)


def _stop_early(paths: RunPaths, context: Context, epochs: dict[Path, int]) -> None:
    """Ask the training to end if it cannot win, by the search's rule; the evidence is on disk before that."""
    folder, state, rule = paths.folder, context.ledger.state, context.limits.stop_early
    history = context.ledger.history(paths) if rule is not None else None
    curve = Curve.of(history, state.metric)
    if rule is None or curve is None or epochs.get(folder) == len(curve.scores):
        return
    epochs[folder] = len(curve.scores)
    if context.ledger.proposal(folder.name).get("proposer") == CONTINUED:
        return
    attempt = attempt_in(read_record(paths.process))
    if read_pruned(folder, attempt) is None:
        found = evidence(rule, curve, _ended_runs(context), state.direction)
        if found is None:
            return
        write_pruned(folder, found, attempt)
        context.progress.note(f"{folder.name}: {found.cause(state.metric)}")
    # An earlier agent may have died between the evidence and the request.
    context.launcher.cancel(folder)


def _ended_runs(context: Context) -> list[EndedRun]:
    trainings = context.base.task.trainings
    ledger = context.ledger
    return [
        EndedRun.of(run, ledger.history(ledger.paths(run.run_id)), trainings=trainings)
        for run in ledger.state.runs
    ]


def _submit(training: Training, attempt: int, context: Context) -> None:
    """Start the attempt. Raises OSError where there is no space for it."""
    folder = training.paths.folder
    context.disk.require(folder)
    try:
        context.launcher.submit(folder, _job(training, context), attempt)
    except RunError:
        # A supervisor that cannot write its first file does not begin; for space it is worth waiting.
        context.disk.prove(folder)
        raise


def _ended_at(run_id: str, context: Context) -> str:
    """Return when the run's training ended, as its supervisor wrote it down; empty if it could not."""
    return str((context.ledger.end(context.ledger.paths(run_id)) or {}).get("ended_at", ""))


def _goes_on(training: Training, outcome: Outcome, context: Context) -> bool:
    """Return whether another attempt is due, from where the training stood: always after a stop on request,
    once after an end that came from outside and says nothing about the configuration, a full disk included,
    and once with more memory: a whole GPU after a share of it, twice the host memory after an estimate of it.

    Raises OSError while the disk is still full, SearchPaused if the machine refuses the second start as well.
    """
    if outcome.status is Status.STOPPED and outcome.requested:
        return outcome.attempt < MOST_INTERRUPTIONS or not training.paths.place.exists()
    paths, disk_full = training.paths, outcome.status is Status.DISK_FULL
    crowded = outcome.status is Status.OOM_GPU and context.slots.shares_devices
    outgrown = has_outgrown_estimate(paths.folder, outcome)
    if not (disk_full or crowded or outgrown or outcome.came_from_outside):
        return False
    retried = read_record(paths.retried)
    if retried is not None and not ((crowded or outgrown) and retried.get("status") != outcome.status):
        if outcome.refused and retried.get("attempt") != outcome.attempt:
            paths.retried.unlink()  # when the search goes on, this is forgotten
            raise SearchPaused(f"{outcome.cause}. What was trained is kept: then give the same command again")
        # The same attempt once more: an earlier agent died between this decision and the start.
        return retried.get("attempt") == outcome.attempt
    if disk_full:
        context.disk.prove(paths.folder)
    if crowded:
        context.ledger.lease_alone(training.run_id)
    write_json(paths.retried, {"attempt": outcome.attempt, "status": outcome.status, "cause": outcome.cause})
    return True


def _job(training: Training, context: Context) -> Job:
    paths, compute_s = training.paths, context.limits.run_seconds
    command = [
        *context.train_command,
        *("--config", str(paths.config)),
        *("--runs-dir", str(paths.folder.parent)),
        *("--tag", paths.folder.name),
        *("--output-dir", str(paths.work)),
        "--resume",
    ]
    if training.planned_under is None:
        command += context.limits.flags_of_a_run()
    else:
        command += ["--max-steps", str(training.planned_under)]
    memory_mb = context.limits.memory_mb
    if memory_mb is not None:
        command += ["--memory-limit", str(memory_mb)]
    environment: tuple[tuple[str, str], ...] = ()
    run = get_run_in_progress(context.ledger.state, training.run_id)
    if run is not None and run.device is not None:
        environment = (("CUDA_VISIBLE_DEVICES", run.device),)
        if context.slots.is_packed(context.ledger.state, training.run_id):
            command += ["--gpu-share", f"{context.slots.gpus_per_run:g}"]
    return Job(
        command=tuple(command),
        environment=environment,
        continues=_continues(training, context),
        package=_package(training.run_id, context),
        time_limit_s=DEFAULT_RUN_SECONDS if compute_s is None else hard_limit_s(compute_s),
        silence_limit_s=context.limits.silence_seconds,
        memory_limit_mb=memory_mb,
        disk_limit_mb=context.limits.disk_mb,
        readable=_needed_files(context),
    )


def _package(training_id: str, context: Context) -> str | None:
    """Return the optional package that the training's model is built on."""
    run_id = parts_of_repeat(training_id)[0] if is_repeat(training_id) else training_id
    config = context.ledger.config(run_id)
    return None if config is None else config.model.needs_package


def _continues(training: Training, context: Context) -> Path | None:
    """Return the folder of the stopped training that this one is the rest of; where its checkpoint is gone,
    the same configuration trains from the start."""
    proposal = context.ledger.proposal(training.run_id)
    parent = proposal.get("parent")
    if proposal.get("proposer") != CONTINUED or get_run(context.ledger.state, str(parent)) is None:
        return None
    paths = context.ledger.paths(str(parent))
    if not RunPaths(paths.work).last.is_file():
        context.progress.note(
            f"{training.run_id}: the checkpoint of {parent} is gone; it trains from the start"
        )
        return None
    return paths.folder


def _needed_files(context: Context) -> tuple[Path, ...]:
    """Return the data and the task info, which may lie in a hidden folder of the home folder."""
    data = context.info.source.path
    return (context.ledger.runs_dir / FACTS_FILE, *([data] if data else []))

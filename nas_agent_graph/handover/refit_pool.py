"""Trains refits, as many side by side as there are slots, within what is left of the search's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import IN_PROGRESS, Clock, Launcher, StopRequest
from nas_agent_graph.handover.refits import Refit
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.launchers.place import has_outgrown_estimate
from nas_agent_graph.pool.slots import Slots
from nas_agent_graph.pool.trainings import DEFAULT_RUN_SECONDS, FORCE_AFTER_S, POLL_S, still_to_end
from nas_system.config_io.config_file import write_config
from nas_system.errors import RunError, StateError
from nas_system.files import read_record
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.outcome import Outcome, Status, read_outcome
from nas_system.nas_agent.recommended import Training
from nas_system.nas_agent.run_folders import make_run_folder
from nas_system.processes.cluster_job import last_claim
from nas_system.processes.job import Job, hard_limit_s
from nas_system.processes.run_files import FACTS_FILE, RunPaths

MOST_ATTEMPTS = 2


@dataclass(frozen=True)
class Refitted:
    """What came of some refits."""

    trained: tuple[tuple[Refit, Training], ...]
    """Those that ended well, in their order."""
    not_begun: tuple[Refit, ...] = ()
    """Those for which no time was left."""


@dataclass(frozen=True)
class RefitPool:
    """Trains refits with the means of the search, and within its limits."""

    ledger: Ledger
    launcher: Launcher
    limits: Limits
    slots: Slots
    train_command: tuple[str, ...]
    data: Path | None
    disk: DiskSpace
    stop: StopRequest
    clock: Clock
    note: Callable[[str], None]
    detaches: bool = False
    """Whether what trains goes on when the search is stopped."""
    ends_at: float | None = None
    """By the clock's `monotonic`, when the search's time is over; None: never."""

    def train(self, refits: Sequence[Refit]) -> Refitted:
        """Train those that have not ended; one that is estimated to take longer than what is left of the
        search's time does not begin, and what has begun is brought to its end.

        Ends all and raises SearchInterrupted on a stop request.
        """
        waiting, running, not_begun = list(refits), list[Refit](), list[Refit]()
        with self.stop.held_back():
            while waiting or running:
                if self.stop.signal is not None:
                    self._end(running)
                    break
                running = [refit for refit in running if not self._has_ended(refit)]
                while waiting and len(running) < self.slots.total:
                    refit = waiting.pop(0)
                    if self._is_too_long(refit):
                        not_begun.append(refit)
                    elif not self._has_ended(refit):
                        running.append(refit)
                if running:
                    self.clock.sleep(POLL_S)
        return Refitted(tuple(self._ended_well(refits, not_begun)), tuple(not_begun))

    @property
    def seconds_left(self) -> float | None:
        """Return what is left of the search's time; None where it has no limit."""
        return None if self.ends_at is None else max(self.ends_at - self.clock.monotonic(), 0.0)

    def _is_too_long(self, refit: Refit) -> bool:
        left = self.seconds_left
        if left is None or refit.seconds <= left:
            return False
        return self.launcher.survey([refit.paths.folder])[refit.paths.folder] == "absent"

    def _has_ended(self, refit: Refit) -> bool:
        """Return whether it has ended and no further attempt is due; start what is due."""
        folder = refit.paths.folder
        state = self.launcher.survey([folder])[folder]
        if state in IN_PROGRESS:
            return False
        attempt = last_claim(folder) + 1
        if state != "absent":
            outcome = read_outcome(folder, is_running=self.launcher.is_running)
            attempt = outcome.attempt + 1
            if refit.weights is not None or not _goes_on(refit, outcome):
                return True
        try:
            self._submit(refit, attempt)
        except (RunError, StateError) as error:
            self.note(f"{refit.label}: {error}")
            return True
        return False

    def _submit(self, refit: Refit, attempt: int) -> None:
        folder = refit.paths.folder
        make_run_folder(folder.parent.parent)
        if folder.parent.is_symlink() or folder.is_symlink():
            raise StateError(f"{folder} is reached through a link; remove it")
        self.disk.require(folder.parent.parent)
        folder.mkdir(parents=True, exist_ok=True)
        write_config(refit.paths.config, refit.config)
        self.launcher.submit(folder, self._job(refit), attempt)

    def _job(self, refit: Refit) -> Job:
        paths, limits = refit.paths, self.limits
        command = [
            *self.train_command,
            *("--config", str(paths.config)),
            *("--runs-dir", str(paths.folder.parent)),
            *("--tag", paths.folder.name),
            *("--output-dir", str(paths.work)),
            *("--through", str(refit.through), "--epochs", str(refit.epochs)),
            "--resume",
        ]
        if refit.most_steps is not None:
            command += ["--max-steps", str(refit.most_steps)]
        environment: tuple[tuple[str, str], ...] = ()
        if self.slots.devices:
            place = sum(map(ord, f"{refit.run_id}/{paths.folder.name}")) % len(self.slots.devices)
            environment = (("CUDA_VISIBLE_DEVICES", self.slots.devices[place]),)
        bound = hard_limit_s(refit.seconds) if refit.seconds else DEFAULT_RUN_SECONDS
        return Job(
            command=tuple(command),
            environment=environment,
            time_limit_s=bound,
            silence_limit_s=limits.silence_seconds,
            memory_limit_mb=limits.memory_mb,
            disk_limit_mb=limits.disk_mb,
            readable=(self.ledger.runs_dir / FACTS_FILE, *([self.data] if self.data else [])),
            package=refit.config.model.needs_package,
        )

    def _end(self, running: Sequence[Refit]) -> None:
        asked, force = time.monotonic(), False
        folders = [] if self.detaches else [refit.paths.folder for refit in running]
        while left := still_to_end(folders, self.launcher, forced=force):
            force = self.stop.force or time.monotonic() - asked > FORCE_AFTER_S
            for path in left:
                self.launcher.cancel(path, force=force)
            self.clock.sleep(POLL_S)

    def _ended_well(
        self, refits: Sequence[Refit], not_begun: Sequence[Refit]
    ) -> Iterator[tuple[Refit, Training]]:
        for refit in refits:
            training = refit.training_in(self.ledger)
            if training is not None:
                yield refit, training
            elif refit not in not_begun:
                self.note(f"{refit.label}: {_why_failed(refit.paths)}; the weights of the search are used")


def _goes_on(refit: Refit, outcome: Outcome) -> bool:
    """Return whether another attempt is due: after a stop on request, and once after an end from outside or
    with too little of a cluster's memory."""
    if outcome.status is Status.STOPPED and outcome.requested:
        return True
    by_chance = outcome.came_from_outside or has_outgrown_estimate(refit.paths.folder, outcome)
    return by_chance and outcome.attempt < MOST_ATTEMPTS


def _why_failed(paths: RunPaths) -> str:
    error = read_record(paths.error) or {}
    message = error.get("message")
    return f"the refit failed ({message})" if isinstance(message, str) else "the refit failed"

"""Refits: what a search recommends, trained again on later rows, as many side by side as there are slots.

They live in their run's folder, `runs/run_0007/refits/test_seed_42`, and are trainings like any other: under
a supervisor, in the sandbox, found again by whoever comes after a crash. They have no score, so no rule hangs
on them, and one that fails leaves the run as it was searched.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Clock, Launcher, StopRequest
from nas_agent_graph.host.disk_space import DiskSpace
from nas_agent_graph.pool.slots import Slots
from nas_agent_graph.pool.trainings import DEFAULT_RUN_SECONDS, FORCE_AFTER_S, POLL_S, planned_under
from nas_system.config_io.config_file import write_config
from nas_system.errors import RunError, StateError
from nas_system.files import finite, read_record
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.outcome import Outcome, Status, read_outcome
from nas_system.nas_agent.recommended import Member, Part, Training
from nas_system.nas_agent.run_folders import make_run_folder
from nas_system.processes.job import Job, hard_limit_s
from nas_system.processes.run_files import FACTS_FILE, RunPaths
from nas_system.space import RunConfig
from nas_system.space.task_info import TaskInfo

MOST_SHARE = 0.15
"""Of the search's compute, that refits may take; the cheapest members come first, and one has them always."""
MOST_SEEDS = 3
SHARE = 0.05
"""Of the search's compute, up to which a refit is done with several seeds."""
MOST_ATTEMPTS = 2


@dataclass(frozen=True)
class Refit:
    """One training on the rows through a part."""

    run_id: str
    part: Part
    config: RunConfig
    epochs: int
    most_steps: int | None
    seconds: float
    """Of compute, estimated from what the run took."""
    paths: RunPaths

    @property
    def label(self) -> str:
        """Return its name for people."""
        return f"{self.run_id}, on all rows through {self.part.replace('_', '-')}, seed {self.config.seed}"


def plan_refits(
    members: Sequence[Member], parts: Sequence[Part], info: TaskInfo, ledger: Ledger
) -> list[Refit]:
    """Return the refits of an ensemble's runs through each of the parts, for `MOST_SHARE` of the search.

    Each has the run's own seed; where all of them are cheap against the search, further ones as well, up to
    `MOST_SEEDS`. A run whose files do not say how it was trained has none.
    """
    rows = info.measured.get("split")
    ends = {part: float(rows[part][1]) for part in ("train", *parts)} if isinstance(rows, dict) else {}
    by_member = [
        [refit for part in parts if (refit := _refit(member.name, part, ends, ledger)) is not None]
        for member in members
        if member.kind == "run"
    ]
    once = _affordable(by_member, MOST_SHARE * searched_seconds(ledger))
    several = min(MOST_SEEDS, int(SHARE * searched_seconds(ledger) / max(seconds_of(once), 1e-9)))
    more = [
        _with_seed(refit, refit.config.seed + number, ledger)
        for refit in once
        for number in range(1, several)
        if refit.config.model.gradient_descent
    ]
    return [*once, *more]


def _affordable(by_member: Sequence[Sequence[Refit]], seconds: float) -> list[Refit]:
    """Return the refits of the cheapest members, together for no more than `seconds`, at least of one."""
    chosen: list[Refit] = []
    for refits in sorted(by_member, key=seconds_of):
        if chosen and seconds_of(chosen) + seconds_of(refits) > seconds:
            break
        chosen += refits
    return chosen


def seconds_of(refits: Sequence[Refit]) -> float:
    """Return the seconds of compute that refits are estimated to take together."""
    return sum(refit.seconds for refit in refits)


def searched_seconds(ledger: Ledger) -> float:
    """Return the seconds of compute that the search's trainings took, repeats included."""
    names = [run.run_id for run in ledger.state.runs]
    names += [repeat.training_id for repeat in ledger.state.repeats]
    return sum(_number(ledger.paths(name), "compute_sec") or 0.0 for name in names)


def _refit(run_id: str, part: Part, ends: Mapping[str, float], ledger: Ledger) -> Refit | None:
    paths, config = ledger.paths(run_id), ledger.config(run_id)
    epochs = [epochs for name in _trainings(run_id, ledger) if (epochs := _best_epochs(ledger.paths(name)))]
    if config is None or not epochs:
        return None
    median = max(1, round(statistics.median(epochs)))
    trained = _number(paths, "epochs") or 1.0
    growth = ends[part] / ends["train"] if part in ends and ends.get("train") else 2.0
    seconds = (_number(paths, "compute_sec") or 0.0) * min(1.0, median / trained) * growth
    folder = RunPaths(paths.folder / "refits" / f"{part}_seed_{config.seed}")
    return Refit(run_id, part, config, median, planned_under(paths), seconds, folder)


def _with_seed(refit: Refit, seed: int, ledger: Ledger) -> Refit:
    folder = ledger.paths(refit.run_id).folder / "refits" / f"{refit.part}_seed_{seed}"
    config = refit.config.model_copy(update={"seed": seed})
    return Refit(
        refit.run_id, refit.part, config, refit.epochs, refit.most_steps, refit.seconds, RunPaths(folder)
    )


def _trainings(run_id: str, ledger: Ledger) -> Iterator[str]:
    yield run_id
    for repeat in ledger.state.repeats:
        if repeat.run_id == run_id and repeat.status == "OK":
            yield repeat.training_id


def _best_epochs(paths: RunPaths) -> int | None:
    best = _number(paths, "best_epoch")
    return None if best is None or best < 0 else int(best) + 1


def _number(paths: RunPaths, name: str) -> float | None:
    return finite((read_record(paths.metrics) or {}).get(name))


@dataclass(frozen=True)
class RefitPool:
    """Trains refits with the means of the search."""

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

    def train(self, refits: Sequence[Refit]) -> dict[Part, dict[str, tuple[Training, ...]]]:
        """Train those that have not ended; return the weights of those that ended well, by part and member.

        Ends all and raises SearchInterrupted on a stop request.
        """
        waiting, running = list(refits), list[Refit]()
        with self.stop.held_back():
            while waiting or running:
                if self.stop.signal is not None:
                    self._end(running)
                    break
                running = [refit for refit in running if not self._has_ended(refit)]
                while waiting and len(running) < self.slots.total:
                    refit = waiting.pop(0)
                    if not self._has_ended(refit):
                        running.append(refit)
                if running:
                    self.clock.sleep(POLL_S)
        return self._ended_well(refits)

    def _has_ended(self, refit: Refit) -> bool:
        """Return whether it has ended and no further attempt is due; start what is due."""
        folder = refit.paths.folder
        state = self.launcher.survey([folder])[folder]
        if state == "running":
            return False
        attempt = 1
        if state != "absent":
            outcome = read_outcome(folder)
            attempt = outcome.attempt + 1
            if _weights(refit.paths) is not None or not _goes_on(outcome):
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
            *("--through", refit.part, "--epochs", str(refit.epochs)),
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
            package=refit.config.model.needs_package,
            time_limit_s=bound,
            silence_limit_s=limits.silence_seconds,
            memory_limit_mb=limits.memory_mb,
            disk_limit_mb=limits.disk_mb,
            readable=(self.ledger.runs_dir / FACTS_FILE, *([self.data] if self.data else [])),
        )

    def _end(self, running: Sequence[Refit]) -> None:
        asked = time.monotonic()
        folders = [refit.paths.folder for refit in running]
        while left := [path for path, state in self.launcher.survey(folders).items() if state == "running"]:
            for path in left:
                force = self.stop.force or time.monotonic() - asked > FORCE_AFTER_S
                self.launcher.cancel(path, force=force)
            self.clock.sleep(POLL_S)

    def _ended_well(self, refits: Sequence[Refit]) -> dict[Part, dict[str, tuple[Training, ...]]]:
        found: dict[Part, dict[str, tuple[Training, ...]]] = {}
        for refit in refits:
            weights = _weights(refit.paths)
            if weights is None:
                self.note(f"{refit.label}: {_why_failed(refit.paths)}; the weights of the search are used")
                continue
            folder = str(refit.paths.folder.relative_to(self.ledger.workspace))
            of_part = found.setdefault(refit.part, {})
            of_part[refit.run_id] = (
                *of_part.get(refit.run_id, ()),
                Training(folder=folder, sha256=weights),
            )
        return found


def _weights(paths: RunPaths) -> str | None:
    """Return the checksum of a refit's weights; None for one that has not ended well."""
    if (read_record(paths.exit) or {}).get("returncode") != 0 or not paths.best_model.is_file():
        return None
    sha256 = (read_record(paths.metrics) or {}).get("checkpoint_sha256")
    return sha256 if isinstance(sha256, str) and len(sha256) == 64 else None


def _goes_on(outcome: Outcome) -> bool:
    """Return whether another attempt is due: after a stop on request, and once after an end from outside."""
    if outcome.status is Status.STOPPED and outcome.requested:
        return True
    return outcome.came_from_outside and outcome.attempt < MOST_ATTEMPTS


def _why_failed(paths: RunPaths) -> str:
    error = read_record(paths.error) or {}
    message = error.get("message")
    return f"the refit failed ({message})" if isinstance(message, str) else "the refit failed"

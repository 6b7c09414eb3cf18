"""Refits: what a search recommends, trained again on other rows; which of them are worth their compute.

They live in their run's folder, `runs/run_0007/refits/test_seed_42`, and are trainings like any other: under
a supervisor, in the sandbox, found again by whoever comes after a crash. They have no score, so no rule hangs
on them, and one that fails leaves the run as it was searched.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nas_system.files import finite, read_record
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.logging_utils import planned_under
from nas_system.nas_agent.recommended import PARTS, Member, Part, Training
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig
from nas_system.space.task_info import TaskInfo

MOST_SHARE = 0.15
"""Of the search's compute, that refits may take; the cheapest members come first, and one has them always."""
MOST_SEEDS = 3
SHARE = 0.05
"""Of the search's compute, up to which a refit is done with several seeds."""
REFITS, BACKTESTS = "refits", "backtests"
"""Folders in that of a run: what the search hands over, and the same at earlier dates."""


@dataclass(frozen=True)
class Refit:
    """One training on everything through a part, or on so many first rows."""

    run_id: str
    through: Part | int
    config: RunConfig
    epochs: int
    most_steps: int | None
    seconds: float
    """Of compute, estimated from what the run took."""
    paths: RunPaths

    @property
    def label(self) -> str:
        """Return its name for people."""
        if isinstance(self.through, int):
            rows = f"the first {self.through:,} rows"
        else:
            rows = f"all {self.config.task.labels.samples} through {self.through.replace('_', '-')}"
        return f"{self.run_id}, on {rows}, seed {self.config.seed}"

    @property
    def weights(self) -> str | None:
        """Return the checksum of its weights; None where it has not ended well."""
        paths = self.paths
        if (read_record(paths.exit) or {}).get("returncode") != 0 or not paths.best_model.is_file():
            return None
        sha256 = (read_record(paths.metrics) or {}).get("checkpoint_sha256")
        return sha256 if isinstance(sha256, str) and len(sha256) == 64 else None

    def with_seed(self, seed: int) -> Refit:
        """Return the same training from another seed, in a folder of its own."""
        config = self.config.model_copy(update={"seed": seed})
        folder = self.paths.folder.parent / f"{_place(self.through)}_seed_{seed}"
        return replace(self, config=config, paths=RunPaths(folder))

    def training_in(self, ledger: Ledger) -> Training | None:
        """Return its weights as a member's; None where it has not ended well."""
        weights = self.weights
        if weights is None:
            return None
        return Training(folder=str(self.paths.folder.relative_to(ledger.workspace)), sha256=weights)


def plan_refits(
    members: Sequence[Member], parts: Sequence[Part], info: TaskInfo, ledger: Ledger
) -> list[Refit]:
    """Return the refits of an ensemble's runs through each of the parts, for `MOST_SHARE` of the search, less
    what refits have taken already.

    Each has the run's own seed; where all of them are cheap against the search, further ones as well, up to
    `MOST_SEEDS`. A run whose files do not say how it was trained has none. Those on everything come first:
    they forecast.
    """
    ends = ends_of(info)
    searched_s = searched_seconds(ledger)
    by_member = [
        [refit for part in parts if (refit := refit_of(member.name, part, ends, ledger)) is not None]
        for member in members
        if member.kind == "run"
    ]
    once = _affordable(by_member, MOST_SHARE * searched_s - refitted_seconds(ledger))
    several = min(MOST_SEEDS, int(SHARE * searched_s / max(sum(refit.seconds for refit in once), 1e-9)))
    more = [
        refit.with_seed(refit.config.seed + number)
        for refit in once
        for number in range(1, several)
        if refit.config.model.gradient_descent
    ]
    last = PARTS[-1]
    return sorted([*once, *more], key=lambda refit: refit.through != last)


def _affordable(by_member: Sequence[Sequence[Refit]], seconds: float) -> list[Refit]:
    """Return the refits of the cheapest members that will together cost no more than `seconds`, at least of
    one member."""
    chosen: list[Refit] = []
    for refits in sorted(by_member, key=lambda refits: sum(refit.seconds for refit in refits)):
        if chosen and seconds_to_come(chosen) + seconds_to_come(refits) > seconds:
            break
        chosen += refits
    return chosen


def seconds_to_come(refits: Sequence[Refit]) -> float:
    """Return the seconds of compute that refits are estimated to take; those that have ended take none."""
    return sum(refit.seconds for refit in refits if refit.weights is None)


def searched_seconds(ledger: Ledger) -> float:
    """Return the seconds of compute that the search's trainings took, repeats included."""
    names = [run.run_id for run in ledger.state.runs]
    names += [repeat.training_id for repeat in ledger.state.repeats]
    return sum(_number(ledger.paths(name), "compute_sec") or 0.0 for name in names)


def refitted_seconds(ledger: Ledger) -> float:
    """Return the seconds of compute that all refits of the search took, those of an earlier end included."""
    folders = [ledger.paths(run.run_id).folder / REFITS for run in ledger.state.runs]
    every = [path for folder in folders if not folder.is_symlink() for path in folder.glob("*_seed_*")]
    return sum(_number(RunPaths(path), "compute_sec") or 0.0 for path in every if not path.is_symlink())


def ends_of(info: TaskInfo) -> dict[str, float]:
    """Return how many rows or graphs there are to the end of each part; nothing where that is not known."""
    split = info.measured.get("split")
    if info.task.is_series:
        known = split if isinstance(split, Mapping) else {}
        borders = {part: known.get(part) for part in ("train", *PARTS)}
        return {
            part: float(two[1]) for part, two in borders.items() if isinstance(two, list) and len(two) == 2
        }
    ends, total = {}, 0
    for part in ("train", *PARTS):
        total += info.sizes.get(part, 0)
        ends[part] = float(total)
    return ends


def refit_of(run_id: str, through: Part | int, ends: Mapping[str, float], ledger: Ledger) -> Refit | None:
    """Return the refit of a run with its own seed; None where its files do not say how it was trained."""
    paths, config = ledger.paths(run_id), ledger.config(run_id)
    epochs = [epochs for name in _trainings(run_id, ledger) if (epochs := _best_epochs(ledger.paths(name)))]
    if config is None or not epochs:
        return None
    median = max(1, round(statistics.median(epochs)))
    trained = _number(paths, "epochs") or 1.0
    end = through if isinstance(through, int) else ends.get(through)
    growth = end / ends["train"] if end and ends.get("train") else 2.0
    # With rolling origins the run's compute is that of all of them.
    one_s = (_number(paths, "compute_sec") or 0.0) / config.task.trainings
    seconds = one_s * min(1.0, median / trained) * growth
    kind = BACKTESTS if isinstance(through, int) else REFITS
    folder = RunPaths(paths.folder / kind / f"{_place(through)}_seed_{config.seed}")
    return Refit(run_id, through, config, median, planned_under(paths), seconds, folder)


def _place(through: Part | int) -> str:
    return f"row_{through}" if isinstance(through, int) else through


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

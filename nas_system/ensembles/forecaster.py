"""The forecaster of an ensemble: the weighted mean of its members, in the units of the data.

forecaster = load_ensemble(read_ensemble(workspace), workspace)
forecast = forecaster.forecast(series)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_system.data.series import Forecast, Series
from nas_system.errors import ConfigError, StateError
from nas_system.nas_agent.log_text import one_line
from nas_system.nas_agent.recommended import Ensemble, Member, Part, Recommended
from nas_system.processes.run_files import FACTS_FILE, RunPaths
from nas_system.space import ForecastingTask
from nas_system.space.task_info import TaskInfo
from nas_system.tasks.baseline_forecaster import BaselineForecaster, load_baseline
from nas_system.tasks.saved_forecaster import SavedForecaster, load_forecaster

Array = NDArray[np.float64]
NAMED = 4


@dataclass(frozen=True)
class LoadedMember:
    """A member with what forecasts: the mean over its trainings, or a baseline."""

    name: str
    weight: float
    trained: tuple[SavedForecaster, ...] = ()
    baseline: BaselineForecaster | None = None

    @property
    def task(self) -> ForecastingTask:
        return self.trained[0].task if self.baseline is None else self.baseline.task

    @property
    def data_sha256(self) -> str:
        return self.trained[0].data_sha256 if self.baseline is None else self.baseline.data_sha256

    def forecast(self, series: Series, name: str) -> Forecast:
        """Forecast what follows the last row. Raises ConfigError."""
        if self.baseline is not None:
            return self.baseline.forecast(series, name)
        found = [forecaster.forecast(series, name) for forecaster in self.trained]
        return replace(found[0], values=np.mean([each.values for each in found], axis=0))

    def forecast_windows(self, series: Series, origins: range, fitted_to: int) -> Array:
        """Forecast from each of `origins`, (origins, pred_len, targets); a baseline is fitted to the first
        `fitted_to` rows. Raises ConfigError."""
        if self.baseline is not None:
            return self.baseline.forecast_windows(series, origins, fitted_to)
        return np.mean([each.forecast_windows(series, origins) for each in self.trained], axis=0)


@dataclass(frozen=True)
class EnsembleForecaster:
    """The weighted mean of members that forecast the same steps of the same targets."""

    name: str
    members: tuple[LoadedMember, ...]

    @property
    def task(self) -> ForecastingTask:
        return self.members[0].task

    @property
    def data_sha256(self) -> str:
        """The checksum of the search's data."""
        return self.members[0].data_sha256

    @property
    def weights(self) -> Array:
        """Return the weights, which add up to 1."""
        weights = np.array([member.weight for member in self.members])
        return weights / weights.sum()

    def forecast(self, series: Series, name: str = "the series") -> Forecast:
        """Forecast the `pred_len` steps after the last row of `series`. Raises ConfigError, naming `name`."""
        found = [member.forecast(series, name) for member in self.members]
        values = np.tensordot(self.weights, np.stack([each.values for each in found]), axes=1)
        said = dict.fromkeys(text for each in found for text in each.said)
        return replace(found[0], values=values, said=tuple(said))

    def forecast_windows(self, series: Series, origins: range, fitted_to: int) -> Array:
        """Forecast from each of `origins`, (origins, pred_len, targets), as its members do."""
        # One after the other: all of them for a long series would be gigabytes.
        total = 0.0
        for weight, member in zip(self.weights, self.members, strict=True):
            total = total + weight * member.forecast_windows(series, origins, fitted_to)
        return np.asarray(total)

    @property
    def target_columns(self) -> tuple[str, ...]:
        """Return the names of the targets; those of all columns where the task says so."""
        trained = [each for member in self.members for each in member.trained]
        return trained[0].metadata.targets if trained else self.task.targets

    @property
    def rows_needed(self) -> int:
        """Return how many rows before an origin its members read."""
        looks = [each.metadata.shape.seq_len for member in self.members for each in member.trained]
        needed = [
            member.baseline.method.rows_needed(member.task.pred_len)
            for member in self.members
            if member.baseline is not None
        ]
        return max((*looks, *needed))

    @property
    def trained_until(self) -> int | None:
        """Return how many of the first rows its refits learned from; None for trainings of the search."""
        found = [each.metadata.trained_until for member in self.members for each in member.trained]
        return max((rows for rows in found if rows is not None), default=None)

    @property
    def refitted(self) -> str:
        """Say which of its runs are refits: `refitted`, `2 of 5 runs refitted`; empty for none."""
        runs = [member for member in self.members if member.trained]
        known = [one for one in runs if all(each.metadata.trained_until is not None for each in one.trained)]
        if not known:
            return ""
        return "refitted" if len(known) == len(runs) else f"{len(known)} of {len(runs)} runs refitted"

    def summarize(self, series: Series) -> str:
        """Say what forecasts `series`, and from which of its rows."""
        member, *others = self.members
        if not others:
            if member.baseline is not None:
                return member.baseline.summarize(series)
            first, *more = member.trained
            seeds = f", the mean of {1 + len(more)} seeds" if more else ""
            return f"{first.summarize(series)}{seeds}"
        names = [member.name for member in self.members]
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if names[NAMED:] else "")
        rows = self.trained_until
        refitted = "" if rows is None else f", {self.refitted} on {rows} rows"
        return f"(the mean of {shown}{refitted}) read {len(series)} rows"


def load_ensemble(
    ensemble: Ensemble, workspace: Path, name: str, device: str = "auto", *, origin: int | None = None
) -> EnsembleForecaster:
    """Load the members of an ensemble from the folders of a workspace.

    With `origin` their weights of an earlier rolling origin, counted from 1. Raises ConfigError or
    StateError, naming the member, for one whose weights are gone, changed, or forecast something else.
    """
    members = tuple(_loaded(member, workspace, device, origin) for member in ensemble.members)
    first = members[0]
    for member in members[1:]:
        same = (member.task.pred_len, member.task.targets, member.data_sha256)
        if same != (first.task.pred_len, first.task.targets, first.data_sha256):
            raise StateError(f"{name}: {member.name} and {first.name} do not forecast the same")
    return EnsembleForecaster(name, members)


def _loaded(member: Member, workspace: Path, device: str, origin: int | None) -> LoadedMember:
    if member.kind == "baseline":
        baseline = load_baseline(member.name, workspace / "runs" / FACTS_FILE)
        return LoadedMember(member.name, member.weight, baseline=baseline)
    return LoadedMember(member.name, member.weight, tuple(_trained(member, workspace, device, origin)))


def _trained(member: Member, workspace: Path, device: str, origin: int | None) -> Sequence[SavedForecaster]:
    found = []
    for training in member.trainings:
        folder = workspace / training.folder
        inside = (Path(training.folder), *Path(training.folder).parents)[:-1]
        if any((workspace / path).is_symlink() for path in inside):
            raise StateError(f"{member.name}: {folder} is reached through a link; put the folder there")
        if "/refits/" in training.folder and not RunPaths(folder).best_model.is_file():
            raise StateError(
                f"{member.name}: the weights of its refit in {training.folder} are gone; forecast "
                "--as-searched, or remove runs/recommended.json and let the search end again"
            )
        try:
            if origin is None:
                found.append(load_forecaster(folder, device, sha256=training.sha256))
            else:
                found.append(load_forecaster(folder, device, weights=RunPaths(folder).origin(origin)))
        except (ConfigError, StateError) as error:
            raise StateError(f"{member.name}: {one_line(str(error), 500)}") from None
    return found


@dataclass(frozen=True)
class Stage:
    """What forecast the rows of the search's data from `first` on, having learned from none of them."""

    forecaster: EnsembleForecaster
    first: int


def stages_of_run(forecaster: SavedForecaster | BaselineForecaster, name: str, info: TaskInfo) -> list[Stage]:
    """Return the one stage of a run or a baseline alone: all rows after the training part."""
    if isinstance(forecaster, BaselineForecaster):
        member = LoadedMember(name, 1.0, baseline=forecaster)
    else:
        member = LoadedMember(name, 1.0, (forecaster,))
    return [Stage(EnsembleForecaster(name, (member,)), _start(info, "val"))]


def stages_of(
    recommended: Recommended, info: TaskInfo, workspace: Path, device: str, *, as_searched: bool = False
) -> list[Stage]:
    """Return the stages of what a search recommends. Raises ConfigError or StateError for missing weights."""
    name = recommended.recommended
    stages = [Stage(load_ensemble(recommended, workspace, name, device), _start(info, "val"))]
    steps: tuple[tuple[Part, Part], ...] = (("val", "test"), ("test", "hold_out"))
    for before, part in () if as_searched else steps:
        refit = recommended.refitted(before)
        if refit is not None and info.sizes.get(part):
            stages.append(Stage(load_ensemble(refit, workspace, name, device), _start(info, part)))
    return stages


def _start(info: TaskInfo, part: str) -> int:
    """Return the first row of a part. Raises ConfigError for task info that does not say."""
    split = info.measured.get("split")
    borders = split.get(part) if isinstance(split, dict) else None
    if not isinstance(borders, list) or not borders or type(borders[0]) is not int:
        raise ConfigError("the task info of the search does not say where its parts begin")
    return borders[0]

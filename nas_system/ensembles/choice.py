"""What forecasts: what a search recommends, its ensemble, or any run or baseline by its name; its intervals.

A baseline is found and forecasts without torch.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas_system.errors import ConfigError, StateError
from nas_system.files import read_record
from nas_system.nas_agent.agent_state import STATE_FILE, load_agent_state
from nas_system.nas_agent.recommended import (
    ENSEMBLE,
    RECOMMENDED_FILE,
    Ensemble,
    Recommended,
    read_ensemble,
    read_recommended,
)
from nas_system.processes.run_files import FACTS_FILE
from nas_system.space.task_info import TaskInfo

if TYPE_CHECKING:
    from nas_system.data.series import Forecast, Series
    from nas_system.ensembles.forecaster import EnsembleForecaster, Stage
    from nas_system.tasks.baseline_forecaster import BaselineForecaster
    from nas_system.tasks.saved_forecaster import SavedForecaster

    Forecaster = SavedForecaster | BaselineForecaster | EnsembleForecaster
    Found = tuple[Forecast, list[str]]


@dataclass(frozen=True)
class Chosen:
    """What forecasts."""

    forecaster: Forecaster
    run: Path
    """The folder of a run, or where one of its name would be."""
    why: str = ""
    recommended: Recommended | None = None
    """Of the search, where that is what forecasts."""


def chosen_by(arguments: argparse.Namespace) -> Chosen:
    """Return what forecasts, by the arguments of `nas predict`: without `--run` what the search in
    `--workspace` recommends.

    A name without a folder of its own is a row of that search's leaderboard.
    """
    runs = arguments.workspace / "runs"
    known = read_recommended(arguments.workspace) if os.path.lexists(runs / RECOMMENDED_FILE) else None
    if arguments.run is None:
        if known is None:
            return _best_so_far(arguments)
        forecaster, refitted = _of_search(known, known, arguments)
        how = f", {refitted} on all rows" if refitted else ""
        why = f"the search recommends {known.recommended}{how}: {known.why}"
        return Chosen(forecaster, runs / known.recommended, why, known)
    if arguments.run == Path(ENSEMBLE) and not arguments.run.exists():
        ensemble = read_ensemble(arguments.workspace)
        same = known is not None and known.names == ensemble.names
        forecaster, refitted = _of_search(ensemble, known if same else None, arguments)
        how = f"{refitted} on all rows" if refitted else "with the weights of the search"
        why = f"the ensemble, {how}: {ensemble.why}"
        return Chosen(forecaster, runs / ENSEMBLE, why, known if same else None)
    return Chosen(*_named(arguments))


def intervals_behind(chosen: Chosen, arguments: argparse.Namespace) -> Callable[[Forecast, Series], Found]:
    """Return what gives a forecast of a series the intervals that the arguments of `nas predict` ask for, and
    says what has to be said of them. The weights behind them are loaded once, for all series."""
    from nas_system.ensembles.intervals import with_intervals

    try:
        info, stages = _stages(chosen, arguments)
    except (ConfigError, StateError) as error:
        why = f"no intervals: {error}"
        return lambda forecast, _: (forecast, [why])
    return lambda forecast, series: with_intervals(forecast, series, stages, arguments.intervals, info)


def _stages(chosen: Chosen, arguments: argparse.Namespace) -> tuple[TaskInfo, list[Stage]]:
    """Return the search's task info, and what forecast the rows after its training part.

    Raises ConfigError or StateError where one of them cannot be had.
    """
    from nas_system.ensembles.forecaster import EnsembleForecaster, stages_of, stages_of_run

    info = _info(arguments.facts or chosen.run.absolute().parent / FACTS_FILE)
    if info is None or info.source.sha256 != chosen.forecaster.data_sha256:
        raise ConfigError("they need the search's task_facts.json, next to the run or by --facts")
    known, forecaster = chosen.recommended, chosen.forecaster
    if known is not None:
        searched = arguments.as_searched
        return info, stages_of(known, info, arguments.workspace, arguments.device, as_searched=searched)
    if isinstance(forecaster, EnsembleForecaster):
        raise ConfigError("runs/recommended.json is not about this ensemble")
    return info, stages_of_run(forecaster, chosen.run.name, info)


def _info(facts: Path) -> TaskInfo | None:
    """Return the task info of a search; None where that is not there, or not whole."""
    record = read_record(facts)
    try:
        return None if record is None else TaskInfo.from_json(record)
    except ConfigError:
        return None


def _of_search(
    ensemble: Ensemble, recommended: Recommended | None, arguments: argparse.Namespace
) -> tuple[EnsembleForecaster, str]:
    """Load an ensemble; say which of its runs are refits, which `recommended` knows."""
    from nas_system.ensembles.forecaster import load_ensemble
    from nas_system.training.reproducibility import set_threads

    set_threads(1)
    name = ensemble.names[0] if len(ensemble.members) == 1 else "ensemble"
    refit = None if recommended is None or arguments.as_searched else recommended.refitted("hold_out")
    forecaster = load_ensemble(refit or ensemble, arguments.workspace, name, arguments.device)
    return forecaster, forecaster.refitted


def _best_so_far(arguments: argparse.Namespace) -> Chosen:
    """Return the best run of a search that recommends nothing, because it has not ended or is an old one.

    Raises ConfigError where there is none.
    """
    from nas_system.tasks.saved_forecaster import load_forecaster
    from nas_system.training.reproducibility import set_threads

    best = load_agent_state(arguments.workspace / STATE_FILE).best_run_id
    if best is None:
        raise ConfigError(
            f"{arguments.workspace.resolve()} holds no search with a finished run; name its folder by "
            "--workspace, or a run's by --run"
        )
    set_threads(1)
    run = arguments.workspace / "runs" / best
    why = f"{best} is the best run: the search has not ended yet, or recommends nothing"
    return Chosen(load_forecaster(run, arguments.device), run, why)


def _named(arguments: argparse.Namespace) -> tuple[Forecaster, Path]:
    """Return the forecaster of a run's folder, or of a run or baseline in the leaderboard of the search."""

    run, runs = arguments.run, arguments.workspace / "runs"
    facts = arguments.facts or runs / FACTS_FILE
    # A folder here that is no run does not hide a row of that name.
    is_run = (run / "config_used.py").exists()
    if not is_run and len(run.parts) == 1 and not run.is_absolute() and (not run.exists() or facts.is_file()):
        run = runs / run.name
        if not run.exists() and facts.is_file():
            from nas_system.tasks.baseline_forecaster import load_baseline

            return load_baseline(run.name, facts), run
    from nas_system.tasks.saved_forecaster import load_forecaster
    from nas_system.training.reproducibility import set_threads

    set_threads(1)
    return load_forecaster(run if run.exists() else arguments.run, arguments.device), run

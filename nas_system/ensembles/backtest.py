"""How a recipe would have done at earlier dates: its forecasts, intervals and baselines against what came.

At a date nothing is read but the rows before it. The rows after it are what the forecasts are compared with.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nas_system.data.baselines.by_name import method_named
from nas_system.data.baselines.seasons import season_of
from nas_system.data.calendar import spelled_dates
from nas_system.data.loading import open_task
from nas_system.data.measures.accuracy import accuracy_of, naive_scales
from nas_system.data.measures.conformal import LEVELS
from nas_system.data.open_task import OpenTask
from nas_system.data.series import Forecast, Series
from nas_system.ensembles.forecaster import EnsembleForecaster, load_ensemble, stages_of
from nas_system.ensembles.intervals import with_intervals
from nas_system.errors import ConfigError, StateError
from nas_system.nas_agent.backtest import Backtest, Origin
from nas_system.nas_agent.recommended import SLOW_BASELINES
from nas_system.processes.run_files import FACTS_FILE
from nas_system.space import ForecastingTask
from nas_system.space.task_info import TaskInfo
from nas_system.tasks.baseline_forecaster import load_baseline

Array = NDArray[np.float64]


def backtest_scores(
    backtest: Backtest, info: TaskInfo, workspace: Path, device: str, levels: Sequence[int] = LEVELS
) -> dict[str, Any]:
    """Return, for every date, the forecast, its scores, the share of truths inside its intervals of these
    `levels` (per cent) and the scores of the simple baselines; and the means over the dates.

    A date whose members cannot forecast from so few rows has a `problem` instead. Raises ConfigError or
    StateError for data or weights that cannot be had, and for weights that have learned from later rows.
    """
    if not info.task.is_series:
        raise ConfigError(f"{info.task.name} is no series to forecast")
    data = open_task(cast(ForecastingTask, info.task), info.source)
    rows = [min(origin.row, len(data.series) - 1) for origin in backtest.origins]
    *shown, until = spelled_dates(data.series.dates[[*rows, data.split.val_end - 1]])
    dates = [
        {"date": date, **_at(origin, data, info, workspace, device, levels)}
        for origin, date in zip(backtest.origins, shown, strict=True)
    ]
    scored = [one for one in dates if "problem" not in one]
    names = [name for name in (scored[0]["baselines"] if scored else ()) if _on_all(name, scored)]
    return {
        "levels": list(levels),
        "searched_until": until,
        "dates": dates,
        "mean": _mean([one["scores"] for one in scored]),
        "mean_covered": _mean([one["covered"] for one in scored]),
        "mean_of_baselines": {name: _mean([one["baselines"][name] for one in scored]) for name in names},
    }


def _on_all(name: str, dates: Sequence[Mapping[str, Any]]) -> bool:
    return all(name in one["baselines"] for one in dates)


def _at(
    origin: Origin, data: OpenTask, info: TaskInfo, workspace: Path, device: str, levels: Sequence[int]
) -> dict[str, Any]:
    row, steps = origin.row, data.task.pred_len
    if row + steps > len(data.series):
        raise StateError(f"row {row:,} is too late: {steps} rows after it are not there")
    known = data.series.ended_at(row)
    found: dict[str, Any] = {"row": row}
    forecaster = load_ensemble(origin.forecaster, workspace, origin.chosen.recommended, device)
    _refuse_hindsight(forecaster, row, data)
    try:
        forecast = forecaster.forecast(known)
    except ConfigError as error:
        return found | {"problem": str(error)}
    stages = [one for one in stages_of(origin.chosen, info, workspace, device) if one.first < row]
    if stages:
        forecast, _ = with_intervals(forecast, known, stages, levels, info)
    truth = data.series.values[row : row + steps, list(known.column_indices(forecast.columns))]
    covered = {
        str(level): float(((low <= truth) & (truth <= high)).mean())
        for level, (low, high) in forecast.intervals.items()
    }
    return found | {
        "scores": _scores(forecast, truth, known, data),
        "covered": covered,
        "baselines": _baselines(truth, known, data, info, workspace),
        "forecast": [[float(f"{value:.7g}") for value in values] for values in forecast.values],
    }


def _refuse_hindsight(forecaster: EnsembleForecaster, row: int, data: OpenTask) -> None:
    """Raise StateError for weights that have learned from rows of the date or later ones."""
    for member in forecaster.members:
        for trained in member.trained:
            until = trained.metadata.trained_until
            # The search has stopped its trainings by the validation part.
            if (data.split.val_end if until is None else until) > row:
                raise StateError(f"{member.name}: its weights have learned from rows after row {row:,}")


def _baselines(
    truth: Array, known: Series, data: OpenTask, info: TaskInfo, workspace: Path
) -> dict[str, dict[str, float]]:
    """Return the scores of the simple baselines of the leaderboard, fitted to the rows before the date."""
    found = {}
    for name in [row.name for row in info.baselines if row.name not in SLOW_BASELINES]:
        if method_named(name) is None:
            continue
        try:
            forecast = load_baseline(name, workspace / "runs" / FACTS_FILE).forecast(known)
        except ConfigError:  # too few rows
            continue
        found[name] = _scores(forecast, truth, known, data)
    return found


def _scores(forecast: Forecast, truth: Array, known: Series, data: OpenTask) -> dict[str, float]:
    """Return the errors of a forecast: scaled as those of the search, in the units of the data, and the mean
    absolute error over that of the seasonal naive forecast on the rows before the date (MASE)."""
    columns = list(known.column_indices(forecast.columns))
    scaler = data.scaler.of_columns(columns)
    errors = forecast.values - truth
    scaled = scaler.transform(forecast.values) - scaler.transform(truth)
    scales = naive_scales(known.values[:, columns], season_of(known.freq))
    accuracy = accuracy_of(forecast.values[None], truth[None], scales)
    scores = {
        "mse_scaled": float(np.square(scaled).mean()),
        "mae_scaled": float(np.abs(scaled).mean()),
        "mse": float(np.square(errors).mean()),
        "mae": float(np.abs(errors).mean()),
    }
    return scores | ({} if accuracy is None or accuracy.mase is None else {"mase": accuracy.mase})


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of what every row has, in the order of the first."""
    names = [name for name in (rows[0] if rows else ()) if all(name in row for row in rows)]
    return {name: statistics.fmean(row[name] for row in rows) for name in names}

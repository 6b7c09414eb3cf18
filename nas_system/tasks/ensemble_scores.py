"""The scores of an ensemble: on the validation part, by which it is chosen, and on the parts after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nas_system.data.loading import OpenTask, open_task
from nas_system.data.splits import SplitName
from nas_system.errors import ConfigError
from nas_system.nas_agent.recommended import ENSEMBLE, Ensemble, Part, Recommended
from nas_system.space import ForecastingTask
from nas_system.space.task_info import TaskInfo
from nas_system.tasks.ensemble_forecaster import EnsembleForecaster, load_ensemble

Array = NDArray[np.float64]

WINDOWS_AT_A_TIME = 512
ROUNDS = 50
"""Of the greedy choice, as in Caruana et al. 2004: more change little."""


@dataclass(frozen=True)
class ValidationErrors:
    """What members and their weighted means lose on every validation window, at all rolling origins.

    The squared error of a weighted mean is a quadratic form, whose matrices are all that is kept.
    """

    products: Array
    """(windows, members, members): the mean over steps and targets of the product of two members' errors, on
    scaled data."""

    def of(self, weights: Sequence[float]) -> Array:
        """Return the squared error of a weighted mean on every window, (windows,); weights add up to 1."""
        return np.einsum("nij,i,j->n", self.products, weights, weights)

    def greedy_weights(self, rounds: int = ROUNDS) -> Array:
        """Choose weights by greedy selection with replacement: Caruana et al. 2004, "Ensemble selection from
        libraries of models", ICML, section 2. Return (members,), which add up to 1."""
        gram = self.products.mean(axis=0)
        counts, best, lowest = np.zeros(len(gram)), np.zeros(len(gram)), np.inf
        for size in range(1, rounds + 1):
            tried = (counts + np.eye(len(gram))) / size
            losses = np.einsum("ki,ij,kj->k", tried, gram, tried)
            chosen = int(losses.argmin())
            counts[chosen] += 1
            if losses[chosen] < lowest:
                lowest, best = losses[chosen], counts.copy()
        return best / best.sum()


def validation_errors(ensemble: Ensemble, info: TaskInfo, workspace: Path, device: str) -> ValidationErrors:
    """Return the errors of an ensemble's members on the validation part, at every rolling origin.

    Raises ConfigError or StateError for members that cannot be had.
    """
    data = _opened(info)
    products = []
    for number, origin in enumerate((origins := data.origins()), 1):
        at = None if number == len(origins) else number
        forecaster = load_ensemble(ensemble, workspace, ENSEMBLE, device, origin=at)
        for rows, truth in _windows(origin, "val"):
            found = [
                origin_scaled(member.forecast_windows(origin.series, rows, origin.split.train_end), origin)
                for member in forecaster.members
            ]
            errors = np.stack(found, axis=1) - truth[:, None]
            flat = errors.reshape(*errors.shape[:2], -1)
            products.append(np.einsum("nik,njk->nij", flat, flat) / flat.shape[2])
    return ValidationErrors(np.concatenate(products))


def final_scores(recommended: Recommended, info: TaskInfo, workspace: Path, device: str) -> dict[str, Any]:
    """Return what `runs/recommended.json` says of the parts after the search: as searched and refitted.

    Raises ConfigError or StateError for members that cannot be had.
    """
    data = _opened(info)
    parts: list[SplitName] = [part for part in ("val", "test", "hold_out") if n_windows(data, part)]
    searched = load_ensemble(recommended, workspace, recommended.recommended, device)
    scores: dict[str, dict[str, Any]] = {
        "as_searched": {part: _score(searched, data, part, data.split.train_end) for part in parts},
        "refitted": {},
    }
    steps: tuple[tuple[Part, Part], ...] = (("val", "test"), ("test", "hold_out"))
    for before, part in steps:
        refit = recommended.refitted(before)
        if refit is not None and part in parts:
            forecaster = load_ensemble(refit, workspace, recommended.recommended, device)
            fitted_to = data.split.target_rows(before).stop
            scores["refitted"][part] = _score(forecaster, data, part, fitted_to)
    return scores


def n_windows(data: OpenTask, part: SplitName) -> int:
    """Count the windows whose targets lie in a part."""
    return max(0, len(data.split.target_rows(part)) - data.task.pred_len + 1)


def origin_scaled(values: Array, data: OpenTask) -> Array:
    """Scale (..., targets) as the search's scores are scaled."""
    return data.scaler.of_columns(data.series.column_indices(data.task.targets)).transform(values)


def _score(forecaster: EnsembleForecaster, data: OpenTask, part: SplitName, fitted_to: int) -> dict[str, Any]:
    squared = absolute = 0.0
    count = 0
    for rows, truth in _windows(data, part):
        found = origin_scaled(forecaster.forecast_windows(data.series, rows, fitted_to), data)
        errors = found - truth
        squared += float(np.square(errors).sum())
        absolute += float(np.abs(errors).sum())
        count += errors.size
    return {"mse": squared / count, "mae": absolute / count, "windows": n_windows(data, part)}


def _windows(data: OpenTask, part: SplitName) -> Iterator[tuple[range, Array]]:
    """Yield the first rows of some windows of a part, and what is true: (windows, steps, targets), scaled."""
    columns = list(data.series.column_indices(data.task.targets))
    table = origin_scaled(data.series.values[:, columns], data)
    truth = sliding_window_view(table, data.task.pred_len, axis=0).swapaxes(1, 2)
    first = data.split.target_rows(part).start
    origins = range(first, first + n_windows(data, part))
    for start in range(0, len(origins), WINDOWS_AT_A_TIME):
        rows = origins[start : start + WINDOWS_AT_A_TIME]
        yield rows, truth[rows.start : rows.stop]


def _opened(info: TaskInfo) -> OpenTask:
    if not isinstance(info.task, ForecastingTask):
        raise ConfigError(f"{info.task.name} is no series to forecast")
    return open_task(info.task, info.source)

"""The scores of an ensemble: on the validation part, by which it is chosen, and on the parts after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nas_system.data.baselines.scoring import scales_of
from nas_system.data.loading import open_data
from nas_system.data.measures.accuracy import accuracy_of
from nas_system.data.measures.conformal import (
    LEVELS,
    recent_coverage,
    rolling_intervals,
    rolling_residuals,
    score_intervals,
    shift_warning,
    window_for,
)
from nas_system.data.open_task import OpenTask
from nas_system.data.panel import OpenData, OpenPanel, mean_of_clusters
from nas_system.data.splits import SplitName
from nas_system.ensembles.forecaster import EnsembleForecaster, load_ensemble
from nas_system.ensembles.panel_scores import mean_scores
from nas_system.errors import ConfigError
from nas_system.nas_agent.recommended import ENSEMBLE, Ensemble, Part, Recommended
from nas_system.space import ForecastingTask
from nas_system.space.task_info import TaskInfo

Array = NDArray[np.float64]

PARTS: tuple[SplitName, ...] = ("val", "test", "hold_out")
ROUNDS = 50
"""Of the greedy choice, as in Caruana et al. 2004: more change little."""


@dataclass(frozen=True)
class ValidationErrors:
    """What members and their weighted means lose on every validation window, at all rolling origins.

    The squared error of a weighted mean is a quadratic form, whose matrices are all that is kept.
    """

    products: Array
    """(windows, members, members): the mean over steps and targets of the product of two members' errors, on
    scaled data. Of several series, the means of clusters of windows (`OpenPanel.clusters`)."""

    def first(self, windows: int | None) -> ValidationErrors:
        """Return those on the first windows, in the order of time; all for None."""
        return ValidationErrors(self.products[:windows])

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
        found = [_products(forecaster, series) for series in origin.members if n_windows(series, "val")]
        if not isinstance(origin, OpenPanel):
            products += found
            continue
        dates = [
            np.arange(n_windows(series, "val")) + series.split.train_end + offset
            for series, offset in zip(origin.members, origin.offsets, strict=True)
        ]
        products.append(mean_of_clusters(np.concatenate(found), origin.clusters(dates)))
    return ValidationErrors(np.concatenate(products))


def _products(forecaster: EnsembleForecaster, data: OpenTask) -> Array:
    """Return the products of the members' errors on the validation windows of one series at one origin."""
    first, fitted_to = data.split.target_rows("val").start, data.split.train_end
    rows = range(first, first + n_windows(data, "val"))
    truth = origin_scaled(_truth(data, "val"), data)
    # In 32 bits: of long horizons and many targets there are hundreds of millions of numbers.
    errors = [
        (origin_scaled(member.forecast_windows(data.series, rows, fitted_to), data) - truth)
        .astype(np.float32)
        .reshape(len(rows), -1)
        for member in forecaster.members
    ]
    stacked = np.stack(errors, axis=1)
    return (stacked @ stacked.swapaxes(1, 2)).astype(np.float64) / stacked.shape[2]


def final_scores(
    recommended: Recommended, info: TaskInfo, workspace: Path, device: str, levels: Sequence[int] = LEVELS
) -> dict[str, Any]:
    """Return what `runs/recommended.json` says of the parts after the search: as searched and refitted, and
    how the prediction intervals of these `levels` (per cent) did. Errors of the latest forecasts count.

    Raises ConfigError or StateError for members that cannot be had.
    """
    forecasters = _Forecasters.of(recommended, workspace, device)
    data = _opened(info)
    if not isinstance(data, OpenPanel):
        return _scores_of(data, forecasters, levels)
    scored = [series for series in data.members if any(n_windows(series, part) for part in PARTS)]
    found = {series.series.name: _scores_of(series, forecasters, levels) for series in scored}
    return mean_scores(found, levels)


@dataclass(frozen=True)
class _Forecasters:
    """What is recommended, with the weights of the search and of the refits, by the part that each is for."""

    searched: EnsembleForecaster
    refitted: Mapping[SplitName, EnsembleForecaster]

    @classmethod
    def of(cls, recommended: Recommended, workspace: Path, device: str) -> Self:
        """Load them. Raises ConfigError or StateError for members that cannot be had."""
        name = recommended.recommended
        steps: tuple[tuple[Part, SplitName], ...] = (("val", "test"), ("test", "hold_out"))
        refits: dict[SplitName, Ensemble | None] = {
            part: recommended.refitted(before) for before, part in steps
        }
        return cls(
            load_ensemble(recommended, workspace, name, device),
            {
                part: load_ensemble(refit, workspace, name, device)
                for part, refit in refits.items()
                if refit is not None
            },
        )


def _scores_of(data: OpenTask, forecasters: _Forecasters, levels: Sequence[int]) -> dict[str, Any]:
    """Return the scores on one series; see `final_scores`."""
    parts: list[SplitName] = [part for part in PARTS if n_windows(data, part)]
    split = data.split
    # Every origin, also those whose windows cross from one part into the next: intervals learn from them.
    first, end = split.target_rows("val").start, len(data.series)
    blocks = {first: forecasters.searched.forecast_windows(data.series, range(first, end), split.train_end)}
    scores: dict[str, Any] = {
        "as_searched": {part: _score(_of_part(blocks, data, part), data, part) for part in parts},
        "refitted": {},
    }
    for part, forecaster in forecasters.refitted.items():
        if part in parts:
            start = split.target_rows(part).start
            later = max(blocks)
            blocks[later] = blocks[later][: start - later]
            blocks[start] = forecaster.forecast_windows(data.series, range(start, end), start)
            scores["refitted"][part] = _score(_of_part(blocks, data, part), data, part)
    return scores | {"intervals": _interval_scores(blocks, data, levels)}


def _of_part(blocks: Mapping[int, Array], data: OpenTask, part: SplitName) -> Array:
    """Return the forecasts of a part's windows, of the blocks by their first origins."""
    start = data.split.target_rows(part).start
    first = max(origin for origin in blocks if origin <= start)
    return blocks[first][start - first :][: n_windows(data, part)]


def _interval_scores(blocks: Mapping[int, Array], data: OpenTask, levels: Sequence[int]) -> dict[str, Any]:
    """Score the intervals around the forecasts on test and hold-out part; the latest forecasts come last."""
    residuals = rolling_residuals(_targets(data), blocks)
    half_widths = rolling_intervals(residuals, levels, window_for(data.series.freq, data.task.pred_len))
    first = min(blocks)
    found: dict[str, Any] = {"levels": list(levels)}
    for part in ("test", "hold_out"):
        if not n_windows(data, part):
            continue
        start = data.split.target_rows(part).start - first
        windows = slice(start, start + n_windows(data, part))
        forecasts, truth = _of_part(blocks, data, part), _truth(data, part)
        covered = {
            str(level): score_intervals(truth, forecasts, half_widths[index, windows], level)
            for index, level in enumerate(levels)
        }
        found[part] = {level: one.to_json() for level, one in covered.items() if one is not None}
    recent = recent_coverage(residuals, half_widths)
    found["recent"] = {
        str(level): {"coverage": share}
        for level, share in zip(levels, recent, strict=True)
        if share is not None
    }
    warning = shift_warning(levels, recent)
    return found | ({"warning": warning} if warning else {})


def n_windows(data: OpenTask, part: SplitName) -> int:
    """Count the windows whose targets lie in a part."""
    return max(0, len(data.split.target_rows(part)) - data.task.pred_len + 1)


def origin_scaled(values: Array, data: OpenTask) -> Array:
    """Scale (..., targets) as the search's scores are scaled."""
    return data.scaler.of_columns(data.series.column_indices(data.task.targets)).transform(values)


def _score(forecasts: Array, data: OpenTask, part: SplitName) -> dict[str, Any]:
    """Score forecasts (windows, steps, targets) of a part's windows, in data units."""
    truth = _truth(data, part)
    errors = origin_scaled(forecasts, data) - origin_scaled(truth, data)
    accuracy = accuracy_of(forecasts, truth, scales_of(data))
    return {
        "mse": float(np.square(errors).mean()),
        "mae": float(np.abs(errors).mean()),
        "windows": len(truth),
        **({} if accuracy is None else {"accuracy": accuracy.to_json()}),
    }


def _truth(data: OpenTask, part: SplitName) -> Array:
    """Return what is true in the windows of a part, (windows, steps, targets), in data units."""
    first, values = data.split.target_rows(part).start, _targets(data)
    windows = sliding_window_view(values, data.task.pred_len, axis=0).swapaxes(1, 2)
    return windows[first : first + n_windows(data, part)]


def _targets(data: OpenTask) -> Array:
    return data.series.values[:, list(data.series.column_indices(data.task.targets))]


def _opened(info: TaskInfo) -> OpenData:
    if not info.task.is_series:
        raise ConfigError(f"{info.task.name} is no series to forecast")
    return open_data(cast(ForecastingTask, info.task), info.source)

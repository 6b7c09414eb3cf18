"""The scores of baselines on the parts of a task's data."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nas_system.data.baselines.bounded import Request, installed_rows, run_bounded
from nas_system.data.baselines.method import Array, Forecast, Method
from nas_system.data.baselines.naive import Drift, LastValue, SeasonalNaive
from nas_system.data.baselines.nlinear import CHUNK, NLinear
from nas_system.data.baselines.seasons import season_of, shared_seasons, tried_seasons
from nas_system.data.loading import OpenTask
from nas_system.data.splits import SplitName
from nas_system.space.task_info import Baseline

PARTS: tuple[SplitName, ...] = ("val", "test")


@dataclass(frozen=True)
class Scored:
    """The rows of a task's baselines, and a line about each that could not be had."""

    rows: tuple[Baseline, ...]
    left_out: tuple[str, ...] = ()


def score_all(data: OpenTask, parts: Sequence[SplitName], limit_s: float) -> Scored:
    """Score every baseline there is here, those of the extra `stats` in `limit_s` of processor time."""
    rows, names = score_baselines(data, parts), installed_rows()
    if not names or limit_s <= 0:
        return Scored(rows)
    columns = list(data.series.column_indices(data.task.targets))
    values, train_end = data.series.values[:, columns], data.split.train_end
    scaler = data.scaler.of_columns(columns)
    origins = {part: _origins(data, part) for part in parts}
    request = Request(
        rows=names,
        pred_len=data.task.pred_len,
        seasons=tried_seasons(values[:train_end], data.series.freq),
        mean=tuple(scaler.mean.tolist()),
        std=tuple(scaler.std.tolist()),
        train_end=train_end,
        parts={part: (rows.start, rows.stop) for part, rows in origins.items() if rows},
    )
    answers = run_bounded(request, values, limit_s)
    more = [
        Baseline(name, row["scores"], row["windows"], _spread(row, len(origins.get("val", ()))))
        for name, row in answers.rows.items()
    ]
    return Scored((*rows, *more), tuple(f"{name}: {why}" for name, why in answers.problems.items()))


def simple_methods(rows: int, pred_len: int, freq: str, seasons: Sequence[int]) -> tuple[Method, ...]:
    """Return the methods of `score_baselines` that `rows` training rows allow.

    The seasonal ones have the obvious period of the step, and the strongest of `seasons`.
    """
    periods = dict.fromkeys((season_of(freq), *seasons[:1]))
    methods = [LastValue(), Drift(), *map(SeasonalNaive, periods), NLinear.that_fits(rows, pred_len)]
    return tuple(method for method in methods if method is not None and _is_of_use(method, rows, pred_len))


def _is_of_use(method: Method, rows: int, pred_len: int) -> bool:
    return method.rows_needed(pred_len) <= rows and method != SeasonalNaive(1)


def score_baselines(data: OpenTask, parts: Sequence[SplitName] = PARTS) -> tuple[Baseline, ...]:
    """Return the mean squared error, on scaled data, of the forecasts that take no library and no time.

    One whose look-back does not fit the training rows is left out.
    """
    pred_len, train_end = data.task.pred_len, data.split.train_end
    columns = list(data.series.column_indices(data.task.targets))
    table = data.scaler.transform(data.series.values)[:, columns]
    seasons = shared_seasons(data.series.values[:train_end, columns], data.series.freq)
    origins = {part: rows for part in parts if (rows := _origins(data, part))}

    def row(method: Method) -> Baseline:
        forecast = method.fit(table[:train_end], pred_len)
        errors = {part: squared_errors(table, rows, pred_len, forecast) for part, rows in origins.items()}
        scores = {f"{part}_mse": float(found.mean()) for part, found in errors.items()}
        return Baseline(method.name, scores, errors=errors.get("val"))

    return tuple(map(row, simple_methods(train_end, pred_len, data.series.freq, seasons)))


def _origins(data: OpenTask, part: SplitName) -> range:
    """Return the first row that each window of a part forecasts."""
    rows = data.split.target_rows(part)
    return range(rows.start, max(rows.start, rows.stop - data.task.pred_len + 1))


def squared_errors(table: Array, origins: range, pred_len: int, forecast: Forecast) -> Array:
    """Return the mean over steps and targets of `table`, (rows, targets), for every origin."""
    squares = np.zeros(len(origins))
    for target, column in enumerate(np.ascontiguousarray(table.T)):
        truth = sliding_window_view(column, pred_len)
        for first in range(0, len(origins), CHUNK):
            chunk = origins[first : first + CHUNK]
            errors = forecast(column, chunk, target) - truth[chunk.start : chunk.stop : chunk.step]
            squares[first : first + CHUNK] += np.einsum("ij,ij->i", errors, errors)
    return squares / (pred_len * table.shape[1])


def _spread(row: Mapping[str, Any], windows: int) -> Array | None:
    """Return the errors of a row on the validation windows, with NaN where it was not scored."""
    if "val_errors" not in row:
        return None
    errors = np.full(windows, np.nan)
    errors[:: row["val_step"]] = np.frombuffer(base64.b64decode(row["val_errors"]), dtype="<f4")
    return errors

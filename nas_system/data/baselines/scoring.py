"""The scores of baselines on the parts of a task's data."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nas_system.data.baselines.bounded import Answers, Request, installed_rows, run_bounded
from nas_system.data.baselines.method import Array, Forecast, Method
from nas_system.data.baselines.naive import Drift, LastValue, SeasonalNaive
from nas_system.data.baselines.nlinear import CHUNK, NLinear
from nas_system.data.baselines.seasons import season_of, seasons_of, tried_seasons
from nas_system.data.measures.accuracy import Accuracy, RunningAccuracy, accuracies_from, naive_scales
from nas_system.data.open_task import OpenTask
from nas_system.data.scaling import Scaler
from nas_system.data.splits import SplitName
from nas_system.space.task_info import Baseline

PARTS: tuple[SplitName, ...] = ("val", "test")
VAL = "val_mse"


@dataclass(frozen=True)
class Scored:
    """The rows of a task's baselines, and a line about each that could not be had."""

    rows: tuple[Baseline, ...]
    left_out: tuple[str, ...] = ()


def score_all(data: OpenTask, parts: Sequence[SplitName], limit_s: float) -> Scored:
    """Score every baseline there is here, those of the extra `stats` in `limit_s` of processor time.

    On the validation part at every rolling origin, fitted to the rows before each: its score is their mean.
    """
    rows, names = score_baselines(data, parts), installed_rows()
    if not names or limit_s <= 0:
        return Scored(rows)
    earlier = _earlier_origins(data, parts)
    share_s = limit_s / (1 + len(earlier))
    answers = _answers(data, parts, names, share_s)
    found, problems = dict(answers.rows), dict(answers.problems)
    blocks = {name: [_spread(row, len(forecast_origins(data, "val")))] for name, row in found.items()}
    for origin in earlier:
        at_origin = _answers(origin, ("val",), names, share_s)
        problems = {
            **{name: f"{why} at an earlier origin" for name, why in at_origin.problems.items()},
            **problems,
        }
        found = {
            name: {**row, "scores": _added(row["scores"], at_origin.rows[name]["scores"])}
            for name, row in found.items()
            if name in at_origin.rows
        }
        for name in found:
            blocks[name].insert(-1, _spread(at_origin.rows[name], len(forecast_origins(origin, "val"))))
    more = [
        Baseline(
            name,
            _mean_of(row["scores"], 1 + len(earlier)),
            row["windows"],
            _in_a_row(blocks[name]),
            accuracies_from(row["accuracy"]),
        )
        for name, row in found.items()
    ]
    return Scored((*rows, *more), tuple(f"{name}: {why}" for name, why in problems.items()))


def _earlier_origins(data: OpenTask, parts: Sequence[SplitName]) -> tuple[OpenTask, ...]:
    return data.origins()[:-1] if "val" in parts else ()


def _added(scores: Mapping[str, float], earlier: Mapping[str, float]) -> dict[str, float]:
    """Return the scores with the validation error of an earlier origin added."""
    return {**scores, VAL: scores[VAL] + earlier[VAL]}


def _mean_of(scores: Mapping[str, float], origins: int) -> dict[str, float]:
    return {name: score / origins if name == VAL else score for name, score in scores.items()}


def _answers(data: OpenTask, parts: Sequence[SplitName], names: tuple[str, ...], limit_s: float) -> Answers:
    """Fit the rows of the extra `stats` to the training part; return their scores on `parts`."""
    columns = list(data.series.column_indices(data.task.targets))
    values, train_end = data.series.values[:, columns], data.split.train_end
    scaler = data.scaler.of_columns(columns)
    origins = {part: forecast_origins(data, part) for part in parts}
    request = Request(
        rows=names,
        pred_len=data.task.pred_len,
        seasons=tried_seasons(values[:train_end], data.series.freq),
        mean=tuple(scaler.mean.tolist()),
        std=tuple(scaler.std.tolist()),
        train_end=train_end,
        scales=tuple(scales_of(data).tolist()),
        parts={part: (rows.start, rows.stop) for part, rows in origins.items() if rows},
    )
    return run_bounded(request, values, limit_s)


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

    One whose look-back does not fit the training rows is left out. The validation error is the mean over the
    rolling origins; at an earlier one a method has the period and look-back that the rows before it allow.
    The accuracy in the units of the data is that at the last origin.
    """
    earlier = _earlier_origins(data, parts)
    methods = {id(origin): _methods_of(origin) for origin in (*earlier, data)}

    def row(method: Method) -> Baseline:
        last = score_method(data, method, parts)
        scores, blocks = last.scores, [last.errors]
        for origin in earlier:
            before = score_method(origin, counterpart(method, methods[id(origin)]), ("val",))
            scores = _added(scores, before.scores)
            blocks.insert(-1, before.errors)
        mean = _mean_of(scores, 1 + len(earlier))
        return replace(last, scores=mean, errors=_in_a_row(blocks))

    return tuple(map(row, methods[id(data)]))


def _methods_of(data: OpenTask) -> tuple[Method, ...]:
    return simple_methods(data.split.train_end, data.task.pred_len, data.series.freq, seasons_of(data))


def counterpart(method: Method, there: Sequence[Method]) -> Method:
    """Return the method at an origin where `there` are known: itself, or the last of its kind."""
    alike = [other for other in there if type(other) is type(method)]
    return method if method in there else alike[-1] if alike else LastValue()


def score_method(data: OpenTask, method: Method, parts: Sequence[SplitName]) -> Baseline:
    """Fit the method to the training part; return its scores on `parts` at this origin alone."""
    pred_len, columns = data.task.pred_len, list(data.series.column_indices(data.task.targets))
    table = data.scaler.transform(data.series.values)[:, columns]
    forecast = method.fit(table[: data.split.train_end], pred_len)
    scales, scaler = scales_of(data), data.scaler.of_columns(columns)
    found = {
        part: score_windows(table, rows, pred_len, forecast, scales, scaler)
        for part in parts
        if (rows := forecast_origins(data, part))
    }
    return Baseline(
        method.name,
        {f"{part}_mse": float(scored.errors.mean()) for part, scored in found.items()},
        errors=found["val"].errors if "val" in found else None,
        accuracy={part: scored.accuracy for part, scored in found.items() if scored.accuracy is not None},
    )


def scales_of(data: OpenTask) -> Array:
    """Return the errors by which MASE divides, (targets,): of the obvious period of the step, as everybody
    takes it, on the training rows of the last origin."""
    columns = list(data.series.column_indices(data.task.targets))
    return naive_scales(data.series.values[: data.split.train_end, columns], season_of(data.series.freq))


def _in_a_row(blocks: Sequence[NDArray[np.floating[Any]] | None]) -> NDArray[np.floating[Any]] | None:
    """Return the errors on the windows of all origins in the order of time; None if some are not known."""
    known = [block for block in blocks if block is not None]
    return np.concatenate(known) if known and len(known) == len(blocks) else None


def forecast_origins(data: OpenTask, part: SplitName) -> range:
    """Return the first row that each window of a part forecasts."""
    rows = data.split.target_rows(part)
    return range(rows.start, max(rows.start, rows.stop - data.task.pred_len + 1))


@dataclass(frozen=True)
class ScoredWindows:
    """How well a method forecasts the windows of a part."""

    errors: Array
    """Mean squared error over steps and targets of every window, scaled, (windows,)."""
    accuracy: Accuracy | None
    """In the units of the data."""


def score_windows(
    table: Array, origins: range, pred_len: int, forecast: Forecast, scales: Array, scaler: Scaler
) -> ScoredWindows:
    """Score the forecasts of `table`, (rows, targets), from every origin.

    `scaler` has scaled the table; MASE divides by `scales` (`scales_of`).
    """
    squares, running = np.zeros(len(origins)), RunningAccuracy(pred_len, scales, scaler)
    for target, column in enumerate(np.ascontiguousarray(table.T)):
        windows = sliding_window_view(column, pred_len)
        for first in range(0, len(origins), CHUNK):
            chunk = origins[first : first + CHUNK]
            found, truth = forecast(column, chunk, target), windows[chunk.start : chunk.stop : chunk.step]
            errors = found - truth
            squares[first : first + CHUNK] += np.einsum("ij,ij->i", errors, errors)
            running.add_target(target, found, truth)
    return ScoredWindows(squares / (pred_len * table.shape[1]), running.accuracy())


def _spread(row: Mapping[str, Any], windows: int) -> Array | None:
    """Return the errors of a row on the validation windows, with NaN where it was not scored."""
    if "val_errors" not in row:
        return None
    errors = np.full(windows, np.nan)
    errors[:: row["val_step"]] = np.frombuffer(base64.b64decode(row["val_errors"]), dtype="<f4")
    return errors

"""The scores of baselines on several series: each is fitted to every series alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.data.baselines.bounded import installed_rows
from nas_system.data.baselines.method import Array, Method
from nas_system.data.baselines.scoring import (
    VAL,
    Scored,
    counterpart,
    forecast_origins,
    score_all,
    score_method,
    simple_methods,
)
from nas_system.data.baselines.seasons import seasons_of
from nas_system.data.panel import OpenData, OpenPanel, mean_of_clusters
from nas_system.data.splits import SplitName
from nas_system.space.accuracy import mean_over_series
from nas_system.space.task_info import Baseline


def score_data(data: OpenData, parts: Sequence[SplitName], limit_s: float) -> Scored:
    """Score every baseline there is for one series, as `score_all`, or for several."""
    if not isinstance(data, OpenPanel):
        return score_all(data, parts, limit_s)
    names = installed_rows()
    left_out = (f"{', '.join(names)}: fitted to one series at a time, and here are several",) if names else ()
    return Scored(score_panel(data, parts), left_out)


def score_panel(data: OpenPanel, parts: Sequence[SplitName]) -> tuple[Baseline, ...]:
    """Return the mean squared error over the windows of all series, each scaled by its own training rows.

    The validation error is the mean over the rolling origins, its errors the means of clusters. A method has
    one period and one look-back for all series, which the shortest one allows.
    """
    origins = data.origins() if "val" in parts else (data,)
    methods = {id(origin): _methods_of(origin) for origin in origins}

    def row(method: Method) -> Baseline:
        last = _pooled(data, method, parts)
        blocks, scores = [], dict(last.scores)
        for origin in origins[:-1]:
            before = _pooled(origin, counterpart(method, methods[id(origin)]), ("val",))
            scores[VAL] += before.scores[VAL]
            blocks.append(before.errors)
        blocks.append(last.errors)
        known = [block for block in blocks if block is not None]
        return Baseline(
            method.name,
            {name: score / len(origins) if name == VAL else score for name, score in scores.items()},
            errors=np.concatenate(known) if len(known) == len(origins) else None,
            accuracy=last.accuracy,
        )

    return tuple(map(row, methods[id(data)]))


def _methods_of(data: OpenPanel) -> tuple[Method, ...]:
    rows = min(member.split.train_end for member in data.members)
    return simple_methods(rows, data.task.pred_len, data.members[0].series.freq, seasons_of(data))


def _pooled(data: OpenPanel, method: Method, parts: Sequence[SplitName]) -> Baseline:
    """Return the scores of the method on the windows of all series at this origin alone."""
    found = [score_method(member, method, parts) for member in data.members]
    scores: dict[str, float] = {}
    accuracy = {}
    for part in parts:
        name, windows = f"{part}_mse", [len(forecast_origins(member, part)) for member in data.members]
        if not sum(windows):
            continue
        scores[name] = sum(
            row.scores[name] * count for row, count in zip(found, windows, strict=True) if count
        ) / sum(windows)
        of_series = {
            member.series.name: (row.scores[name], row.accuracy[part])
            for member, row in zip(data.members, found, strict=True)
            if part in row.accuracy
        }
        if (mean := mean_over_series(of_series)) is not None:
            accuracy[part] = mean
    errors = _by_cluster(data, [row.errors for row in found]) if VAL in scores else None
    return Baseline(method.name, scores, errors=errors, accuracy=accuracy)


def _by_cluster(data: OpenPanel, errors: Sequence[NDArray[np.floating[Any]] | None]) -> Array:
    """Return the means of the errors on the validation windows of a cluster."""
    known = [rows.astype(np.float64) for rows in errors if rows is not None]
    dates = [
        np.array(forecast_origins(member, "val"), dtype=np.int64) + offset
        for member, offset in zip(data.members, data.offsets, strict=True)
    ]
    return mean_of_clusters(np.concatenate(known), data.clusters(dates))

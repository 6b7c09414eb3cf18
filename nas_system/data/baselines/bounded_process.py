"""The process of `bounded`: reads a request and values from stdin, prints a line of JSON for every row.

    python -m nas_system.data.baselines.bounded_process

Each row has a share of the processor time; the system ends the process at the first that takes more.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO, cast

import numpy as np

from nas_system.data.baselines.boosted import BoostedLags
from nas_system.data.baselines.bounded import LIBRARY, Request
from nas_system.data.baselines.method import Array, Forecast
from nas_system.data.baselines.scoring import score_windows
from nas_system.data.baselines.statistical import Kind, Statistical
from nas_system.data.scaling import Scaler

WEIGHTS = {"lightgbm": 2.0, "arima": 2.0}
"""A row's share of the time that is left, against 1 for every other."""
STEPS_FORECAST = 70_000
"""Most steps that trees forecast in a part, over windows and targets."""
ROWS_READ = {"ets": 4_000_000, "theta": 1_000_000, "arima": 50_000}
"""Most rows that a model reads in a part, before all origins and over all targets together."""
FEWEST_WINDOWS = 30
_MODULE = {
    name: f"{library}.models" if library == "statsforecast" else library for name, library in LIBRARY.items()
}
"""What takes seconds to import, and is part of no row's share."""


def main() -> int:
    """Answer one request."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    head = json.loads(sys.stdin.buffer.readline())
    limit_s = head.pop("limit_s")
    head["seasons"], head["rows"] = tuple(head["seasons"]), tuple(head["rows"])
    request = Request(**head)
    values = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    _limit(request.rows[:1], limit_s)
    for name in request.rows:
        importlib.import_module(_MODULE[name])
    for place, name in enumerate(request.rows):
        before = time.process_time()
        _limit(request.rows[place:], limit_s)
        answer = _answer(name, request, values)
        _print(answers, {"name": name, "cpu_s": time.process_time() - before, **answer})
    return 0


def _limit(names: Sequence[str], limit_s: float) -> None:
    """Let the process use its first name's share of the time that is left for all of `names`."""
    used = time.process_time()
    weights = [WEIGHTS.get(name, 1.0) for name in names]
    share = max(0.0, limit_s - used) * weights[0] / sum(weights)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (max(1, math.ceil(used + share)), hard))


def _print(file: TextIO, answer: dict[str, Any]) -> None:
    file.write(json.dumps(answer, allow_nan=False) + "\n")
    file.flush()


def _answer(name: str, request: Request, values: Array) -> dict[str, Any]:
    """Return the scores of a row, or its forecast of the future, in the units of the data."""
    mean, std = np.array(request.mean), np.array(request.std)
    scaled = (values - mean) / std
    train_end, pred_len = request.train_end, request.pred_len
    if name == "lightgbm":
        forecast = BoostedLags(request.seasons).fit(scaled[:train_end], pred_len)
    else:
        forecast = _on_unscaled(
            Statistical(cast(Kind, name), request.seasons).fit(values[:train_end], pred_len), values, request
        )
    if not request.parts:
        future = [
            forecast(column, range(len(values), len(values) + 1), target)[0]
            for target, column in enumerate(scaled.T)
        ]
        return {"values": (np.stack(future, axis=1) * std + mean).tolist()}
    scores, windows, kept, accuracy = {}, "", {}, {}
    scales, scaler = np.array(request.scales), Scaler(mean, std)
    for part, (first, end) in request.parts.items():
        origins = range(first, end, _step(name, first, end, request))
        scored = score_windows(scaled, origins, pred_len, forecast, scales, scaler)
        errors = scored.errors
        scores[f"{part}_mse"] = float(errors.mean())
        if scored.accuracy is not None:
            accuracy[part] = scored.accuracy.to_json()
        if part == "val":
            kept = {
                "val_errors": base64.b64encode(errors.astype("<f4").tobytes()).decode(),
                "val_step": origins.step,
            }
        if len(origins) < end - first and not windows:
            windows = f"{len(origins)} of {end - first}"
    if not all(map(math.isfinite, scores.values())):
        raise ArithmeticError("its error is not a finite number")
    return {"scores": scores, "windows": windows, "accuracy": accuracy, **kept}


def _on_unscaled(forecast: Forecast, values: Array, request: Request) -> Forecast:
    """Return a forecast of scaled columns by models of the unscaled ones."""

    def scaled(column: Array, origins: range, target: int) -> Array:
        return (forecast(values[:, target], origins, target) - request.mean[target]) / request.std[target]

    return scaled


def _step(name: str, first: int, end: int, request: Request) -> int:
    """Return how far apart the origins of a part are: by counts, not by time, so the same everywhere."""
    windows, targets = end - first, len(request.mean)
    if name == "lightgbm":
        most = STEPS_FORECAST // (request.pred_len * targets)
    else:
        model = Statistical(cast(Kind, name))
        most = ROWS_READ[name] // ((end - model.first_row(end, request.train_end)) * targets)
    return -(-windows // max(most, FEWEST_WINDOWS))


if __name__ == "__main__":
    sys.exit(main())

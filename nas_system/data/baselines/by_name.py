"""A baseline from its name in the leaderboard, and its forecast of the future."""

from __future__ import annotations

import re
from importlib.util import find_spec

import numpy as np

from nas_system.data.baselines.boosted import BoostedLags
from nas_system.data.baselines.bounded import EXTRA, LIBRARY, LIMIT_S, Request, run_bounded
from nas_system.data.baselines.method import Array, Method
from nas_system.data.baselines.naive import Drift, LastValue, SeasonalNaive
from nas_system.data.baselines.nlinear import NLinear
from nas_system.data.baselines.seasons import tried_seasons
from nas_system.data.baselines.statistical import Statistical
from nas_system.data.scaling import Scaler
from nas_system.errors import ConfigError

_METHODS: tuple[Method, ...] = (
    LastValue(),
    Drift(),
    BoostedLags(),
    Statistical("ets"),
    Statistical("theta"),
    Statistical("arima"),
)
_WITH_NUMBER = {"seasonal": SeasonalNaive, "nlinear": NLinear}
_NAME = re.compile(r"(seasonal|nlinear)-([1-9][0-9]{0,5})")


def method_named(name: str) -> Method | None:
    """Return the baseline of a row of the leaderboard; None for any other name."""
    if (match := _NAME.fullmatch(name)) is not None:
        kind, number = match.groups()
        return _WITH_NUMBER[kind](int(number))
    return next((method for method in _METHODS if method.name == name), None)


def check_installed(name: str) -> None:
    """Raise ConfigError for a row of an extra that is not here."""
    library = LIBRARY.get(name)
    if library is not None and find_spec(library) is None:
        raise ConfigError(f"{name} needs {library}, which is not installed: {EXTRA}")


def forecast_future(method: Method, values: Array, freq: str, pred_len: int) -> tuple[Array, Array]:
    """Fit to all of `values`, (rows, targets); return the next (pred_len, targets), and the targets' spread.

    Both are in the units of the data. Raises ConfigError for too few or too large values, and for a model
    that cannot be fitted to them.
    """
    needed = method.rows_needed(pred_len)
    if len(values) < needed:
        raise ConfigError(f"{len(values)} rows are too few for {method.name}, which needs {needed}")
    try:
        scaler = Scaler.of_rows(values, range(values.shape[1]))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if method.name in LIBRARY:
        return _bounded_future(method.name, values, freq, pred_len, scaler), scaler.std
    table = scaler.transform(values)
    forecast = method.fit(table, pred_len)
    origin = range(len(table), len(table) + 1)
    future = [
        forecast(column, origin, target)[0] for target, column in enumerate(np.ascontiguousarray(table.T))
    ]
    return scaler.inverse(np.stack(future, axis=1)), scaler.std


def _bounded_future(name: str, values: Array, freq: str, pred_len: int, scaler: Scaler) -> Array:
    request = Request(
        rows=(name,),
        pred_len=pred_len,
        seasons=tried_seasons(values, freq),
        mean=tuple(scaler.mean.tolist()),
        std=tuple(scaler.std.tolist()),
        train_end=len(values),
    )
    answers = run_bounded(request, values, LIMIT_S)
    if name not in answers.rows:
        raise ConfigError(f"{name}: {answers.problems[name]}")
    return np.array(answers.rows[name]["values"])

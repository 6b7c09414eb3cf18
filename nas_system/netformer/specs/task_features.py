"""Numbers that describe a forecasting task before anything is trained on it.

From the training part alone, so that nothing of the validation or test part can leak into a proposal;
always the same numbers in the same order, numbered by `archive_file.FEATURES_VERSION`; in less than a
second. Next to plain statistics there are landmarks: cheap linear forecasts, fitted on the first three
quarters of the training part and scored on its last quarter, which show whether a longer look-back, other
columns or a nonlinear map would help (Pfahringer et al. 2000, "Meta-Learning by Landmarking Various
Learning Algorithms", ICML).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nas_system.data.baselines.seasons import season_of
from nas_system.data.open_task import OpenTask

Array = NDArray[np.float64]

MAX_ROWS = 6_000
"""Only the latest training rows are read, to bound the time."""
MAX_TARGETS = 3
MAX_COLUMNS = 8
MAX_WINDOWS = 1_500
"""Windows that a landmark is fitted to, evenly spread."""
FIT_SHARE = 0.75
RIDGE = 3.0
LOOK_BACKS = (8, 32, 96)
"""Look-backs of the linear landmarks; those that do not fit are as good as the longest that does."""
RANDOM_FEATURES = 64
"""Of the nonlinear landmark (Rahimi, Recht 2007, random kitchen sinks)."""
TINY = 1e-6


def task_features(data: OpenTask) -> dict[str, float]:
    """Return name -> number, all finite; the same names in the same order for every task."""
    table = data.scaler.transform(data.series.values)[: data.split.train_end]
    targets = list(data.series.column_indices(data.task.targets))
    season, horizon = season_of(data.series.freq), data.task.pred_len
    sizes = {
        "log_rows": math.log(len(table)),
        "log_horizon": math.log(horizon),
        "log_columns": math.log(table.shape[1]),
        "log_targets": math.log(len(targets)),
        "log_season": math.log(season),
        "horizon_in_seasons": min(4.0, horizon / season),
        "seasons_in_train": math.log1p(len(table) / season),
    }
    latest = table[-MAX_ROWS:]
    described = [_column(latest, target, season, horizon) for target in targets[:MAX_TARGETS]]
    means = {name: float(np.mean([column[name] for column in described])) for name in described[0]}
    return {name: value if math.isfinite(value) else 0.0 for name, value in (sizes | means).items()}


def _column(table: Array, target: int, season: int, horizon: int) -> dict[str, float]:
    series = table[:, target]
    return _statistics(series, season, horizon) | _landmarks(table, target, season, horizon)


def _statistics(series: Array, season: int, horizon: int) -> dict[str, float]:
    steps = np.linspace(-1, 1, len(series))
    slope = float(steps @ series / (steps @ steps))
    flat = series - slope * steps
    changes = np.diff(series)
    power = np.abs(np.fft.rfft(flat - flat.mean()))[1:] ** 2
    shares = power / max(TINY, power.sum())
    half = len(series) // 2
    return {
        "trend": slope,
        "trend_share": 1 - _variance(flat) / max(TINY, _variance(series)),
        "acf_1": _autocorrelation(series, 1),
        "acf_horizon": _autocorrelation(series, horizon),
        "acf_season": _autocorrelation(series, season),
        "acf_week": _autocorrelation(series, 7 * season),
        "acf_change_1": _autocorrelation(changes, 1),
        "season_strength": _seasonal_share(flat, season),
        "week_strength": _seasonal_share(flat, 7 * season),
        "spectral_entropy": float(-(shares * np.log(shares + 1e-12)).sum() / math.log(max(2, len(shares)))),
        "spectral_peak": float(shares.max()),
        "log_roughness": _log_ratio(_variance(changes), _variance(series)),
        "change_tails": math.log(max(1.0, _kurtosis(changes))),
        "log_variance_moves": math.log(
            max(TINY, _variance(series[half:])) / max(TINY, _variance(series[:half]))
        ),
        "level_moves": float(abs(series[half:].mean() - series[:half].mean())),
    }


def _landmarks(table: Array, target: int, season: int, horizon: int) -> dict[str, float]:
    """Return logarithms of squared errors of cheap forecasts on the last quarter of the training part."""
    series, border = table[:, target], int(FIT_SHARE * len(table))
    longest = max(2, min(LOOK_BACKS[-1], border - horizon - 8))
    parts = _windows(series, longest, horizon, border)
    last = _log_mse([(y, np.repeat(x[:, -1:], horizon, axis=1)) for x, y in parts[1:]])
    mean = _log_mse([(y, np.repeat(x.mean(axis=1, keepdims=True), horizon, axis=1)) for x, y in parts[1:]])
    linear = [_fit_and_score(parts, lambda x, n=n: _differences(x, min(n, longest))) for n in LOOK_BACKS]
    nonlinear = _fit_and_score(
        parts, lambda x: _with_random_features(_differences(x, min(LOOK_BACKS[0], longest)))
    )
    return {
        "log_last": last,
        "mean_to_last": mean - last,
        "linear_to_last": linear[-1] - last,
        "longer_32": linear[1] - linear[0],
        "longer_96": linear[2] - linear[1],
        "bend": nonlinear - linear[0],
        "covariates": _gain_of_covariates(table, target, horizon, border),
        "repeat_season_to_last": _repeat_season(series, season, horizon, border) - last,
    }


Part = tuple[Array, Array]


def _windows(series: Array, look_back: int, horizon: int, border: int) -> list[Part]:
    """Return (past, future) of the fitted and of the scored windows, whose targets do not overlap."""
    windows = sliding_window_view(series, look_back + horizon)
    fitted = _spread(windows[: max(1, border - look_back - horizon + 1)])
    scored = _spread(windows[max(0, min(border - look_back, len(windows) - 1)) :])
    return [(part[:, :look_back], part[:, look_back:]) for part in (fitted, scored)]


def _spread(windows: Array) -> Array:
    if len(windows) <= MAX_WINDOWS:
        return windows
    return windows[np.linspace(0, len(windows) - 1, MAX_WINDOWS).astype(int)]


def _differences(past: Array, look_back: int) -> Array:
    """Return the last steps relative to the last value."""
    return past[:, -look_back:] - past[:, -1:]


def _with_random_features(features: Array) -> Array:
    """Append smooth random functions of the features."""
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((features.shape[1], RANDOM_FEATURES)) / math.sqrt(
        features.shape[1]
    )
    phases = generator.uniform(0, 2 * math.pi, RANDOM_FEATURES)
    return np.concatenate([features, np.cos(features @ directions + phases)], axis=1)


def _fit_and_score(parts: list[Part], features_of: Callable[[Array], Array]) -> float:
    (fit_x, fit_y), (past, future) = parts
    weights = _ridge(features_of(fit_x), fit_y - fit_x[:, -1:])
    forecast = past[:, -1:] + _with_one(features_of(past)) @ weights
    return _log_mse([(future, forecast)])


def _gain_of_covariates(table: Array, target: int, horizon: int, border: int) -> float:
    """Return the log ratio of errors with and without the other columns; 0 where there are none."""
    others = [column for column in range(table.shape[1]) if column != target][:MAX_COLUMNS]
    look_back = min(LOOK_BACKS[0], border - horizon - 8)
    if not others or look_back < 2:
        return 0.0
    own = _windows(table[:, target], look_back, horizon, border)
    covariates = [_windows(table[:, column], look_back, horizon, border) for column in others]
    joined = [
        np.concatenate([_differences(own[i][0], look_back), *(other[i][0] for other in covariates)], axis=1)
        for i in range(2)
    ]
    weights = _ridge(joined[0], own[0][1] - own[0][0][:, -1:])
    forecast = own[1][0][:, -1:] + _with_one(joined[1]) @ weights
    alone = _fit_and_score(own, lambda x: _differences(x, look_back))
    return _log_mse([(own[1][1], forecast)]) - alone


def _repeat_season(series: Array, season: int, horizon: int, border: int) -> float:
    look_back = min(season, border - horizon - 8)
    past, future = _windows(series, max(1, look_back), horizon, border)[1]
    return _log_mse([(future, past[:, np.arange(horizon) % past.shape[1]])])


def _ridge(features: Array, targets: Array) -> Array:
    joined = _with_one(features)
    penalty = np.full(joined.shape[1], RIDGE)
    penalty[-1] = TINY
    weights: Array = np.linalg.solve(joined.T @ joined + np.diag(penalty), joined.T @ targets).astype(float)
    return weights


def _with_one(features: Array) -> Array:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _log_mse(pairs: list[Part]) -> float:
    return math.log(max(TINY, float(np.mean([np.mean((truth - guess) ** 2) for truth, guess in pairs]))))


def _log_ratio(above: float, below: float) -> float:
    return math.log(max(TINY, above) / max(TINY, below))


def _variance(values: Array) -> float:
    return float(values.var()) if len(values) > 1 else 0.0


def _kurtosis(values: Array) -> float:
    centred = values - values.mean()
    return float((centred**4).mean() / max(TINY, (centred**2).mean() ** 2))


def _autocorrelation(series: Array, lag: int) -> float:
    """Return 0 where the series is too short."""
    if lag < 1 or 2 * lag >= len(series):
        return 0.0
    early, late = series[:-lag] - series[:-lag].mean(), series[lag:] - series[lag:].mean()
    return float(early @ late / max(TINY, math.sqrt(float(early @ early) * float(late @ late))))


def _seasonal_share(series: Array, season: int) -> float:
    """Return the share of the variance that the phase means explain; 0 with fewer than three seasons."""
    seasons = len(series) // season
    if season < 2 or seasons < 3:
        return 0.0
    folded = series[: seasons * season].reshape(seasons, season)
    # Noise alone explains 1 / seasons.
    raw = _variance(folded.mean(axis=0)) / max(TINY, _variance(folded.ravel()))
    return max(0.0, (raw - 1 / seasons) / (1 - 1 / seasons))

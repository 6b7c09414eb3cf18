"""Random forecasting tasks: small series with known components, from which an archive of trainings is made.

A series has seasons, a trend, autocorrelated noise, level shifts, and other columns that lead the target,
follow it or are independent of it; the size of each is drawn. The tasks on which proposers are evaluated
come from other seeds, and half of them have components that no task of the archive has (`novel`):
another shape of season, seasons that grow with the level, noise in bursts.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_system.data.baselines.seasons import season_of
from nas_system.space import ForecastingTask

Array = NDArray[np.float64]

STEPS = {"h": np.timedelta64(3600, "s"), "30min": np.timedelta64(1800, "s"), "D": np.timedelta64(86400, "s")}
START = np.datetime64("2020-01-01T00:00:00", "s")
TARGET = "y"
DECIMALS = 5
TRAIN_SHARE, VAL_SHARE = 0.60, 0.15
"""Where the default split has its borders: that is where levels shift, as they do in real data."""


@dataclass(frozen=True)
class TaskRecipe:
    """Components of a random task. Sizes are in units of the noise's standard deviation, lengths in steps."""

    name: str
    seed: int
    rows: int
    freq: str
    pred_len: int
    season: float
    """Amplitude of the obvious period (a day of hours, a week of days)."""
    long_season: float
    """Amplitude of a period seven times as long."""
    overtones: float
    """Weight of the second and third harmonic."""
    trend: float
    """Rise over the whole series."""
    memory: float
    """Coefficient of the AR(1) part; near 1 it is a random walk."""
    wander: float
    """Deviation of the AR(1) part."""
    noise: float
    """Deviation of the part that nothing can forecast."""
    shift: float
    """Level shift at the borders between the parts."""
    leading: int
    """Columns that lead the target."""
    following: int
    """Columns that follow it."""
    unrelated: int
    gain: float
    """How strongly leading columns act on the target."""
    interaction: float
    """How strongly the product of the first two leading columns acts on it: what no linear map sees."""
    all_targets: bool = False
    """Every column is forecast instead of one."""
    shape: str = "sine"
    """Of the season: sine; novel ones: saw, pulse."""
    growing: bool = False
    """The season grows with the level: novel."""
    bursts: bool = False
    """Noise comes in bursts: novel."""

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def draw_recipe(name: str, seed: int, *, novel: bool = False) -> TaskRecipe:
    """Draw a task from `seed` alone."""
    generator = np.random.default_rng(seed)

    def maybe(probability: float, low: float, high: float) -> float:
        """Draw a size between low and high, or 0."""
        present, size = generator.random() < probability, generator.uniform(low, high)
        return round(float(size), 3) if present else 0.0

    freq = str(generator.choice(list(STEPS), p=[0.55, 0.2, 0.25]))
    rows = int(np.exp(generator.uniform(np.log(600), np.log(2500))))
    leading = int(generator.choice(3, p=[0.35, 0.35, 0.30]))
    recipe: dict[str, Any] = {
        "rows": rows,
        "freq": freq,
        "pred_len": int(min(generator.choice([4, 8, 12, 24, 36], p=[0.2, 0.2, 0.2, 0.25, 0.15]), rows // 25)),
        "season": maybe(0.75, 0.3, 3.0),
        "long_season": maybe(0.4, 0.2, 1.5),
        "overtones": maybe(0.5, 0.2, 0.8),
        "trend": maybe(0.5, -3.0, 3.0),
        "memory": round(float(1 - np.exp(generator.uniform(np.log(0.003), np.log(0.8)))), 4),
        "wander": maybe(0.85, 0.3, 2.0),
        "noise": round(float(np.exp(generator.uniform(np.log(0.05), np.log(1.2)))), 3),
        "shift": maybe(0.4, 0.5, 3.0),
        "leading": leading,
        "following": int(generator.choice(2, p=[0.7, 0.3])),
        "unrelated": int(generator.choice(3, p=[0.5, 0.3, 0.2])),
        "gain": maybe(0.9, 0.5, 2.0) if leading else 0.0,
        "interaction": maybe(0.5, 0.5, 2.0) if leading > 1 else 0.0,
        "all_targets": bool(generator.random() < 0.12),
    }
    if novel:
        recipe["shape"] = str(generator.choice(["saw", "pulse"]))
        recipe["season"] = max(recipe["season"], 0.8)
        recipe["growing"], recipe["bursts"] = (bool(generator.random() < 0.5) for _ in range(2))
    if recipe["leading"] + recipe["following"] + recipe["unrelated"] == 0:
        recipe["all_targets"] = False
    return TaskRecipe(name, seed, **recipe)


def task_of(recipe: TaskRecipe, path: str) -> ForecastingTask:
    """Return the task for a file at `path` with the content of `csv_of(recipe)`."""
    targets = ("all",) if recipe.all_targets else (TARGET,)
    return ForecastingTask(dataset=path, targets=targets, pred_len=recipe.pred_len, freq=recipe.freq)


def csv_of(recipe: TaskRecipe) -> bytes:
    """Return the series as a CSV file; the same bytes for the same recipe."""
    columns = _columns(recipe)
    dates = START + np.arange(recipe.rows) * STEPS[recipe.freq]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["date", *columns])
    table = np.round(np.stack(list(columns.values()), axis=1), DECIMALS)
    for date, row in zip(dates, table.tolist(), strict=True):
        writer.writerow([str(date).replace("T", " "), *row])
    return text.getvalue().encode()


def _columns(recipe: TaskRecipe) -> dict[str, Array]:
    """Return every column by name, the target last."""
    generator = np.random.default_rng([recipe.seed, 1])
    season = season_of(recipe.freq)
    leaders = [_leader(recipe, season, generator) for _ in range(recipe.leading)]
    lag = int(generator.integers(1, recipe.pred_len + 1))
    target = _own_part(recipe, season, generator)
    for leader in leaders:
        target = target + recipe.gain * _delayed(leader, lag) / max(1, recipe.leading)
    if recipe.interaction:
        target = target + recipe.interaction * _delayed(leaders[0] * leaders[1], lag)
    noise = recipe.noise * generator.standard_normal(recipe.rows)
    if recipe.bursts:
        noise *= np.exp(_autoregressive(0.97, generator, recipe.rows))
    target = target + noise
    columns = {f"lead_{i + 1}": leader for i, leader in enumerate(leaders)}
    for i in range(recipe.following):
        columns[f"follow_{i + 1}"] = _delayed(target, 2) + 0.3 * generator.standard_normal(recipe.rows)
    for i in range(recipe.unrelated):
        columns[f"other_{i + 1}"] = _autoregressive(0.9, generator, recipe.rows)
    return columns | {TARGET: target}


def _own_part(recipe: TaskRecipe, season: int, generator: np.random.Generator) -> Array:
    """Return what can be forecast from the target's own past: trend, seasons, AR(1) level, shifts."""
    steps = np.arange(recipe.rows)
    level = recipe.trend * steps / recipe.rows
    level = level + recipe.wander * _autoregressive(recipe.memory, generator, recipe.rows)
    for border in (TRAIN_SHARE, TRAIN_SHARE + VAL_SHARE):
        sign = generator.choice([-1.0, 1.0])
        level = level + sign * recipe.shift * (1 + np.tanh((steps - border * recipe.rows) / season)) / 2
    seasonal = recipe.season * _season(recipe, steps / season + generator.random())
    seasonal = seasonal + recipe.long_season * np.sin(2 * np.pi * (steps / (7 * season) + generator.random()))
    if recipe.growing:
        seasonal = seasonal * np.exp(0.3 * level)
    return level + seasonal


def _season(recipe: TaskRecipe, phase: Array) -> Array:
    """Return the seasonal wave; `phase` counts seasons."""
    if recipe.shape == "saw":
        return 2 * (phase % 1) - 1
    if recipe.shape == "pulse":
        return np.where(phase % 1 < 0.25, 1.5, -0.5)
    wave = np.sin(2 * np.pi * phase)
    for order in (2, 3):
        wave = wave + recipe.overtones / order * np.sin(2 * np.pi * order * phase + order)
    return wave


def _leader(recipe: TaskRecipe, season: int, generator: np.random.Generator) -> Array:
    steps = np.arange(recipe.rows)
    wave = 0.5 * np.sin(2 * np.pi * (steps / season + generator.random()))
    return wave + _autoregressive(float(generator.uniform(0.3, 0.95)), generator, recipe.rows)


def _delayed(values: Array, lag: int) -> Array:
    return np.concatenate([np.full(lag, values[0]), values[:-lag]])


def _autoregressive(memory: float, generator: np.random.Generator, rows: int) -> Array:
    """Draw an AR(1) process of unit variance that starts in its stationary distribution."""
    shocks = generator.standard_normal(rows)
    values = np.empty(rows)
    state, drive = shocks[0], (1 - memory**2) ** 0.5
    for step in range(rows):
        state = memory * state + drive * shocks[step] if step else state
        values[step] = state
    return values

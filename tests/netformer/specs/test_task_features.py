"""Task features: from the training part alone, always as many, always finite, and they see what is there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from nas_system.data.loading import open_task
from nas_system.netformer.specs.task_features import MAX_ROWS, task_features
from nas_system.space import ForecastingTask

ROWS = 900


def features_of(folder: Path, columns: dict[str, np.ndarray], targets=("y",), pred_len=6) -> dict[str, float]:
    path = folder / "series.csv"
    rows = len(next(iter(columns.values())))
    dates = np.datetime64("2024-01-01T00:00", "m") + np.arange(rows) * np.timedelta64(60, "m")
    lines = [",".join(["date", *columns])]
    for number, date in enumerate(dates):
        lines.append(",".join([str(date).replace("T", " "), *(f"{v[number]:.6f}" for v in columns.values())]))
    path.write_text("\n".join(lines) + "\n")
    task = ForecastingTask(dataset=str(path), targets=targets, pred_len=pred_len)
    return task_features(open_task(task))


def noise(seed: int, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(rows)


def test_validation_and_test_part_have_no_influence(tmp_path: Path) -> None:
    series, other = noise(1).cumsum(), noise(2)
    changed, end = series.copy(), int(0.6 * ROWS)
    changed[end:] = 1000 + 50 * noise(3)[end:]
    before = features_of(tmp_path, {"x": other, "y": series})
    assert features_of(tmp_path, {"x": other, "y": changed}) == before
    changed[end - 1] += 5
    assert features_of(tmp_path, {"x": other, "y": changed}) != before


@pytest.mark.parametrize(
    ("columns", "targets", "pred_len"),
    [
        ({"y": np.zeros(ROWS)}, ("y",), 6),
        ({"y": noise(1, 40)}, ("y",), 2),
        ({"y": noise(1, 120), "x": np.ones(120)}, ("all",), 12),
        ({f"c{i}": noise(i) for i in range(12)} | {"y": noise(20)}, ("c1", "y"), 90),
    ],
    ids=["constant", "short", "all columns", "many columns"],
)
def test_there_are_always_the_same_finite_numbers(
    tmp_path: Path, columns: dict[str, np.ndarray], targets: tuple[str, ...], pred_len: int
) -> None:
    usual = features_of(tmp_path, {"y": noise(5)})
    found = features_of(tmp_path, columns, targets, pred_len)
    assert list(found) == list(usual) and len(usual) == 30
    assert all(math.isfinite(value) for value in found.values())


def test_they_see_what_the_series_is_made_of(tmp_path: Path) -> None:
    hours = np.arange(ROWS)
    season = features_of(tmp_path, {"y": np.sin(2 * np.pi * hours / 24) + 0.1 * noise(1)})
    plain = features_of(tmp_path, {"y": noise(2)})
    walk = features_of(tmp_path, {"y": noise(3).cumsum()})
    assert season["season_strength"] > 0.9 > 0.2 > plain["season_strength"]
    assert season["spectral_entropy"] < plain["spectral_entropy"]
    assert walk["acf_1"] > 0.95 and abs(plain["acf_1"]) < 0.1
    # A mean forecasts white noise better than its last value, and a random walk worse.
    assert plain["mean_to_last"] < -0.4 and walk["mean_to_last"] > 0.1
    lead = noise(4)
    helped = features_of(tmp_path, {"x": lead, "y": np.roll(lead, 3) + 0.1 * noise(5)}, pred_len=3)
    unhelped = features_of(tmp_path, {"x": noise(6), "y": noise(7)}, pred_len=3)
    assert helped["covariates"] < -0.5 and unhelped["covariates"] > -0.1


def test_of_a_large_task_only_the_latest_rows_are_looked_at() -> None:
    data = open_task(ForecastingTask(dataset="synthetic", targets=("all",), pred_len=336))
    found = task_features(data)
    early = slice(data.split.train_end - MAX_ROWS)
    assert early.stop > 0
    data.series.values[early] = np.nan
    assert task_features(data) == found

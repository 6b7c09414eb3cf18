"""Baselines that are fitted: none sees the future, and the scores are those of what they forecast."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_system.data import OpenTask, Series
from nas_system.data.baselines.boosted import BoostedLags
from nas_system.data.baselines.method import Method
from nas_system.data.baselines.naive import Drift, LastValue, SeasonalNaive
from nas_system.data.baselines.nlinear import NLinear
from nas_system.data.baselines.scoring import score_baselines
from nas_system.data.baselines.seasons import shared_seasons, tried_seasons
from nas_system.data.baselines.statistical import Statistical
from nas_system.space import ForecastingTask

ROWS, TRAIN, PRED_LEN = 200, 140, 5
METHODS: tuple[Method, ...] = (
    LastValue(),
    Drift(),
    SeasonalNaive(7),
    NLinear(21),
    BoostedLags((7,)),
    Statistical("ets", (7,)),
    Statistical("theta", (7,)),
    Statistical("arima", (7,)),
)


def weekly(columns: int = 2) -> np.ndarray:
    """Positive values with a week in them, another one in each column."""
    steps, noise = np.arange(ROWS)[:, None], np.random.default_rng(1).normal(size=(ROWS, columns))
    weeks = np.random.default_rng(2).normal(size=(7, columns))
    return 50 + 8 * weeks[np.arange(ROWS) % 7] + 0.05 * steps + noise


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_forecast_rests_on_the_training_rows_and_those_before_its_origin(method: Method) -> None:
    table = weekly()
    forecast = method.fit(table[:TRAIN], PRED_LEN)
    origins = range(TRAIN + 3, TRAIN + 33, 10)
    found = forecast(table[:, 1], origins, 1)
    assert found.shape == (3, PRED_LEN) and np.isfinite(found).all()
    for origin, expected in zip(origins, found, strict=True):
        poisoned = table[:, 1].copy()
        poisoned[origin:] = 1e6
        np.testing.assert_allclose(forecast(poisoned, range(origin, origin + 1), 1)[0], expected, rtol=1e-12)
        seen = table[:, 1].copy()
        seen[origin - 7 : origin] += 20
        assert not np.allclose(forecast(seen, range(origin, origin + 1), 1)[0], expected)
    # One past the last row: the future.
    assert forecast(table[:, 0], range(ROWS, ROWS + 1), 0).shape == (1, PRED_LEN)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_clean_pattern_is_forecast_by_all_that_can_see_it(method: Method) -> None:
    table = 10 + np.tile([0.0, 3, 1, 7, 2, 5, 4], 30)[:ROWS, None] + 0.01 * np.sin(np.arange(ROWS))[:, None]
    origin = range(190, 191)
    error = np.abs(method.fit(table[:TRAIN], 7)(table[:, 0], origin, 0)[0] - table[190:197, 0]).max()
    assert (error > 2) == (method.name in ("last-value", "drift")), error


def test_drift_continues_the_line_through_the_first_and_the_last_value() -> None:
    column = np.array([2.0, 9, 1, 8])
    found = Drift().fit(column[:3, None], 3)(column, range(3, 5), 0)
    np.testing.assert_allclose(found, [[0.5, 0, -0.5], [10, 12, 14]])


def open_series(values: np.ndarray, **task: Any) -> OpenTask:
    days = np.datetime64("2020-01-01", "s") + np.arange(len(values)) * np.timedelta64(86_400, "s")
    names = tuple("abcdefg"[: values.shape[1]])
    config = ForecastingTask.model_validate({"dataset": "x", "targets": names, **task})
    return OpenTask.of_series(config, Series(values, names, days, "D"))


def test_the_season_is_found_in_the_data_and_the_steps_own_stays() -> None:
    beat = np.tile(np.random.default_rng(5).normal(size=11), 40)[:400, None]
    values = 3 + beat + 0.1 * np.random.default_rng(6).normal(size=(400, 1))
    data = open_series(values, pred_len=4)
    assert shared_seasons(values, "D") == (11,) and tried_seasons(values, "D") == (11, 7)
    rows = {row.name: row.scores["val_mse"] for row in score_baselines(data)}
    assert list(rows) == ["last-value", "drift", "seasonal-7", "seasonal-11", "nlinear-118"]
    assert rows["seasonal-11"] < 0.1 * rows["seasonal-7"]


def test_the_season_of_several_targets_is_the_strongest_over_all() -> None:
    weeks = weekly(3)
    other = np.tile(np.random.default_rng(5).normal(size=11), 40)[:ROWS, None]
    assert shared_seasons(np.hstack([other, weeks]), "D")[0] == 7
    assert shared_seasons(np.hstack([other, other, other, weeks[:, :1]]), "D")[0] == 11


# --- in their own process, through `nas describe` -----------------------------------------------

Cli = Callable[..., subprocess.CompletedProcess[str]]
STATS = ("ets", "theta", "lightgbm", "arima")


def write_weekly(path: Path, rows: int = ROWS) -> Path:
    days = np.datetime64("2020-01-01") + np.arange(rows)
    lines = [f"{day},{a:.4f},{b:.4f}" for day, (a, b) in zip(days, weekly()[:rows], strict=True)]
    path.write_text("\n".join(["date,a,b", *lines]) + "\n")
    return path


def describe(
    run_cli: Cli, folder: Path, seconds: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    write_weekly(folder / "own.csv")
    flags = ("--dataset", "own.csv", "--target", "a,b", "--pred-len", "5", "--out", "facts.json")
    done = run_cli("nas_system.describe", *flags, cwd=folder, env={"NAS_STATS_SECONDS": seconds})
    file = folder / "facts.json"
    return done, json.loads(file.read_text()) if file.exists() else {}


def test_the_extra_rows_are_scored_as_the_models_forecast(run_cli: Cli, tmp_path: Path) -> None:
    done, facts = describe(run_cli, tmp_path, "600")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert facts["measured"]["left_out"] == []
    rows = {row["name"]: row for row in facts["baselines"]}
    assert tuple(rows)[-4:] == STATS
    assert "windows" not in rows["ets"]
    values, train = np.round(weekly(), 4), facts["measured"]["split"]["train"][1]
    first, end = facts["measured"]["split"]["val"]
    origins = range(first, end - 5 + 1)
    spread = values[:train].std(axis=0)
    for method in METHODS[5:7]:
        forecast = method.fit(values[:train], 5)
        errors = [
            (forecast(values[:, target], origins, target)[place] - values[origin : origin + 5, target])
            / spread[target]
            for target in (0, 1)
            for place, origin in enumerate(origins)
        ]
        assert rows[method.name]["val_mse"] == pytest.approx(np.mean(np.square(errors)), rel=1e-6)
        in_units = np.abs(errors).reshape(2, -1).mean(axis=1) * spread
        weekly_error = np.abs(values[7:train] - values[: train - 7]).mean(axis=0)
        accuracy = rows[method.name]["accuracy"]["val"]
        assert accuracy["mae"] == pytest.approx(in_units.mean(), rel=1e-6)
        assert accuracy["mase"] == pytest.approx((in_units / weekly_error).mean(), rel=1e-6)


def test_without_compute_the_extra_rows_are_left_out_and_said(run_cli: Cli, tmp_path: Path) -> None:
    done, facts = describe(run_cli, tmp_path, "2")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert [row["name"] for row in facts["baselines"]] == ["last-value", "drift", "seasonal-7", "nlinear-57"]
    assert [line.split(":")[0] for line in facts["measured"]["left_out"]] == list(STATS)
    assert "left out  ets: not fitted within its share of the compute" in done.stdout


def test_a_model_that_cannot_be_fitted_costs_its_own_row_only(run_cli: Cli, tmp_path: Path) -> None:
    write_weekly(tmp_path / "own.csv", 9)
    flags = ("--dataset", "own.csv", "--target", "a", "--pred-len", "1", "--out", "facts.json")
    split = ("--train-rows", "5", "--val-rows", "2", "--test-rows", "2")
    done = run_cli("nas_system.describe", *flags, *split, cwd=tmp_path, env={"NAS_STATS_SECONDS": "600"})
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr
    facts = json.loads((tmp_path / "facts.json").read_text())
    (line,) = facts["measured"]["left_out"]
    assert line.startswith("ets: it cannot be fitted here (") and line.endswith(": tiny datasets)")
    assert {"lightgbm", "theta", "arima"} <= {row["name"] for row in facts["baselines"]}


@pytest.mark.parametrize("seconds", ["soon", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused(run_cli: Cli, tmp_path: Path, seconds: str) -> None:
    done, _ = describe(run_cli, tmp_path, seconds)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"error: NAS_STATS_SECONDS='{seconds}' is no number of seconds; 0 leaves these baselines out\n"
    )

"""MASE, sMAPE, RMSE and MAE: against values computed by hand, in any units and in any chunks."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas_system.data import OpenTask, synthetic_series
from nas_system.data.baselines import score_baselines
from nas_system.data.baselines.scoring import scales_of
from nas_system.data.measures.accuracy import (
    Accuracy,
    RunningAccuracy,
    accuracies_from,
    accuracy_of,
    naive_scales,
)
from nas_system.space import ForecastingTask

TRUTH = np.array([[2.0, 4.0], [1.0, 3.0]])[:, :, None]
FORECASTS = np.array([[3.0, 2.0], [1.0, 6.0]])[:, :, None]


def random_windows(targets: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(50, 6, targets)).cumsum(axis=1)
    return truth + rng.normal(size=truth.shape), truth


def test_the_figures_of_two_windows_by_hand() -> None:
    found = accuracy_of(FORECASTS, TRUTH, np.array([0.5]))
    assert found is not None
    assert found.mae == pytest.approx((1 + 2 + 0 + 3) / 4)
    assert found.rmse == pytest.approx(((1 + 4 + 0 + 9) / 4) ** 0.5)
    assert found.smape == pytest.approx(200 * (1 / 5 + 2 / 6 + 0 + 3 / 9) / 4)
    assert found.mase == pytest.approx(1.5 / 0.5)
    assert found.per_step_mae == pytest.approx((0.5, 2.5))
    assert found.per_step_rmse == pytest.approx((0.5**0.5, 6.5**0.5), rel=1e-5)


def test_the_figures_of_several_targets_are_the_means_of_their_own() -> None:
    forecasts, truth = random_windows()
    scales = np.array([0.5, 1.0, 2.0])
    found = accuracy_of(forecasts, truth, scales)
    alone = [
        accuracy_of(forecasts[:, :, [target]], truth[:, :, [target]], scales[[target]]) for target in range(3)
    ]
    for name in ("mase", "smape", "rmse", "mae"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(one, name) for one in alone]))


@pytest.mark.parametrize("unit", [1e-200, 1e-3, 1e150])
def test_other_units_change_rmse_and_mae_alone(unit: float) -> None:
    forecasts, truth = random_windows()
    train = np.random.default_rng(1).normal(size=(80, 3))
    before = accuracy_of(forecasts, truth, naive_scales(train, 7))
    after = accuracy_of(forecasts * unit, truth * unit, naive_scales(train * unit, 7))
    assert before is not None and after is not None
    assert (after.mase, after.smape) == (pytest.approx(before.mase), pytest.approx(before.smape))
    assert (after.rmse / unit, after.mae / unit) == (pytest.approx(before.rmse), pytest.approx(before.mae))
    assert np.array(after.per_step_rmse) / unit == pytest.approx(before.per_step_rmse, rel=1e-5)


def test_a_forecast_of_0_for_a_0_has_no_error_and_one_of_another_sign_the_largest() -> None:
    zeros = np.zeros((1, 2, 1))
    assert accuracy_of(zeros, zeros, np.ones(1)) == Accuracy(0.0, 0.0, 0.0, 0.0, (0.0, 0.0), (0.0, 0.0))
    opposite = accuracy_of(zeros - 0.1, zeros + 0.1, np.ones(1))
    assert opposite is not None and opposite.smape == 200


# --- what MASE divides by -------------------------------------------------------------------


def test_the_scale_is_the_error_of_the_season_before_on_the_training_rows() -> None:
    rows = np.array([[0.0], [1], [2], [0], [4], [2]])
    assert naive_scales(rows, 3) == pytest.approx([3 / 3])
    # No two seasons: the row before.
    assert naive_scales(rows, 4) == naive_scales(rows, 1) == pytest.approx([(1 + 1 + 2 + 4 + 2) / 5])
    assert naive_scales(rows[:1], 1).tolist() == [0.0]


@pytest.mark.parametrize("column", [np.full(40, 7.3), np.tile([0.1, 0.7, 0.2, 0.4], 10)])
def test_a_column_that_repeats_exactly_leaves_mase_out_and_nothing_else(column: np.ndarray) -> None:
    rows = np.stack([column, np.arange(40.0) ** 2], axis=1)
    scales = naive_scales(rows, 4)
    assert scales[0] == 0 and scales[1] > 0
    forecasts, truth = random_windows(2)
    found = accuracy_of(forecasts, truth, scales)
    assert found is not None and found.mase is None
    assert found.mae == pytest.approx(np.abs(forecasts - truth).mean())
    assert accuracy_of(forecasts, truth, scales[[1, 1]]) is not None


# --- large, small, and none -----------------------------------------------------------------


def test_windows_may_come_in_any_chunks_and_scaled() -> None:
    forecasts, truth = random_windows()
    data = OpenTask.of_series(ForecastingTask(targets=("OT", "HUFL", "MUFL")), synthetic_series(900))
    scaler = data.scaler.of_columns([6, 0, 2])
    running = RunningAccuracy(6, scales_of(data), scaler)
    for first in (0, 20, 21):
        chunk = slice(first, {0: 20, 20: 21, 21: 50}[first])
        running.add(scaler.transform(forecasts[chunk]), scaler.transform(truth[chunk]).astype(np.float64))
    found, whole = running.accuracy(), accuracy_of(forecasts, truth, scales_of(data))
    assert found is not None and whole is not None
    assert found.totals() == pytest.approx(whole.totals())
    assert found.per_step_mae == pytest.approx(whole.per_step_mae, rel=1e-5)


def test_seven_targets_at_336_steps_take_little_memory() -> None:
    truth = np.lib.stride_tricks.sliding_window_view(np.arange(3_000.0), 336)[:, :, None]
    truth = np.broadcast_to(truth, (*truth.shape[:2], 7))
    tracemalloc.start()
    accuracy_of(truth, truth, np.ones(7))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20e6 < truth.size * 8


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_cannot_be_squared_have_no_figures(value: float) -> None:
    assert accuracy_of(np.full((2, 3, 1), value), np.full((2, 3, 1), -value), np.ones(1)) is None
    assert accuracy_of(np.zeros((0, 3, 1)), np.zeros((0, 3, 1)), np.ones(1)) is None


# --- files ----------------------------------------------------------------------------------


def test_what_was_written_is_read_again() -> None:
    found = accuracy_of(*random_windows(), np.ones(3))
    assert found is not None
    assert Accuracy.from_json(found.to_json()) == found
    without = replace(found, mase=None, per_step_mae=(), per_step_rmse=())
    assert Accuracy.from_json(without.to_json()) == without
    assert Accuracy.from_json(found.totals()) == replace(found, per_step_mae=(), per_step_rmse=())


GOOD = {"mase": 1.0, "smape": 10.0, "rmse": 3.0, "mae": 2.0, "per_step": {"mae": [2.0], "rmse": [3.0]}}


@pytest.mark.parametrize(
    "change",
    [
        {"smape": 201},
        {"rmse": float("nan")},
        {"rmse": "3"},
        {"mae": -1},
        {"mae": True},
        {"mae": 10**400},
        {"mae": None},
        {"per_step": "steps"},
        {"per_step": {"mae": [1.0], "rmse": [1.0, 2.0]}},
        {"per_step": {"mae": [1.0, None], "rmse": [1.0, 2.0]}},
        {"per_step": {"mae": {"0": 1}, "rmse": [1.0]}},
        {"per_step": {"mae": [1.0] * 10_001, "rmse": [1.0] * 10_001}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_nonsense_in_a_file_is_none(change: dict[str, Any]) -> None:
    assert Accuracy.from_json(GOOD) is not None
    assert Accuracy.from_json(GOOD | change) is None
    assert accuracies_from({"val": GOOD, "test": GOOD | change, "later": GOOD}) == {
        "val": Accuracy.from_json(GOOD)
    }


@pytest.mark.parametrize("value", [None, 7, "x", [], [GOOD], {"val": 3}])
def test_what_is_no_accuracy_at_all_is_nothing(value: object) -> None:
    assert accuracies_from(value) == {}
    assert Accuracy.from_json(value) is None


# --- baselines ------------------------------------------------------------------------------


def test_a_baseline_is_measured_in_the_units_of_the_data() -> None:
    task = ForecastingTask(dataset="synthetic", targets=("OT", "HUFL"), pred_len=30)
    data = OpenTask.of_series(task, synthetic_series(900))
    rows = {row.name: row for row in score_baselines(data, ("val", "hold_out"))}
    assert set(rows["last-value"].accuracy) == {"val", "hold_out"}
    table, part = data.series.values[:, [6, 0]], data.split.target_rows("val")
    origins = range(part.start, part.stop - 30 + 1)
    truth = np.stack([table[row : row + 30] for row in origins])
    last = np.stack([np.repeat(table[row - 1 : row], 30, axis=0) for row in origins])
    errors, found = np.abs(last - truth), rows["last-value"].accuracy["val"]
    assert found.mae == pytest.approx(errors.mean())
    assert found.rmse == pytest.approx(np.sqrt((errors**2).mean(axis=(0, 1))).mean())
    assert found.smape == pytest.approx((200 * errors / (np.abs(last) + np.abs(truth))).mean())
    assert found.per_step_mae == pytest.approx(errors.mean(axis=(0, 2)), rel=1e-5)
    day = np.abs(table[24 : data.split.train_end] - table[: data.split.train_end - 24]).mean(axis=0)
    assert found.mase == pytest.approx((errors.mean(axis=(0, 1)) / day).mean())

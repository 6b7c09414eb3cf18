"""Scaling: by the training rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas_system.data import Scaler, Series, split_for, synthetic_series
from nas_system.data.scaling import Scaling
from nas_system.errors import ConfigError
from nas_system.space import ForecastingTask

SERIES = synthetic_series(400)
SPLIT = split_for(ForecastingTask(dataset="own.csv"), 400)


def with_values(values: np.ndarray) -> Series:
    return replace(SERIES, values=values)


def test_the_training_rows_get_mean_zero_and_population_deviation_one() -> None:
    scaled = Scaler.fit(SERIES, SPLIT).transform(SERIES.values)[: SPLIT.train_end]
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-12)
    assert np.allclose((scaled**2).mean(axis=0), 1)


def test_rows_after_the_training_part_have_no_say() -> None:
    poisoned = SERIES.values.copy()
    poisoned[SPLIT.train_end :] = 1e6
    assert Scaler.fit(with_values(poisoned), SPLIT).to_json() == Scaler.fit(SERIES, SPLIT).to_json()
    poisoned[SPLIT.train_end - 1] = 1e6
    assert Scaler.fit(with_values(poisoned), SPLIT).to_json() != Scaler.fit(SERIES, SPLIT).to_json()


def test_a_constant_column_becomes_zero_not_nan() -> None:
    constant = SERIES.values.copy()
    constant[:, 2] = 0.1
    scaler = Scaler.fit(with_values(constant), SPLIT)
    assert scaler.std[2] == 1.0
    assert np.allclose(scaler.transform(constant)[:, 2], 0)


def test_inverse_undoes_transform_also_after_json() -> None:
    scaler = Scaler.from_json(Scaler.fit(SERIES, SPLIT).to_json())
    assert np.allclose(scaler.inverse(scaler.transform(SERIES.values)), SERIES.values)


def test_some_columns_can_be_scaled_alone() -> None:
    scaler = Scaler.fit(SERIES, SPLIT)
    two = [6, 0]
    alone = scaler.of_columns(two).transform(SERIES.values[:, two])
    assert np.array_equal(alone, scaler.transform(SERIES.values)[:, two])


def test_numbers_too_large_to_square_are_refused_by_column() -> None:
    huge = SERIES.values.copy()
    huge[::2, 1] = 1e300
    with pytest.raises(ConfigError, match="'HULL' are too large"):
        Scaler.fit(with_values(huge), SPLIT)


def test_robust_scaling_is_not_moved_by_one_value() -> None:
    spoiled = SERIES.values.copy()
    spoiled[10, 3] = 1e9
    robust, other = (Scaler.fit(with_values(values), SPLIT, "robust") for values in (SERIES.values, spoiled))
    assert other.mean[3] == pytest.approx(robust.mean[3], rel=0.01)
    assert other.std[3] == pytest.approx(robust.std[3], rel=0.02)
    assert Scaler.fit(with_values(spoiled), SPLIT).std[3] > 1e7


def test_robust_scaling_of_a_normal_column_is_that_by_its_standard_deviation() -> None:
    rows = np.random.default_rng(0).normal(5, 2, size=(20_000, 1))
    scaler = Scaler.of_rows(rows, ["a"], "robust")
    assert scaler.mean[0] == np.median(rows)
    assert scaler.std[0] == pytest.approx(2, rel=0.03)


def test_robust_scaling_keeps_the_standard_deviation_where_half_of_a_column_is_one_value() -> None:
    rows = np.where(np.arange(400)[:, None] % 5 == 0, 3.0, 0.0)
    scaler = Scaler.of_rows(rows, ["a"], "robust")
    assert (scaler.mean[0], scaler.std[0]) == (0.0, pytest.approx(rows.std()))


@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_values_too_small_to_square_are_scaled_like_any(scaling: Scaling) -> None:
    tiny, plain = (Scaler.of_rows(SERIES.values * unit, SERIES.columns, scaling) for unit in (1e-200, 1.0))
    assert np.allclose(tiny.transform(SERIES.values * 1e-200), plain.transform(SERIES.values))
    assert np.allclose(tiny.inverse(plain.transform(SERIES.values)) * 1e200, SERIES.values)


def test_numbers_too_close_to_divide_by_are_refused_by_column() -> None:
    tiny = SERIES.values.copy()
    tiny[:, 1] *= 1e-310
    with pytest.raises(ConfigError, match="'HULL' are too close"):
        Scaler.fit(with_values(tiny), SPLIT)


def test_a_task_without_a_choice_of_scaling_reads_and_writes_as_before() -> None:
    plain = ForecastingTask(dataset="own.csv")
    assert "scaling" not in plain.model_dump() and "scaling" not in plain.model_dump_json()
    assert ForecastingTask.model_validate(plain.model_dump()) == plain
    robust = ForecastingTask(dataset="own.csv", scaling="robust")
    assert ForecastingTask.model_validate_json(robust.model_dump_json()) == robust
    assert robust.winning == "lowest val_mse on robustly scaled data"

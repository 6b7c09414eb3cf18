"""Scaling: by the training rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas_system.data import Scaler, Series, split_for, synthetic_series
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

"""Which columns a task means, and which of them a model reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nas_system.data import Series, build_windows, synthetic_series
from nas_system.data.columns import input_columns, series_shape
from nas_system.errors import ConfigError
from nas_system.model import build_model
from nas_system.space import RunConfig


def series_of(*columns: str, rows: int = 60) -> Series:
    values = np.arange(rows * len(columns), dtype=float).reshape(rows, len(columns))
    dates = np.datetime64("2020-01-01T00", "s") + np.arange(rows) * np.timedelta64(3600, "s")
    return Series(values, columns, dates, "h")


def config_of(*targets: str, family: str = "linear", **data: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "task": {"dataset": "own.csv", "targets": targets, "pred_len": 4},
            "model": {"family": family},
            "data": {"seq_len": 48, **data},
        }
    )


def test_all_means_every_column_in_the_order_of_the_file() -> None:
    series = series_of("b", "a", "c")
    assert series.column_names(("all",)) == ("b", "a", "c")
    assert series.column_indices(("all",)) == (0, 1, 2)
    assert series.column_indices(("c", "b")) == (2, 0)
    assert series_of("only").column_names(("all",)) == ("only",)


def test_a_column_that_is_really_called_all_wins() -> None:
    series = series_of("a", "all")
    assert series.column_names(("all",)) == ("all",)
    assert series.column_indices(("all", "a")) == (1, 0)
    assert input_columns(series, config_of("all", family="informer")) == (1,)


def test_all_beside_another_column_is_refused() -> None:
    with pytest.raises(ConfigError, match="no column 'all'; 'all' means every column and stands alone"):
        series_of("a", "b").column_indices(("a", "all"))


def test_a_long_list_of_columns_is_cut_short() -> None:
    with pytest.raises(
        ConfigError, match=r"no column 'x' \(columns: c0, .*, c19, \.\.\. \(321 in all\)\); --target"
    ):
        series_of(*(f"c{number}" for number in range(321))).column_indices(("x",))


@pytest.mark.parametrize("features", ["S", "MS"])
@pytest.mark.parametrize("family", ["linear", "informer"])
def test_all_columns_are_inputs_and_targets_alike(family: str, features: str) -> None:
    series, config = series_of("a", "b", "c"), config_of("all", family=family, features=features)
    shape = series_shape(series, config)
    assert input_columns(series, config) == (0, 1, 2)
    assert (shape.n_inputs, shape.target_columns, shape.n_targets) == (3, (0, 1, 2), 3)


def test_windows_and_model_forecast_all_columns() -> None:
    series = synthetic_series(400)
    config = config_of("all")
    every = build_windows(series, config)
    named = build_windows(series, config_of(*series.columns))
    some = torch.arange(3)
    assert torch.equal(every["val"].batch(some).args[0], named["val"].batch(some).args[0])
    target = every["val"].batch(some).target
    assert torch.equal(target, named["val"].batch(some).target)
    assert build_model(config, every.shape)(*every["val"].batch(some).args).shape == target.shape == (3, 4, 7)


def test_etth1_has_a_shape_for_all_columns_without_its_data() -> None:
    config = RunConfig.model_validate({"task": {"targets": ["all"]}, "model": {"family": "linear"}})
    x = torch.randn(2, 96, 7)
    assert build_model(config)(x).shape == (2, 24, 7)

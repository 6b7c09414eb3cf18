"""Windows on the device: the right rows, no look-ahead, every window counted once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nas_system.data import (
    Scaler,
    Series,
    TaskWindows,
    WindowLoader,
    WindowSet,
    build_windows,
    split_for,
    synthetic_series,
)
from nas_system.errors import ConfigError
from nas_system.space import ForecastingTask, RunConfig
from nas_system.space.families import InformerConfig, LinearConfig

ROWS = 600
PARTS = ("train", "val", "test", "hold_out")


def config_of(
    features: str = "MS", seq_len: int = 24, pred_len: int = 6, model: Any = None, **task: Any
) -> RunConfig:
    return RunConfig.model_validate(
        {
            "task": ForecastingTask(dataset="own.csv", pred_len=pred_len, **task),
            "data": {"features": features, "seq_len": seq_len},
            "model": model or LinearConfig(),
        }
    )


def windows_of(series: Series | None = None, **config: Any) -> TaskWindows:
    return build_windows(series or synthetic_series(ROWS), config_of(**config), splits=PARTS)


def everything(windows: WindowSet) -> tuple[torch.Tensor, torch.Tensor]:
    batch = windows.batch(torch.arange(len(windows)))
    return batch.args[0], batch.target


def row_number_windows(seq_len: int, pred_len: int, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows over a table whose only value is its row number."""
    split = split_for(ForecastingTask(dataset="own.csv", pred_len=pred_len), ROWS)
    table = torch.arange(ROWS, dtype=torch.float32)[:, None]
    starts = split.window_starts(part, seq_len, pred_len)  # type: ignore[arg-type]
    return everything(WindowSet(table, None, starts, seq_len, pred_len, (0,), (0,)))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seq_len", [4, 24, 100])
def test_every_window_ends_right_before_its_first_target(part: str, seq_len: int) -> None:
    x, target = row_number_windows(seq_len, 6, part)
    assert (x.amax(dim=(1, 2)) + 1 == target.amin(dim=(1, 2))).all()
    assert (x.diff(dim=1) == 1).all() and (target.diff(dim=1) == 1).all()


@pytest.mark.parametrize("part", PARTS)
def test_the_first_and_the_last_window_reach_the_borders_of_their_part(part: str) -> None:
    _, target = row_number_windows(24, 6, part)
    rows = split_for(ForecastingTask(dataset="own.csv", pred_len=6), ROWS).target_rows(part)  # type: ignore[arg-type]
    assert target.min() == (24 if part == "train" else rows.start)
    assert target.max() == rows.stop - 1


def test_a_batch_equals_slices_of_the_scaled_table() -> None:
    series, config = synthetic_series(ROWS), config_of(model=InformerConfig(label_len=6))
    built = build_windows(series, config)
    split = split_for(config.task, ROWS)
    table = Scaler.fit(series, split).transform(series.values).astype(np.float32)
    windows = built["val"]
    numbers = [5, 0, 7, 5]
    batch = windows.batch(torch.tensor(numbers))
    x, x_mark, y_mark = batch.args
    assert x_mark is not None and y_mark is not None
    for place, number in enumerate(numbers):
        middle = split.train_end + number
        assert np.array_equal(x[place].numpy(), table[middle - 24 : middle])
        assert np.array_equal(batch.target[place].numpy(), table[middle : middle + 6, [6]])
        assert windows.target_rows(number) == range(middle, middle + 6)
    both = torch.cat([x_mark, y_mark], dim=1)
    hours = (both[..., 0] + 0.5) * 23
    assert torch.allclose(hours.diff(dim=1).round().remainder(24), torch.ones(4, 29))
    assert batch.weight is None


def test_features_s_reads_the_targets_alone_in_their_order() -> None:
    built = windows_of(features="S", targets=("OT", "HUFL"))
    x, target = everything(built["train"])
    assert built.shape.n_inputs == 2 and built.shape.target_columns == (0, 1)
    assert torch.equal(x[24], torch.cat([target[0], target[6], target[12], target[18]]))


def test_a_family_that_reads_no_covariates_is_given_none() -> None:
    built = windows_of(features="MS", targets=("OT", "HUFL"), model=LinearConfig())
    assert built.shape.n_inputs == 2 and built.shape.target_columns == (0, 1)


def test_features_ms_reads_all_columns_and_says_where_the_targets_are() -> None:
    built = windows_of(features="MS", targets=("OT", "HUFL"), model=InformerConfig(label_len=12))
    x, target = everything(built["train"])
    assert built.shape.n_inputs == 7 and built.shape.target_columns == (6, 0)
    assert torch.equal(x[24, :6][:, [6, 0]], target[0])


@pytest.mark.parametrize(
    ("model", "n_marks", "dtype"),
    [
        (LinearConfig(), 0, None),
        (InformerConfig(embed="timeF", label_len=6), 4, torch.float32),
        (InformerConfig(embed="fixed", label_len=6), 4, torch.int64),
    ],
)
def test_a_family_gets_the_time_marks_it_asks_for(model: Any, n_marks: int, dtype: Any) -> None:
    built = windows_of(model=model)
    _, x_mark, y_mark = built["test"].batch(torch.tensor([0])).args
    assert built.shape.n_marks == n_marks
    if dtype is None:
        assert x_mark is None and y_mark is None
    else:
        assert x_mark is not None and x_mark.shape == (1, 24, n_marks) and x_mark.dtype == dtype
        assert y_mark is not None and y_mark.shape == (1, 6, n_marks) and y_mark.dtype == dtype


@pytest.mark.parametrize("part", ["val", "test"])
def test_validation_and_test_targets_do_not_depend_on_the_look_back(part: str) -> None:
    short, long = windows_of(seq_len=4), windows_of(seq_len=300)
    assert torch.equal(everything(short[part])[1], everything(long[part])[1])  # type: ignore[index]


def test_truncating_the_data_does_not_change_earlier_windows() -> None:
    series = synthetic_series(ROWS)
    cut = replace(series, values=series.values[:500], dates=series.dates[:500])
    parts: dict[str, Any] = {"train_rows": 300, "val_rows": 90, "test_rows": 90}
    whole, short = windows_of(series, **parts), windows_of(cut, **parts)
    for part in ("train", "val", "test"):
        for of_whole, of_short in zip(everything(whole[part]), everything(short[part]), strict=True):
            assert torch.equal(of_whole, of_short)


def test_poisoning_the_future_changes_no_input_before_it() -> None:
    series = synthetic_series(ROWS)
    first_test_row = split_for(ForecastingTask(dataset="own.csv"), ROWS).val_end
    poisoned = replace(series, values=series.values.copy())
    poisoned.values[first_test_row:] = 1e9
    clean, dirty = windows_of(series), windows_of(poisoned)
    for part in ("train", "val"):
        for of_clean, of_dirty in zip(everything(clean[part]), everything(dirty[part]), strict=True):
            assert torch.equal(of_clean, of_dirty)
    assert torch.equal(everything(clean["test"])[0][0], everything(dirty["test"])[0][0])
    assert not torch.equal(everything(clean["test"])[0][1], everything(dirty["test"])[0][1])


def test_a_window_set_that_would_leave_the_table_is_refused() -> None:
    table = torch.zeros(30, 1)
    WindowSet(table, None, range(0, 5), 20, 6, (0,), (0,))
    with pytest.raises(ValueError, match="leave a table of 30 rows"):
        WindowSet(table, None, range(0, 6), 20, 6, (0,), (0,))
    with pytest.raises(ValueError, match="leave a table"):
        WindowSet(table, None, range(-1, 3), 20, 6, (0,), (0,))


def test_a_model_that_writes_into_its_input_does_not_change_the_data() -> None:
    windows = windows_of()["val"]
    before = everything(windows)[0]
    for batch in windows.batches(16):
        batch.args[0].zero_()
        batch.target.zero_()
    assert torch.equal(everything(windows)[0], before)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
def test_evaluation_sees_every_window_once_and_in_order(batch_size: int) -> None:
    windows = windows_of()["test"]
    loader = WindowLoader(windows, batch_size)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert loader.n_samples == len(windows) == 90 - 6 + 1
    assert torch.equal(torch.cat([batch.target for batch in batches]), everything(windows)[1])


def test_shuffling_gives_every_window_once_a_new_order_each_pass_and_repeats_with_the_seed() -> None:
    windows = windows_of()["train"]
    loader = WindowLoader(windows, 32, generator=torch.Generator().manual_seed(3))
    again = WindowLoader(windows, 32, generator=torch.Generator().manual_seed(3))
    first, second = (torch.cat([batch.target for batch in loader]) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat([batch.target for batch in again]))
    in_order = everything(windows)[1]
    assert torch.equal(first.flatten().sort().values, in_order.flatten().sort().values)


def test_shuffling_leaves_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    list(WindowLoader(windows_of()["train"], 32, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.get_rng_state(), state)


def test_dropping_the_last_batch_leaves_only_whole_ones() -> None:
    windows = windows_of()["test"]
    loader = WindowLoader(windows, 16, drop_last=True)
    sizes = [len(batch.target) for batch in loader]
    assert sizes == [16] * 5 and len(loader) == 5 and loader.n_samples == 80
    assert list(WindowLoader(windows, 1000, drop_last=True)) == []


def test_forecasts_come_back_in_the_units_of_the_data() -> None:
    series = synthetic_series(ROWS)
    built = windows_of(series, targets=("OT", "HUFL"))
    target = everything(built["val"])[1][0].numpy()
    assert np.allclose(built.target_scaler.inverse(target), series.values[360:366][:, [6, 0]], atol=1e-4)


def test_a_part_without_a_window_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="the hold-out part holds no window of pred_len=24"):
        build_windows(synthetic_series(160), config_of(pred_len=24, seq_len=4), splits=("train", "hold_out"))


def test_a_look_back_longer_than_the_training_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="seq_len can be 354 at most"):
        windows_of(seq_len=355)

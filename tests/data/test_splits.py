"""The protocol: which rows are targets of which part, for any look-back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nas_system.data.splits import (
    SPLIT_NAMES,
    Split,
    SplitName,
    check_look_back,
    most_origins,
    rolling_origins,
    split_for,
)
from nas_system.errors import ConfigError
from nas_system.space import ForecastingTask, TaskConfig

ETTH1_ROWS = 17_420


@pytest.mark.parametrize("dataset", ["etth1", "synthetic"])
def test_the_borders_are_those_of_the_published_protocol(dataset: str) -> None:
    assert split_for(ForecastingTask(dataset=dataset), ETTH1_ROWS) == Split(8640, 11520, 14400, 17420)


@pytest.mark.parametrize(("seq_len", "pred_len"), [(96, 24), (336, 24), (336, 720), (4, 1)])
def test_window_counts_follow_the_published_formulas(seq_len: int, pred_len: int) -> None:
    split = split_for(ForecastingTask(pred_len=pred_len), ETTH1_ROWS)
    counts = {part: len(split.window_starts(part, seq_len, pred_len)) for part in SPLIT_NAMES}
    assert counts == {
        "train": 8640 - seq_len - pred_len + 1,
        "val": 2880 - pred_len + 1,
        "test": 2880 - pred_len + 1,
        "hold_out": 3020 - pred_len + 1,
    }


@pytest.mark.parametrize("part", ["val", "test", "hold_out"])
def test_targets_are_the_same_whatever_the_look_back(part: SplitName) -> None:
    split = split_for(ForecastingTask(), ETTH1_ROWS)
    first_targets = [
        [start + seq_len for start in split.window_starts(part, seq_len, 24)] for seq_len in (1, 96, 2048)
    ]
    assert first_targets[0] == first_targets[1] == first_targets[2]
    assert first_targets[0][0] == split.target_rows(part).start
    assert first_targets[0][-1] + 24 == split.target_rows(part).stop


@pytest.mark.parametrize("seq_len", [1, 96, 2048])
def test_no_validation_target_lies_in_a_training_window(seq_len: int) -> None:
    split = split_for(ForecastingTask(), ETTH1_ROWS)
    last = split.window_starts("train", seq_len, 24)[-1]
    assert last + seq_len + 24 == split.target_rows("val").start


def test_another_series_is_split_by_shares_and_keeps_its_last_tenth_hold_out() -> None:
    split = split_for(ForecastingTask(dataset="own.csv"), 1000)
    assert [len(split.target_rows(part)) for part in SPLIT_NAMES] == [600, 150, 150, 100]


def test_the_task_may_set_the_split_itself() -> None:
    task = ForecastingTask(dataset="own.csv", train_rows=500, val_rows=100, test_rows=300)
    assert split_for(task, 1000) == Split(500, 600, 900, 1000)


def test_a_split_longer_than_the_series_is_refused_with_the_numbers() -> None:
    task = ForecastingTask(dataset="own.csv", train_rows=500, val_rows=300, test_rows=300)
    with pytest.raises(ConfigError, match=r"1100.*1000 rows"):
        split_for(task, 1000)


@pytest.mark.parametrize(("rows", "part", "size"), [(150, "val", 22), (40, "train", 24)])
def test_a_series_too_short_for_the_horizon_is_refused(rows: int, part: str, size: int) -> None:
    with pytest.raises(ConfigError, match=rf"the {part} part .* has {size} of {rows} rows, but pred_len=24"):
        split_for(ForecastingTask(dataset="own.csv"), rows)


def test_a_series_just_long_enough_has_one_window_in_validation_and_test() -> None:
    split = split_for(ForecastingTask(dataset="own.csv"), 160)
    assert [len(split.window_starts(part, 4, 24)) for part in ("val", "test", "hold_out")] == [1, 1, 0]


def test_a_look_back_without_a_training_window_is_refused_and_the_longest_is_named() -> None:
    split = split_for(ForecastingTask(dataset="own.csv"), 1000)
    check_look_back(split, seq_len=576, pred_len=24)
    with pytest.raises(ConfigError, match="seq_len can be 576 at most"):
        check_look_back(split, seq_len=577, pred_len=24)


# ---------------------------------------------------------------------------- shares and dates

HOURS = (np.datetime64("2020-01-01T00", "s") + np.arange(1000) * np.timedelta64(3600, "s")).astype(
    "datetime64[s]"
)
"""Until 2020-02-11 15:00."""


def sizes(task: TaskConfig, rows: int = 1000) -> list[int]:
    split = split_for(task, rows, HOURS[:rows])
    return [len(split.target_rows(part)) for part in SPLIT_NAMES]


@pytest.mark.parametrize(
    ("shares", "rows", "expected"),
    [
        ((0.6, 0.15, 0.15), 1000, [600, 150, 150, 100]),
        ((0.7, 0.1, 0.2), 1000, [700, 100, 200, 0]),
        ((0.7, 0.1, 0.2), 999, [699, 99, 201, 0]),
        ((0.29, 0.3, 0.4), 100, [29, 30, 40, 1]),
        ((0.34, 0.33, 0.33), 997, [338, 329, 330, 0]),
    ],
)
def test_shares_are_exact_and_nothing_is_left_over_when_they_add_up_to_one(
    shares: tuple[float, ...], rows: int, expected: list[int]
) -> None:
    assert sizes(ForecastingTask(dataset="own.csv", split=shares, pred_len=1), rows) == expected


@pytest.mark.parametrize("dataset", ["etth1", "synthetic"])
def test_a_split_that_is_given_wins_over_the_published_one(dataset: str) -> None:
    assert split_for(ForecastingTask(dataset=dataset, split=(0.5, 0.2, 0.2)), ETTH1_ROWS) == Split(
        8710, 12194, 15678, 17420
    )


def test_the_usual_shares_said_aloud_are_the_usual_split() -> None:
    stated = ForecastingTask(dataset="own.csv", split=(0.6, 0.15, 0.15))
    for rows in range(300, 420):
        assert split_for(stated, rows) == split_for(ForecastingTask(dataset="own.csv"), rows)


def test_dates_are_the_first_rows_of_the_parts() -> None:
    task = ForecastingTask(dataset="own.csv", split=("2020-01-25", "2020-02-01 12:00", "2020-02-06"))
    split = split_for(task, 1000, HOURS)
    starts = [HOURS[split.target_rows(part).start] for part in SPLIT_NAMES]
    assert [str(start) for start in starts] == [
        "2020-01-01T00:00:00", "2020-01-25T00:00:00", "2020-02-01T12:00:00", "2020-02-06T00:00:00"
    ]  # fmt: skip


def test_two_dates_seal_nothing() -> None:
    assert sizes(ForecastingTask(dataset="own.csv", split=("2020-01-25", "2020-02-01"))) == [576, 168, 256, 0]


def test_a_date_between_two_rows_begins_a_part_with_the_later_one() -> None:
    between = ForecastingTask(dataset="own.csv", split=("2020-01-24 23:30", "2020-01-31 23:01"))
    assert sizes(between) == [576, 168, 256, 0]


@pytest.mark.parametrize(
    ("split", "complaint"),
    [
        (("2019-12-01", "2020-02-01"), "val would begin on 2019-12-01"),
        (("2020-01-01", "2020-02-01"), "val would begin on 2020-01-01"),
        (("2020-01-25", "2020-03-01"), "test would begin on 2020-03-01"),
        (("2020-01-25", "2020-02-01", "2020-02-12"), "hold-out would begin on 2020-02-12"),
    ],
)
def test_a_date_outside_the_series_is_refused_with_its_ends(split: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        split_for(ForecastingTask(dataset="own.csv", split=split), 1000, HOURS)
    assert complaint in str(refusal.value)
    assert f"--split (task.split) {','.join(split)}" in str(refusal.value)
    assert "from 2020-01-01 00:00:00 to 2020-02-11 15:00:00" in str(refusal.value)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            (0.97, 0.01, 0.01),
            r"the val part .* has 10 of 1000 rows, but pred_len=24 .*than --split .* 0.97,0.01",
        ),
        (
            ("2020-01-01 20:00", "2020-02-01"),
            r"the train part .* has 20 of 1000 rows, .*2020-01-01 20:00:00,",
        ),
        (("2020-02-01", "2020-02-11"), r"the test part .* has 16 of 1000 rows"),
    ],
)
def test_a_part_too_short_for_the_horizon_is_refused_with_the_split_that_made_it(
    split: tuple[float, ...] | tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        split_for(ForecastingTask(dataset="own.csv", split=split), 1000, HOURS)


# --- rolling origins ------------------------------------------------------------------------

SPLIT = split_for(ForecastingTask(dataset="own.csv"), 1000)
"""600, 150, 150 and 100 rows."""


def test_a_single_origin_is_the_split_itself() -> None:
    assert rolling_origins(SPLIT, 24, 1) == (SPLIT,)


def test_validation_blocks_of_one_length_follow_each_other_up_to_the_test_part() -> None:
    origins = rolling_origins(SPLIT, 24, 3)
    assert [origin.target_rows("train") for origin in origins] == [range(300), range(450), range(600)]
    blocks = [origin.target_rows("val") for origin in origins]
    assert blocks == [range(300, 450), range(450, 600), range(600, 750)]
    assert origins[-1] is SPLIT
    for earlier in origins[:-1]:
        assert not earlier.target_rows("test") and not earlier.target_rows("hold_out")
        assert earlier.rows == earlier.val_end


def test_no_window_of_an_earlier_origin_reaches_a_later_ones_targets() -> None:
    *earlier, last = rolling_origins(SPLIT, 24, 3)
    for before, after in itertools.pairwise((*earlier, last)):
        for seq_len in (1, 96, 250):
            windows = [*before.window_starts("train", seq_len, 24), *before.window_starts("val", seq_len, 24)]
            assert max(windows) + seq_len + 24 == after.target_rows("val").start


@pytest.mark.parametrize(("pred_len", "most"), [(1, 4), (24, 4), (73, 4), (74, 3), (300, 1)])
def test_the_earliest_origin_keeps_a_block_of_rows_and_two_horizons_to_train_on(
    pred_len: int, most: int
) -> None:
    assert most_origins(SPLIT, pred_len) == most
    earliest = rolling_origins(SPLIT, pred_len, most)[0]
    assert earliest.train_end >= 150
    if most > 1:
        assert earliest.train_end >= 2 * pred_len + 4
    with pytest.raises(ConfigError, match=f"leave room for {most}; lower --origins"):
        rolling_origins(SPLIT, pred_len, most + 1)


def test_an_undecided_number_of_origins_is_no_split() -> None:
    with pytest.raises(ConfigError, match="give a number"):
        rolling_origins(SPLIT, 24, 0)

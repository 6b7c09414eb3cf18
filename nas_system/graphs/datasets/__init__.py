"""Graph data sets by name: `get_dataset("zinc_synth").get_splits()`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from nas_system.errors import ConfigError
from nas_system.graphs.datasets.dataset import GraphDataset
from nas_system.graphs.datasets.link_synth import link_synth
from nas_system.graphs.datasets.ring_synth import ring_synth
from nas_system.graphs.datasets.zinc import zinc
from nas_system.graphs.datasets.zinc_synth import zinc_synth

__all__ = ["DATASETS", "GraphDataset", "get_dataset"]

DATASETS: dict[str, Callable[..., GraphDataset]] = {
    "zinc": zinc,
    "zinc_synth": zinc_synth,
    "ring_synth": ring_synth,
    "link_synth": link_synth,
}


def get_dataset(name: str = "zinc", root: str | Path = "data/", **options: int) -> GraphDataset:
    """Return the data set called `name`; its files, if it has any, are looked for in `root`.

    Options of generated data: their sizes (`train`, `val`, `test`, or `graphs`) and `seed`. Raises
    ConfigError for an unknown name or option, and for files that are missing or hold something else.
    """
    if name not in DATASETS:
        raise ConfigError(f"there is no graph data set {name!r}; choose from: {', '.join(DATASETS)}")
    build = DATASETS[name]
    known = inspect.signature(build).parameters
    stray = [option for option in options if option not in known]
    if stray:
        raise ConfigError(f"data set {name!r} has no option {stray[0]!r}; it has: {', '.join(known)}")
    return build(root=root, **options) if "root" in known else build(**options)

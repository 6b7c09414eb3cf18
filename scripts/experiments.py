"""Data and model of a composed configuration, for both scripts.

A kind of data is one function here; its data sets and models are files in `nas_system/configs`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_system.errors import ConfigError
from nas_system.training import get_device
from nas_system.training.reproducibility import set_seed

CONFIGS = Path(__file__).resolve().parent.parent / "nas_system" / "configs"
EVALUATION_BATCH = 512


class Loader(Protocol):
    """Batches again at every `for`, and how many."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


Plain = Mapping[str, Any]
"""A composed configuration as plain values."""


@dataclass(frozen=True)
class Experiment:
    """A model, untrained, and the loaders of the three parts."""

    model: nn.Module
    loaders: Mapping[str, Loader]
    task_type: str = "regression"
    num_classes: int | None = None


def build_experiment(config: Plain) -> Experiment:
    """Build data and model of a configuration, the same for the same seed. Raises ConfigError."""
    dataset, model, encoding = (config[group] for group in ("dataset", "model", "pe"))
    if dataset["kind"] != model["kind"]:
        raise ConfigError(
            f"model={model['name']} is for {model['kind']} data, but dataset={dataset['name']} is "
            f"{dataset['kind']}; choose a model of that kind"
        )
    if encoding["name"] != "none" and dataset["kind"] != "graph":
        raise ConfigError(f"pe={encoding['name']} is for graphs, not {dataset['kind']} data; use pe=none")
    set_seed(config["seed"])
    return KINDS[dataset["kind"]](config)


def tabular(config: Plain) -> Experiment:
    """Friedman's function #1 (1991, "Multivariate Adaptive Regression Splines", Annals of Statistics 19)."""
    dataset, model = config["dataset"], config["model"]
    generator = torch.Generator().manual_seed(config["seed"])
    x = torch.rand(dataset["rows"], 10, generator=generator)
    noise = torch.randn(dataset["rows"], generator=generator)
    y = friedman(x) + dataset["noise"] * noise
    first, second = dataset["rows"] * 7 // 10, dataset["rows"] * 17 // 20
    # Scaled by the training rows alone.
    y = ((y - y[:first].mean()) / y[:first].std())[:, None]
    parts = {"train": (0, first), "val": (first, second), "test": (second, dataset["rows"])}
    loaders = {
        name: _tensor_loader(x[start:end], y[start:end], config, shuffled=name == "train")
        for name, (start, end) in parts.items()
    }
    layers: list[nn.Module] = []
    width = x.shape[1]
    for hidden in model["hidden"]:
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(model["dropout"])]
        width = hidden
    return Experiment(nn.Sequential(*layers, nn.Linear(width, 1)), loaders)


def friedman(x: Tensor) -> Tensor:
    """(rows, 10) uniform in [0, 1] -> (rows,); the last five columns do not matter."""
    wave = 10 * torch.sin(math.pi * x[:, 0] * x[:, 1])
    return wave + 20 * (x[:, 2] - 0.5).square() + 10 * x[:, 3] + 5 * x[:, 4]


def forecasting(config: Plain) -> Experiment:
    """Build a model family of the search, on one of its tasks."""
    from pydantic import ValidationError

    from nas_system.data import WindowLoader, build_windows, open_task
    from nas_system.model import build_model
    from nas_system.space import RunConfig
    from nas_system.space.changes import explain

    dataset = config["dataset"]
    data = {"batch_size": config["training"]["batch_size"], **dataset["data"]}
    try:
        model = config["model"]["parameters"]
        run = RunConfig.model_validate({"task": dataset["task"], "data": data, "model": model})
    except ValidationError as error:
        raise ConfigError(explain(error)) from None
    windows = build_windows(open_task(run.task), run, get_device(config["device"]))
    shuffling = torch.Generator().manual_seed(config["seed"])
    loaders = {
        "train": WindowLoader(windows["train"], run.data.batch_size, generator=shuffling),
        "val": WindowLoader(windows["val"], EVALUATION_BATCH),
        "test": WindowLoader(windows["test"], EVALUATION_BATCH),
    }
    return Experiment(build_model(run, windows.shape), loaders)


def graph(config: Plain) -> Experiment:
    """Build a model for graphs with the encodings that `pe` names: of nodes, and of pairs of nodes."""
    from nas_system.graphs import get_dataset, get_model
    from nas_system.graphs.pyg import import_pyg

    encodings, relative = config["pe"]["node"], config["pe"]["relative"]
    dataset = get_dataset(config["dataset"]["name"], **config["dataset"]["options"])
    dataset = dataset.with_encodings([*encodings, *relative])
    model = get_model(
        config["model"]["name"],
        dataset.num_features,
        dataset.num_classes,
        num_edge_types=dataset.num_edge_types,
        encodings=encodings,
        relative=relative,
        level="edge" if dataset.task_type == "edge_prediction" else "graph",
        **config["model"]["parameters"],
    )
    loader, size = import_pyg("torch_geometric.loader").DataLoader, config["training"]["batch_size"]
    shuffling = torch.Generator().manual_seed(config["seed"])
    loaders = {
        "train": loader(dataset.train, size, shuffle=True, generator=shuffling),
        "val": loader(dataset.val, size),
        "test": loader(dataset.test, size),
    }
    n_classes = dataset.num_classes if dataset.task_type == "classification" else None
    return Experiment(model, loaders, dataset.task_type, n_classes)


KINDS: dict[str, Callable[[Plain], Experiment]] = {
    "tabular": tabular,
    "forecasting": forecasting,
    "graph": graph,
}


def _tensor_loader(x: Tensor, y: Tensor, config: Plain, *, shuffled: bool) -> Loader:
    from torch.utils.data import DataLoader, TensorDataset

    generator = torch.Generator().manual_seed(config["seed"])
    size = config["training"]["batch_size"] if shuffled else EVALUATION_BATCH
    return DataLoader(TensorDataset(x, y), size, shuffle=shuffled, generator=generator)

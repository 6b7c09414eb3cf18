"""A zoo on disk: `index.json` says what was made, `networks.pt` holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_system.errors import ConfigError, StateError
from nas_system.files import read_object, write_json
from nas_system.netformer.weights.network import Network
from nas_system.netformer.weights.tokens import Tokens, network_from_tokens
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint

SCHEMA_VERSION = 1
LARGEST_INDEX_BYTES = 2**30
INDEX, NETWORKS = "index.json", "networks.pt"


@dataclass(frozen=True)
class Zoo:
    """Networks, trained on random tasks."""

    config: ZooConfig
    tokens: Tokens
    """Every network's sequence."""
    task: Tensor
    """Number of the task of every network; (networks,)."""
    train_mse: Tensor
    val_mse: Tensor
    meta: Tensor
    """Meta-features of every task, NaN where unknown; (tasks, values), no values if not measured."""
    probes: Tensor
    """Inputs at which networks are compared; (rows, inputs)."""

    def __len__(self) -> int:
        return len(self.task)

    def part(self, name: str) -> Tensor:
        """Positions of the networks of train, val or test. Whole tasks belong to one part: of ten tasks
        eight, one and one."""
        of_task = {"train": range(8), "val": (8,), "test": (9,)}[name]
        return torch.isin(self.task % 10, torch.tensor(list(of_task))).nonzero()[:, 0]

    def network(self, position: int) -> Network:
        return network_from_tokens(Tokens(self.tokens.structure[position], self.tokens.weight[position]))

    def networks(self, positions: Tensor) -> list[Network]:
        return [self.network(position) for position in positions.tolist()]


def save_zoo(zoo: Zoo, folder: Path) -> None:
    """Write the two files, the index last: a zoo without one was not finished. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made a folder ({error.strerror})") from None
    (folder / INDEX).unlink(missing_ok=True)
    content = {
        "structure": zoo.tokens.structure.to(torch.int16),
        "weight": zoo.tokens.weight,
        "task": zoo.task,
        "train_mse": zoo.train_mse,
        "val_mse": zoo.val_mse,
        "meta": zoo.meta,
        "probes": zoo.probes,
    }
    sha256 = save_checkpoint(folder / NETWORKS, content)
    index = {
        "schema_version": SCHEMA_VERSION,
        "config": zoo.config.to_json(),
        "sha256": sha256,
        "networks": [_entry(zoo, position) for position in range(len(zoo))],
    }
    write_json(folder / INDEX, index, indent=None)


def load_zoo(folder: Path) -> Zoo:
    """The zoo in `folder`. Raises ConfigError if there is none, StateError for damage."""
    try:
        index = read_object(folder / INDEX, largest_bytes=LARGEST_INDEX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{folder}: there is no zoo here; make one: python -m nas_system.netformer zoo --out {folder}"
        ) from None
    except ValueError as error:
        raise StateError(f"{folder / INDEX}: {error}; make the zoo again") from None
    version = index.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StateError(f"{folder / INDEX}: schema {version}, but this program reads {SCHEMA_VERSION}")
    try:
        config = ZooConfig.from_json(index["config"])
    except (ConfigError, KeyError) as error:
        raise StateError(f"{folder / INDEX}: {error}") from None
    content = load_checkpoint(folder / NETWORKS, sha256=index.get("sha256"))
    return Zoo(
        config=config,
        tokens=Tokens(content["structure"].long(), content["weight"]),
        **{name: content[name] for name in ("task", "train_mse", "val_mse", "meta", "probes")},
    )


def _entry(zoo: Zoo, position: int) -> dict[str, Any]:
    network = zoo.network(position)
    return {
        "id": position,
        "task": int(zoo.task[position]),
        "types": [neuron.type for neuron in network.neurons],
        "edges": len(network.edges),
        "train_mse": round(float(zoo.train_mse[position]), 6),
        "val_mse": round(float(zoo.val_mse[position]), 6),
    }

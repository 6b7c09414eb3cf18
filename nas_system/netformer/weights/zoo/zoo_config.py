"""What a zoo of networks is made of."""

from __future__ import annotations

from dataclasses import dataclass

from nas_system.errors import ConfigError
from nas_system.netformer.weights.network import ACTIVATIONS
from nas_system.netformer.weights.options import Options, option

PARTS = ("train", "val", "test")
"""Of ten tasks eight, one and one."""


@dataclass(frozen=True)
class ZooConfig(Options):
    """The networks of a zoo."""

    networks: int = option(2000, "how many networks", 10, 100_000)
    tasks: int = option(200, "random regression tasks they are spread over", 10, 10_000)
    seed: int = option(0, "the same seed gives the same zoo", 0, 2**31)
    inputs: int = option(2, "inputs of every network", 1, 8)
    min_depth: int = option(1, "fewest hidden layers", 1, 6)
    max_depth: int = option(2, "most hidden layers", 1, 6)
    min_width: int = option(2, "fewest neurons in a hidden layer", 1, 16)
    max_width: int = option(4, "most neurons in a hidden layer", 1, 16)
    activations: tuple[str, ...] = option(
        ("linear", "tanh", "relu", "sigmoid"), "what hidden layers are made of", choices=ACTIVATIONS
    )
    density: float = option(1.0, "share of the edges between two layers that are there", 0.05, 1)
    shared_initialisation: bool = option(
        True, "all networks start from the same numbers, so that equal places mean equal things"
    )
    steps: int = option(300, "optimizer steps of every network", 0, 100_000)
    lr: float = option(0.02, "their learning rate (Adam)", 1e-6, 1)
    rows: int = option(96, "rows of a task; a third of them is for validation", 30, 10_000)
    noise: float = option(0.05, "noise in the target, whose standard deviation is 1", 0, 1)
    meta_features: bool = option(True, "describe every task by meta-features; needs the extra netformer")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("depth", "width"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise ConfigError(f"min_{name}={low} is more than max_{name}={high}")
        if self.tasks > self.networks:
            raise ConfigError(
                f"tasks={self.tasks} is more than networks={self.networks}: some would be unused"
            )

    @property
    def train_rows(self) -> int:
        return self.rows - self.rows // 3

    @property
    def max_vertices(self) -> int:
        """Vertices of the largest possible network, bias and inputs included."""
        return 1 + self.inputs + self.max_depth * self.max_width + 1

    @property
    def max_tokens(self) -> int:
        """Tokens of the largest possible network, the end token included."""
        width = self.max_width
        edges = width * (1 + self.inputs) + (self.max_depth - 1) * width * (1 + width) + 1 + width
        return self.inputs + edges + 1

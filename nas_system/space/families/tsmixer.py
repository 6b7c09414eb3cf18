"""Fields of the mixer family."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import NetworkConfig
from nas_system.space.fields import Range


class TSMixerConfig(NetworkConfig):
    """Layers that mix over time and over columns in turn (Chen et al. 2023, arXiv:2303.06053)."""

    family: Literal["tsmixer"] = "tsmixer"

    num_layers: Annotated[int, Range(1, 8, grid=(1, 2, 3, 4))] = 2
    """Mixing blocks; each mixes steps, then columns."""

    d_ff: Annotated[int, Range(2, 2048, grid=(8, 16, 32, 64))] = 32
    """Width inside the blocks that mix columns."""

    dropout: Annotated[float, Range(0.0, 0.9, grid=(0.1, 0.3, 0.5, 0.7, 0.9))] = 0.7
    """Share of activations dropped while training."""

"""Fields of the hierarchical interpolation family."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nas_system.space.families.family import FramedConfig
from nas_system.space.fields import Range


class NHiTSConfig(FramedConfig):
    """Perceptrons at several rates, each interpolating its part of the forecast (Challu et al. 2022,
    arXiv:2201.12886)."""

    reads_covariates: ClassVar[bool] = False

    family: Literal["nhits"] = "nhits"

    stacks: Annotated[int, Range(1, 6, grid=(1, 2, 3, 4))] = 3
    """Rates at which the look-back is read, from coarse to fine."""

    blocks: Annotated[int, Range(1, 8, grid=(1, 2, 3))] = 1
    """Blocks in a stack; each reads what those before it left unexplained."""

    pooling: Annotated[int, Range(1, 24, grid=(1, 2, 4, 8))] = 4
    """How many times coarser a stack is than the next one: with 4, three stacks read and write every
    16th, 4th and single step."""

    hidden_size: Annotated[int, Range(4, 2048, grid=(32, 64, 128, 256, 512))] = 64
    """Width of every layer."""

    num_layers: Annotated[int, Range(1, 6, grid=(1, 2, 3))] = 2
    """Layers in a block before its forecast."""

    dropout: Annotated[float, Range(0.0, 0.9, grid=(0.0, 0.1, 0.2, 0.3, 0.5))] = 0.1
    """Share of activations dropped while training."""

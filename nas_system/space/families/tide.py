"""Fields of the dense encoder family."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import NetworkConfig
from nas_system.space.fields import Choice, Range


class TiDEConfig(NetworkConfig):
    """Dense encoder and decoder, then every step of the forecast with its own time features (Das et al.
    2023, arXiv:2304.08424)."""

    family: Literal["tide"] = "tide"

    hidden_size: Annotated[int, Range(4, 2048, grid=(32, 64, 128, 256, 512))] = 64
    """Width of encoder and decoder."""

    e_layers: Annotated[int, Range(1, 6, grid=(1, 2, 3))] = 1
    """Residual blocks of the encoder."""

    d_layers: Annotated[int, Range(1, 6, grid=(1, 2, 3))] = 1
    """Residual blocks of the decoder."""

    step_width: Annotated[int, Range(1, 128, grid=(4, 8, 16, 32))] = 4
    """Numbers that the decoder gives for a step of the forecast."""

    step_hidden: Annotated[int, Range(4, 512, grid=(16, 32, 64, 128))] = 16
    """Width of the block that turns them and the step's time features into its forecast."""

    layer_norm: Annotated[bool, Choice()] = False
    """Normalise the output of every residual block."""

    dropout: Annotated[float, Range(0.0, 0.9, grid=(0.0, 0.1, 0.2, 0.3, 0.5))] = 0.3
    """Share of activations dropped while training."""

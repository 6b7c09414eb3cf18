"""Fields of the inverted Transformer."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import FramedConfig, TimeMarks, check_heads
from nas_system.space.fields import Choice, Range


class ITransformerConfig(FramedConfig):
    """Every column's whole look-back is one token; attention mixes columns (Liu et al. 2024,
    arXiv:2310.06625)."""

    family: Literal["itransformer"] = "itransformer"

    d_model: Annotated[int, Range(4, 1024, grid=(16, 32, 64, 128, 256))] = 32
    """Width of every layer; must be divisible by n_heads."""

    n_heads: Annotated[int, Range(1, 16, grid=(2, 4, 8))] = 4
    """Attention heads; must divide d_model."""

    e_layers: Annotated[int, Range(1, 6, grid=(1, 2, 3))] = 2
    """How many layers the encoder has."""

    d_ff: Annotated[int, Range(4, 4096, grid=(32, 64, 128, 256))] = 64
    """Width inside the feed-forward blocks."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.1, 0.2, 0.3, 0.5))] = 0.1
    """Share of activations dropped while training."""

    time_features: Annotated[bool, Choice()] = True
    """Read hour, weekday, day of month and day of year (what the step allows) as further tokens."""

    @property
    def time_marks(self) -> TimeMarks:
        return "continuous" if self.time_features else "none"

    def check(self) -> None:
        super().check()
        check_heads(self.d_model, self.n_heads)

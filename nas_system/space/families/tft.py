"""Fields of the temporal fusion Transformer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nas_system.space.families.family import FramedConfig, TimeMarks
from nas_system.space.fields import Range


class TFTConfig(FramedConfig):
    """Temporal fusion Transformer (Lim et al. 2021, arXiv:1912.09363), pytorch-forecasting's."""

    needs_package: ClassVar[str | None] = "pytorch_forecasting"
    extra: ClassVar[str | None] = "tft"

    family: Literal["tft"] = "tft"

    hidden_size: Annotated[int, Range(4, 512, grid=(8, 16, 32, 64))] = 16
    """Width of the whole network; must be divisible by n_heads."""

    num_layers: Annotated[int, Range(1, 4, grid=(1, 2))] = 1
    """LSTM layers in encoder and decoder."""

    n_heads: Annotated[int, Range(1, 16, grid=(1, 2, 4))] = 4
    """Attention heads; must divide hidden_size."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.1, 0.2, 0.3))] = 0.1
    """Share of activations dropped while training."""

    @property
    def time_marks(self) -> TimeMarks:
        return "continuous"

    def check(self) -> None:
        super().check()
        if self.hidden_size % self.n_heads:
            raise ValueError(
                f"model.hidden_size={self.hidden_size} is not divisible by model.n_heads={self.n_heads}; "
                "change one of them"
            )

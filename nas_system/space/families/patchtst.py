"""Fields of the patch Transformer."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from nas_system.space.families.family import FramedConfig, check_heads
from nas_system.space.fields import Range


class PatchTSTConfig(FramedConfig):
    """Transformer over patches of one channel at a time (Nie et al. 2023, arXiv:2211.14730)."""

    reads_covariates: ClassVar[bool] = False

    family: Literal["patchtst"] = "patchtst"

    patch_len: Annotated[int, Range(2, 512, grid=(8, 12, 16, 24, 32))] = 16
    """Steps in a patch, which is one token."""

    stride: Annotated[int, Range(1, 512, grid=(4, 8, 12, 16, 24))] = 8
    """Steps between the starts of two patches; at most patch_len."""

    d_model: Annotated[int, Range(4, 1024, grid=(16, 32, 64, 128))] = 16
    """Width of every layer; must be divisible by n_heads."""

    n_heads: Annotated[int, Range(1, 16, grid=(2, 4, 8))] = 4
    """Attention heads; must divide d_model."""

    e_layers: Annotated[int, Range(1, 6, grid=(1, 2, 3))] = 2
    """How many layers the encoder has."""

    d_ff: Annotated[int, Range(4, 4096, grid=(32, 64, 128, 256))] = 64
    """Width inside the feed-forward blocks."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.1, 0.2, 0.3, 0.5))] = 0.2
    """Share of activations dropped while training."""

    def check(self) -> None:
        super().check()
        check_heads(self.d_model, self.n_heads)
        if self.stride > self.patch_len:
            raise ValueError(
                f"model.stride={self.stride} is longer than model.patch_len={self.patch_len}, so steps "
                "would be skipped; shorten stride or lengthen patch_len"
            )

    def check_window(self, seq_len: int, pred_len: int) -> None:
        super().check_window(seq_len, pred_len)
        if self.patch_len > seq_len:
            raise ValueError(
                f"model.patch_len={self.patch_len} is longer than data.seq_len={seq_len}; "
                "shorten patch_len or lengthen seq_len"
            )

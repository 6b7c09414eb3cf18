"""Fields of the temporal convolutional family."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import NetworkConfig
from nas_system.space.fields import Range


class TCNConfig(NetworkConfig):
    """Temporal convolutional network (Bai et al. 2018, arXiv:1803.01271): causal, dilated, residual."""

    family: Literal["tcn"] = "tcn"

    hidden_size: Annotated[int, Range(2, 1024, grid=(8, 16, 32, 64))] = 16
    """Channels of every level."""

    num_layers: Annotated[int, Range(1, 12, grid=(4, 5, 6, 7))] = 5
    """Residual levels; the dilation doubles with each."""

    kernel_size: Annotated[int, Range(2, 31, grid=(3, 5, 7))] = 3
    """Taps of each convolution."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.05, 0.1, 0.2, 0.3))] = 0.1
    """Share of channels dropped while training."""

    @property
    def receptive_field(self) -> int:
        """Steps that the last output sees: two convolutions per level (Bai et al., section 3.4)."""
        return 1 + 2 * (self.kernel_size - 1) * (2**self.num_layers - 1)

    def check_window(self, seq_len: int, pred_len: int) -> None:
        super().check_window(seq_len, pred_len)
        if self.receptive_field < seq_len:
            raise ValueError(
                f"model.num_layers={self.num_layers} and model.kernel_size={self.kernel_size} see "
                f"{self.receptive_field} steps, fewer than data.seq_len={seq_len}; "
                "raise num_layers or kernel_size, or shorten seq_len"
            )

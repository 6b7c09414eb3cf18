"""Fields of the hybrid of convolution and LSTM."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import NetworkConfig
from nas_system.space.fields import Range


class CNNLSTMConfig(NetworkConfig):
    """Convolutions find local shapes and shorten the sequence, an LSTM reads it (Lai et al. 2018,
    arXiv:1703.07015, without its skip connections)."""

    family: Literal["cnn_lstm"] = "cnn_lstm"

    channels: Annotated[int, Range(2, 512, grid=(8, 16, 32, 64))] = 16
    """Filters of the convolution."""

    kernel_size: Annotated[int, Range(1, 31, grid=(3, 5, 7))] = 5
    """Taps of the convolution."""

    pool: Annotated[int, Range(1, 24, grid=(1, 2, 4))] = 2
    """Steps that the maximum joins into one before the LSTM; 1 keeps all."""

    hidden_size: Annotated[int, Range(2, 1024, grid=(8, 16, 32, 64, 128))] = 32
    """Width of the LSTM's state."""

    num_layers: Annotated[int, Range(1, 6, grid=(1, 2))] = 1
    """LSTM layers on top of each other."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.05, 0.1, 0.2, 0.3))] = 0.1
    """Share of activations dropped while training."""

    def check_window(self, seq_len: int, pred_len: int) -> None:
        super().check_window(seq_len, pred_len)
        if self.pool > seq_len:
            raise ValueError(
                f"model.pool={self.pool} is longer than data.seq_len={seq_len}; "
                "lower pool or lengthen seq_len"
            )

"""Fields of the two recurrent families, LSTM and GRU."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import NetworkConfig
from nas_system.space.fields import Choice, Range


class RecurrentConfig(NetworkConfig):
    """What LSTM and GRU share: the last hidden state forecasts the whole horizon."""

    hidden_size: Annotated[int, Range(2, 1024, grid=(8, 16, 32, 64, 128))] = 32
    """Width of the hidden state, per direction."""

    num_layers: Annotated[int, Range(1, 6, grid=(1, 2, 3))] = 1
    """Recurrent layers on top of each other."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.05, 0.1, 0.2, 0.3))] = 0.1
    """Share of activations dropped while training, between layers and before the output."""

    bidirectional: Annotated[bool, Choice()] = False
    """Read the look-back in both directions; the future is in neither."""

    segment_len: Annotated[int, Range(1, 96, grid=(1, 4, 12, 24))] = 1
    """Neighbouring steps read as one (Lin et al. 2023, arXiv:2308.11200): a long look-back at a short
    one's cost."""

    def check_window(self, seq_len: int, pred_len: int) -> None:
        super().check_window(seq_len, pred_len)
        if self.segment_len > seq_len:
            raise ValueError(
                f"model.segment_len={self.segment_len} is longer than data.seq_len={seq_len}; "
                "lower segment_len or lengthen seq_len"
            )


class LSTMConfig(RecurrentConfig):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, Neural Computation 9(8))."""

    family: Literal["lstm"] = "lstm"


class GRUConfig(RecurrentConfig):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078): an LSTM with fewer gates."""

    family: Literal["gru"] = "gru"

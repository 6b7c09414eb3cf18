"""What LSTM and GRU forecasters share: read the look-back, forecast everything from the last state."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.layers.dropout import Dropout
from nas_system.sequential.layers.horizon_head import HorizonHead
from nas_system.space.families.recurrent import RecurrentConfig
from nas_system.space.shape import SeriesShape

Cell = Literal["lstm", "gru"]
CELLS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class LastState(nn.Module):
    """The top layer's last hidden state, `(batch, time, inputs) -> (batch, width)`.

    In both directions: the two states that have read the whole look-back, side by side.
    """

    def __init__(
        self,
        cell: Cell,
        n_inputs: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.directions = 1 + bidirectional
        self.width = self.directions * hidden_size
        self.rnn = CELLS[cell](
            n_inputs,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,  # torch warns where there is nothing between layers
            bidirectional=bidirectional,
        )

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        hidden = state[0] if isinstance(state, tuple) else state  # (layers * directions, B, H)
        return hidden[-self.directions :].transpose(0, 1).flatten(1)


def segments(x: Tensor, length: int) -> Tensor:
    """Concatenate every `length` steps into one: `(B, T, C) -> (B, ceil(T / length), length * C)`.

    The last segment ends with the last step; zeros fill up the first.
    """
    missing = -x.shape[1] % length
    return F.pad(x, (0, 0, missing, 0)).unflatten(1, (-1, length)).flatten(2)


class RecurrentNetwork(nn.Module):
    """Recurrent layers, dropout and a linear map from the last state to the horizon."""

    def __init__(self, cell: Cell, config: RecurrentConfig, shape: SeriesShape) -> None:
        super().__init__()
        self.segment_len = config.segment_len
        self.reader = LastState(
            cell,
            (shape.n_inputs + shape.n_marks) * config.segment_len,
            config.hidden_size,
            config.num_layers,
            config.dropout,
            config.bidirectional,
        )
        self.dropout = Dropout(config.dropout)
        self.head = HorizonHead(self.reader.width, shape)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, seq_len, inputs + marks) -> (B, pred_len, targets)`."""
        return self.head(self.dropout(self.reader(segments(x, self.segment_len))))

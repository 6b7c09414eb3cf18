"""The families' networks for tables, where y is no column of X: `(B, L, F) -> (B, 1, K)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.sequential.cnn_lstm import CNNLSTMForecaster
from nas_system.sequential.gru import GRUForecaster
from nas_system.sequential.informer import Informer
from nas_system.sequential.lstm import LSTMForecaster
from nas_system.sequential.seq2seq_attention import Seq2SeqAttentionForecaster
from nas_system.sequential.tcn import TCNForecaster
from nas_system.sequential.tft import TFTForecaster
from nas_system.sequential.tsmixer import TSMixerForecaster
from nas_system.space import FamilyConfig, SeriesShape

NETWORKS: dict[str, Callable[[Any, SeriesShape], nn.Module]] = {
    "lstm": LSTMForecaster,
    "gru": GRUForecaster,
    "seq2seq_attention": Seq2SeqAttentionForecaster,
    "tcn": TCNForecaster,
    "tft": TFTForecaster,
    "informer": Informer,
    "cnn_lstm": CNNLSTMForecaster,
    "tsmixer": TSMixerForecaster,
}
"""By the family's key; a class takes (config, shape). Other families forecast a series from its own past."""


class WithPositions(nn.Module):
    """Passes the place in the window to a network that reads time marks: -1 is the first step, 0 the next.

    A table has no clock, and marks of zeros would make all steps the same moment.
    """

    past: Tensor
    future: Tensor

    def __init__(self, network: nn.Module, seq_len: int, pred_len: int) -> None:
        super().__init__()
        self.network = network
        places = torch.arange(-seq_len, pred_len)[None, :, None] / seq_len  # (1, L + H, 1)
        self.register_buffer("past", places[:, :seq_len], persistent=False)
        self.register_buffer("future", places[:, seq_len:], persistent=False)

    def forward(self, x: Tensor, x_mark: Tensor | None = None, y_mark: Tensor | None = None) -> Tensor:
        return self.network(x, self.past.expand(len(x), -1, -1), self.future.expand(len(x), -1, -1))


def build_network(
    config: FamilyConfig, seq_len: int, n_inputs: int, n_outputs: int, *, with_positions: bool
) -> nn.Module:
    """Build an untrained network for windows of a table; it predicts the row that follows the window."""
    shape = SeriesShape(
        seq_len=seq_len,
        pred_len=1,
        n_inputs=n_inputs,
        target_columns=(),
        n_marks=1 if with_positions else 0,
        n_outputs=n_outputs,
    )
    network = NETWORKS[config.family](config, shape)
    return WithPositions(network, seq_len, shape.pred_len) if with_positions else network

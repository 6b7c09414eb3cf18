"""CNN-LSTM: a convolution finds local shapes, pooling shortens the sequence, an LSTM reads what is left.

After Lai et al. 2018, "Modeling Long- and Short-Term Temporal Patterns with Deep Neural Networks"
(LSTNet), arXiv:1703.07015, section 3.

Unlike LSTNet ours has an LSTM instead of a GRU, a maximum over time before it, and no skip
connections over a fixed period. LSTNet's autoregressive component is the frame's linear path.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from nas_system.sequential.forecaster import Forecaster, with_marks
from nas_system.sequential.layers.causal_convolution import CausalConv
from nas_system.sequential.layers.dropout import Dropout
from nas_system.sequential.layers.horizon_head import HorizonHead
from nas_system.sequential.layers.recurrent import LastState
from nas_system.space.families import CNNLSTMConfig
from nas_system.space.shape import SeriesShape


class CNNLSTMForecaster(Forecaster):
    """The family of convolution and LSTM."""

    def __init__(self, config: CNNLSTMConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        n_inputs = self.inner.n_inputs + self.inner.n_marks
        self.convolution = CausalConv(n_inputs, config.channels, config.kernel_size)
        self.pool = config.pool
        self.dropout = Dropout(config.dropout)
        self.reader = LastState(
            "lstm", config.channels, config.hidden_size, config.num_layers, config.dropout
        )
        self.head = HorizonHead(self.reader.width, self.inner)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        shapes = F.relu(self.convolution(with_marks(x, x_mark)))
        state = self.reader(self.dropout(pooled(shapes, self.pool)))
        return self.head(self.dropout(state))


def pooled(x: Tensor, size: int) -> Tensor:
    """Max-pool every `size` steps of a positive `(B, T, C)`; the last group ends with the last step."""
    if size == 1:
        return x
    missing = -x.shape[1] % size
    # Zeros before the first step: nothing is smaller after a ReLU.
    return F.pad(x, (0, 0, missing, 0)).unflatten(1, (-1, size)).amax(dim=2)

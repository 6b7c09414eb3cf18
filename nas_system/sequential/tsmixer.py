"""TSMixer: small perceptrons that mix over time and over columns in turn.

Chen et al. 2023, "TSMixer: An All-MLP Architecture for Time Series Forecasting", arXiv:2303.06053,
section 4 (the basic model). A block first mixes the steps of each column, then the columns of each
step; after the last block one linear map goes from look-back to horizon.

Unlike the paper a window is normalised by itself, over time and columns (layer norm, see
`layers/encoder.py`), where the paper's batch norm takes the batch with it; time features of the
look-back are further columns; and targets that are no columns are read off all columns by one
more linear map. Normalisation of the window and a linear path past the network are those of all
families.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.forecaster import Forecaster, with_marks
from nas_system.sequential.layers.dropout import Dropout
from nas_system.space.families import TSMixerConfig
from nas_system.space.shape import SeriesShape


class MixingBlock(nn.Module):
    """Mixing over time, then over columns, each added to its input: `(B, L, C) -> (B, L, C)`."""

    def __init__(self, seq_len: int, n_columns: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm([seq_len, n_columns])
        self.norm2 = nn.LayerNorm([seq_len, n_columns])
        self.time = nn.Linear(seq_len, seq_len)
        self.columns1 = nn.Linear(n_columns, d_ff)
        self.columns2 = nn.Linear(d_ff, n_columns)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(F.relu(self.time(self.norm1(x).mT))).mT
        mixed = self.dropout(F.relu(self.columns1(self.norm2(x))))
        return x + self.dropout(self.columns2(mixed))


class TSMixerForecaster(Forecaster):
    """The mixer over the inputs and their time features."""

    def __init__(self, config: TSMixerConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        self.reads_marks = config.time_features
        n_columns = self.inner.n_inputs + (shape.n_marks if config.time_features else 0)
        blocks = [
            MixingBlock(shape.seq_len, n_columns, config.d_ff, config.dropout)
            for _ in range(config.num_layers)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(shape.seq_len, shape.pred_len)
        self.readout = None if shape.target_columns else nn.Linear(n_columns, shape.n_targets)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        mixed = self.blocks(with_marks(x, x_mark if self.reads_marks else None))
        if self.readout is not None:
            return self.head(self.readout(mixed).mT).mT
        targets = mixed[..., list(self.inner.target_columns)]
        return self.head(targets.mT).mT

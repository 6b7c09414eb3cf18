"""PatchTST: a Transformer whose tokens are patches of one channel's past.

Nie et al. 2023, "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers",
arXiv:2211.14730, section 3.1. As there: every channel goes through the same network alone, the
window is continued by `stride` copies of its last value, positions are learned, and one linear
head reads all patches of a channel at once.

Unlike the paper we normalise with layer norm instead of batch norm (see `layers/encoder.py`), before
each block instead of after it, and pass no attention scores from layer to layer. Normalisation of the
window and a linear path past the network are those of all families.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.forecaster import Forecaster
from nas_system.sequential.layers.dropout import Dropout
from nas_system.sequential.layers.encoder import TokenEncoder
from nas_system.space.families import PatchTSTConfig
from nas_system.space.shape import SeriesShape


class PatchTSTForecaster(Forecaster):
    """The patch Transformer. It reads the target columns only; other inputs and time marks are ignored."""

    def __init__(self, config: PatchTSTConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        try:
            config.check_window(shape.seq_len, shape.pred_len)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.patch_len, self.stride = config.patch_len, config.stride
        # Never one patch alone: the copies at the end make at least a second.
        n_patches = (shape.seq_len - config.patch_len) // config.stride + 2
        self.embedding = nn.Linear(config.patch_len, config.d_model)
        self.position = nn.Parameter(torch.empty(n_patches, config.d_model).uniform_(-0.02, 0.02))
        self.dropout = Dropout(config.dropout)
        self.encoder = TokenEncoder(
            n_patches,
            d_model=config.d_model,
            n_heads=config.n_heads,
            n_layers=config.e_layers,
            d_ff=config.d_ff,
            dropout=config.dropout,
            norm_first=True,
        )
        self.head = nn.Linear(n_patches * config.d_model, shape.pred_len)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        patches = self.patches(x)  # (B, C, N, patch_len)
        tokens = self.dropout(self.embedding(patches) + self.position)
        # Channels are batch items: nothing passes from one to another.
        encoded = self.encoder(tokens.flatten(0, 1))  # (B*C, N, d_model)
        return self.head(encoded.flatten(1)).unflatten(0, patches.shape[:2]).mT

    def patches(self, x: Tensor) -> Tensor:
        """`(B, seq_len, C)` cut into overlapping patches, `(B, C, N, patch_len)`; every step is in one."""
        continued = F.pad(x.mT, (0, self.stride), mode="replicate")
        return continued.unfold(-1, self.patch_len, self.stride)

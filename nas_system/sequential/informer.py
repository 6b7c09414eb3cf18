"""Informer: a Transformer that forecasts the whole horizon at once, behind this project's interface.

Zhou et al. 2021, "Informer: Beyond Efficient Transformer for Long Sequence Time-Series
Forecasting", arXiv:2012.07436.

Around the paper's model (`InformerCore`) we put two things it lacks, both optional: normalisation
of every window by its own statistics, and a linear map from the targets' past straight to the
forecast. On ETTh1 they decide the score; width and depth do not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.informer_core import InformerCore, load_reference_state
from nas_system.sequential.layers.normalization import InstanceNormalization
from nas_system.sequential.layers.time_linear import TimeLinear
from nas_system.space.families import InformerConfig
from nas_system.space.shape import SeriesShape

__all__ = ["Informer", "InformerCore", "core_from_config", "load_reference_state"]


def core_from_config(config: InformerConfig, shape: SeriesShape) -> InformerCore:
    """The paper's model at the sizes of a configuration and a problem."""
    return InformerCore(
        enc_in=shape.n_inputs,
        dec_in=shape.n_inputs,
        c_out=shape.n_targets,
        seq_len=shape.seq_len,
        label_len=config.label_len,
        pred_len=shape.pred_len,
        factor=config.factor,
        d_model=config.d_model,
        n_heads=config.n_heads,
        e_layers=config.e_layers,
        d_layers=config.d_layers,
        d_ff=config.d_ff,
        dropout=config.dropout,
        attn=config.attention,
        embed=config.embed,
        activation=config.activation,
        distil=config.distil,
        mix=config.mix,
        n_marks=shape.n_marks,
    )


class Informer(nn.Module):
    """The Informer family. `core` replaces the encoder-decoder by another of the same interface."""

    target_columns: Tensor

    def __init__(self, config: InformerConfig, shape: SeriesShape, core: nn.Module | None = None) -> None:
        super().__init__()
        if config.label_len > shape.seq_len:
            raise ConfigError(
                f"model.label_len={config.label_len} is longer than the look-back of {shape.seq_len} steps; "
                "shorten label_len or lengthen seq_len"
            )
        self.label_len = config.label_len
        self.pred_len = shape.pred_len
        self.normalization = InstanceNormalization(config.normalization, shape.n_inputs)
        self.core = core_from_config(config, shape) if core is None else core
        self.linear_path = TimeLinear(shape.seq_len, shape.pred_len) if config.linear_path else None
        self.register_buffer("target_columns", torch.tensor(shape.target_columns), persistent=False)

    def forward(self, x: Tensor, x_mark: Tensor, y_mark: Tensor) -> Tensor:
        """`(B, seq_len, inputs)` and time marks of look-back and horizon -> `(B, pred_len, targets)`."""
        x, statistics = self.normalization.normalise(x)
        known = x.shape[1] - self.label_len
        # The decoder starts from the last known steps; the steps to forecast are zeros.
        x_dec = F.pad(x[:, known:], (0, 0, 0, self.pred_len))
        forecast = self.core(x, x_mark, x_dec, torch.cat([x_mark[:, known:], y_mark], dim=1))
        if self.linear_path is not None:
            forecast = forecast + self.linear_path(x.index_select(-1, self.target_columns))
        return self.normalization.restore(forecast, statistics, self.target_columns)

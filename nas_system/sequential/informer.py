"""Informer: a Transformer that forecasts the whole horizon at once, behind this project's interface.

Zhou et al. 2021, "Informer: Beyond Efficient Transformer for Long Sequence Time-Series
Forecasting", arXiv:2012.07436.

Around the paper's model (`InformerCore`) stands the frame of all families (`forecaster.py`), whose
normalisation and linear path the paper lacks. On ETTh1 they decide the score; width and depth do not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.forecaster import Forecaster
from nas_system.sequential.layers.informer_core import InformerCore, load_reference_state
from nas_system.space.families import InformerConfig
from nas_system.space.shape import SeriesShape

__all__ = ["Informer", "InformerCore", "core_from_config", "load_reference_state"]


def core_from_config(config: InformerConfig, shape: SeriesShape) -> InformerCore:
    """Build the paper's model in the sizes of a configuration and a series."""
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


class Informer(Forecaster):
    """The Informer family. `core` replaces the encoder-decoder by another of the same interface."""

    def __init__(self, config: InformerConfig, shape: SeriesShape, core: nn.Module | None = None) -> None:
        super().__init__(config, shape)
        if config.label_len > shape.seq_len:
            raise ConfigError(
                f"model.label_len={config.label_len} is longer than the look-back of {shape.seq_len} steps; "
                "shorten label_len or lengthen seq_len"
            )
        self.label_len = config.label_len
        self.pred_len = shape.pred_len
        self.core = core_from_config(config, self.inner) if core is None else core

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self.core(*self._core_inputs(x, x_mark, y_mark))

    @torch.no_grad()
    def attention_weights(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> dict[str, Tensor]:
        """Return how much every forecast step attends to the encoder's output in the last decoder layer.

        `(B, pred_len, keys)`, mean of the heads, rows sum to 1. Every distilling halves the keys: a key
        is then a group of neighbouring steps. Empty if another implementation stands for the core.
        """
        if not isinstance(self.core, InformerCore):
            return {}
        inputs = self._core_inputs(*self.network_inputs(x, x_mark, y_mark))
        return {"decoder to encoder": self.core.attention_weights(*inputs).float()}

    def _core_inputs(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return values and marks for the encoder, then for the decoder."""
        assert x_mark is not None and y_mark is not None
        known = x.shape[1] - self.label_len
        # The decoder starts from the last known steps; the steps to forecast are zeros.
        x_dec = F.pad(x[:, known:], (0, 0, 0, self.pred_len))
        return x, x_mark, x_dec, torch.cat([x_mark[:, known:], y_mark], dim=1)

"""Temporal fusion Transformer: gates choose among the inputs, an LSTM reads them, attention looks back.

Lim, Arık, Loeff, Pfister 2021, "Temporal Fusion Transformers for Interpretable Multi-horizon Time
Series Forecasting", arXiv:1912.09363. The network is pytorch-forecasting's, used as a plain module:
its data sets, its training loop and its logging stay out, our engine trains it.

Unlike the paper it forecasts the mean and no quantiles, and there are no static covariates.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.forecaster import Forecaster
from nas_system.space.families import TFTConfig
from nas_system.space.shape import SeriesShape
from nas_system.training.extras import import_extra

REL_TIME, CONSTANT = "rel_time", "constant"


class TFTForecaster(Forecaster):
    """The TFT family. Raises ConfigError, with the way to install it, where pytorch-forecasting is absent."""

    reads_known = True
    clock: Tensor

    def __init__(self, config: TFTConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        self.pred_len = shape.pred_len
        self.network = build_network(config, self.inner)
        steps = torch.arange(-shape.seq_len, shape.pred_len) / max(shape.seq_len, shape.pred_len)
        clock = torch.stack([steps, torch.ones_like(steps)], dim=-1)[None]  # (1, L + H, 2)
        self.register_buffer("clock", clock, persistent=False)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self.network(self._as_batch(x, x_mark, y_mark))["prediction"]

    @torch.no_grad()
    def attention_weights(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> dict[str, Tensor]:
        """Return the attention, mean of its heads: `(B, pred_len, seq_len + pred_len)`; rows sum to 1.

        Keys are the steps of the look-back, then those of the horizon; a step sees only earlier ones.
        """
        out = self.network(self._as_batch(*self.network_inputs(x, x_mark, y_mark)))
        # (B, queries, heads, keys) each
        weights = torch.cat([out["encoder_attention"], out["decoder_attention"]], dim=-1)
        return {"decoder to encoder and decoder": weights.float().mean(dim=2)}

    def _as_batch(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> dict[str, Any]:
        """Return the window as pytorch-forecasting's loader would; variables in the order of `x_reals`."""
        batch, seq_len, _ = x.shape
        # The inputs' future is unknown. Zeros fill the table; no variable of the decoder reads them.
        columns = [F.pad(x, (0, 0, 0, self.pred_len))]
        if x_mark is not None and y_mark is not None:
            columns.append(torch.cat([x_mark, y_mark], dim=1))
        table = torch.cat([*columns, self.clock.expand(batch, -1, -1)], dim=-1)
        lengths = torch.ones(batch, dtype=torch.long, device=x.device)
        no_categories = lengths.new_empty(batch, 0, 0)
        return {
            "encoder_cont": table[:, :seq_len],
            "decoder_cont": table[:, seq_len:],
            "encoder_cat": no_categories,
            "decoder_cat": no_categories,
            "encoder_lengths": lengths * seq_len,
            "decoder_lengths": lengths * self.pred_len,
            "target_scale": None,
        }

    def _apply(self, fn: Any, recurse: bool = True) -> TFTForecaster:
        super()._apply(fn, recurse)
        # A Lightning module notes where it lies, and hears of a move only through its own `to`.
        first = next(self.network.parameters())
        self.network.to(device=first.device, dtype=first.dtype)
        return self


def build_network(config: TFTConfig, shape: SeriesShape) -> nn.Module:
    """pytorch-forecasting's TemporalFusionTransformer for windows of this shape, without its surroundings."""
    package = import_extra("pytorch_forecasting", "tft")
    inputs = [f"input_{number}" for number in range(shape.n_inputs)]
    # Known beforehand, so that the decoder has something to read even where there are no time marks.
    known = [*(f"mark_{number}" for number in range(shape.n_marks)), REL_TIME]
    with warnings.catch_warnings():
        # Lightning advises how to call `save_hyperparameters`; that is not for our users to change.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"lightning\.")
        network = package.TemporalFusionTransformer(
            hidden_size=config.hidden_size,
            lstm_layers=config.num_layers,
            attention_head_size=config.n_heads,
            dropout=config.dropout,
            hidden_continuous_size=min(config.hidden_size, 8),
            max_encoder_length=shape.seq_len,
            x_reals=[*inputs, *known, CONSTANT],
            time_varying_reals_encoder=[*inputs, *known],
            time_varying_reals_decoder=known,
            # Without a static variable the package sends zeros through its static networks: no gradient
            # reaches their first weights, and their layer norms divide by the deviation of nothing.
            static_reals=[CONSTANT],
            # One output per target under one plain loss; the package's MultiLoss only names them apart.
            output_size=shape.n_targets,
            loss=package.MAE(),
            logging_metrics=nn.ModuleList(),
            output_transformer=only_prediction,
            mask_bias=-math.inf,  # the package's -1e9 is no number in fp16
        )
    # A bias of the keys adds one number to all scores of a query, which changes no softmax.
    for keys in network.multihead_attn.k_layers:
        keys.register_parameter("bias", None)
    # A plain dict in place of the class that the package makes in its first forward and then keeps.
    network._output_class = dict
    return network


def only_prediction(output: Mapping[str, Any]) -> Tensor:
    """Return the output: `Forecaster` restores the scale, not the package. No lambda, to allow pickling."""
    return output["prediction"]

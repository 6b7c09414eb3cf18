"""Encoder and decoder joined by attention: the decoder writes the forecast step by step, looking back.

Bahdanau, Cho and Bengio 2015, "Neural Machine Translation by Jointly Learning to Align and Translate",
arXiv:1409.0473, with its own score or Luong's product (arXiv:1508.04025).

Unlike the papers the encoder reads forwards only, the decoder starts from the encoder's last states,
it also reads the time features of the step it writes, and the output is linear. It gets its own last
output in training, too, never the truth: trained on the truth it would meet its own errors only when
it is used (exposure bias: Bengio et al. 2015, arXiv:1506.03099).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_system.sequential.forecaster import Forecaster, with_marks
from nas_system.sequential.layers.dropout import Dropout
from nas_system.sequential.layers.state_attention import AdditiveScore, DotScore
from nas_system.space.families import Seq2SeqAttentionConfig
from nas_system.space.shape import SeriesShape

SCORES = {"additive": AdditiveScore, "dot": DotScore}


class Seq2SeqAttentionForecaster(Forecaster):
    """The sequence-to-sequence family."""

    reads_known = True

    def __init__(self, config: Seq2SeqAttentionConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        inner, hidden_size, layers = self.inner, config.hidden_size, config.num_layers
        self.pred_len = inner.pred_len
        self.encoder = nn.GRU(
            inner.n_inputs + inner.n_marks,
            hidden_size,
            layers,
            batch_first=True,
            dropout=config.dropout if layers > 1 else 0.0,
        )
        self.score = SCORES[config.attention](hidden_size)
        widths = [inner.n_targets + hidden_size + inner.n_marks, *[hidden_size] * (layers - 1)]
        self.decoder = nn.ModuleList(nn.GRUCell(width, hidden_size) for width in widths)
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(2 * hidden_size, inner.n_targets)

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        return self._decode(x, x_mark, y_mark)

    @torch.no_grad()
    def attention_weights(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> dict[str, Tensor]:
        """Return how much every step of the forecast attends to every step of the look-back.

        `(B, pred_len, seq_len)`, rows sum to 1. With channel independence `(B * targets, ...)`: the
        targets of the first window, then those of the second.
        """
        weights: list[Tensor] = []
        self._decode(*self.network_inputs(x, x_mark, y_mark), weights)
        return {"decoder to encoder": torch.stack(weights, dim=1).float()}

    def _decode(
        self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None, weights: list[Tensor] | None = None
    ) -> Tensor:
        """Return the forecast; `weights` collects every step's attention, `(B, seq_len)`."""
        states, final = self.encoder(with_marks(x, x_mark))  # (B, L, H), (layers, B, H)
        keys = self.score.keys(states)
        hidden = list(final.unbind())
        between, before_output = self._masks(hidden[-1])
        value = self._last_value(x)
        forecast = []
        clock = [None] * self.pred_len if y_mark is None else y_mark.unbind(dim=1)
        for mark in clock:
            attention = self.score(hidden[-1], keys).softmax(dim=-1)
            context = torch.bmm(attention[:, None], states)[:, 0]
            read = with_marks(torch.cat([value, context], dim=-1), mark)
            for layer, cell in enumerate(self.decoder):
                if layer:
                    read = read * between
                read = hidden[layer] = cell(read, hidden[layer])
            value = self.output(torch.cat([read, context], dim=-1) * before_output)
            forecast.append(value)
            if weights is not None:
                weights.append(attention)
        return torch.stack(forecast, dim=1)

    def _masks(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Dropout between layers and before the output, one draw for all steps (Gal and Ghahramani 2016,
        arXiv:1512.05287)."""
        ones = torch.ones_like(state)
        return self.dropout(ones), self.dropout(torch.cat([ones, ones], dim=-1))

    def _last_value(self, x: Tensor) -> Tensor:
        """Return the first step's previous output: the last observation, or zeros without one."""
        if not self.inner.target_columns:
            return x.new_zeros(x.shape[0], self.inner.n_targets)
        return x[:, -1, list(self.inner.target_columns)]

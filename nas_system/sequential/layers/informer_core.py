"""The Informer's encoder and decoder, parameter for parameter the published model.

Zhou et al. 2021, "Informer: Beyond Efficient Transformer for Long Sequence Time-Series
Forecasting", arXiv:2012.07436, section 3. Parameter names are those of the published
implementation; its checkpoints load with `load_reference_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.sequential.layers.attention import AttentionLayer, FullAttention, ProbSparseAttention
from nas_system.sequential.layers.convolution import CircularConv, PointwiseConv
from nas_system.sequential.layers.dropout import Dropout
from nas_system.sequential.layers.embedding import DataEmbedding, TimeEmbedding

AttentionKind = Literal["prob", "full"]
Activation = Literal["gelu", "relu"]

TIME_FEATURES = {"a": 1, "m": 1, "w": 2, "d": 3, "b": 3, "h": 4, "t": 5, "s": 6}
"""Continuous time features per frequency: year, month, week, day, business day, hour, minute, second."""


def n_marks_of(freq: str, embed: TimeEmbedding) -> int:
    """Return how many mark columns the published model reads for a frequency letter."""
    if embed == "timeF":
        return TIME_FEATURES[freq]
    return 5 if freq == "t" else 4


class FeedForward(nn.Module):
    """Two pointwise maps with an activation between them; base of the encoder's and decoder's layers."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, activation: Activation) -> None:
        super().__init__()
        self.conv1 = PointwiseConv(d_model, d_ff)
        self.conv2 = PointwiseConv(d_ff, d_model)
        self.dropout = Dropout(dropout)
        self.activation: Callable[[Tensor], Tensor] = {"gelu": F.gelu, "relu": F.relu}[activation]

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.conv2(self.dropout(self.activation(self.conv1(x)))))


class EncoderLayer(FeedForward):
    """Self-attention, then feed-forward, each added to its input and normalised."""

    def __init__(
        self, attention: AttentionLayer, d_model: int, d_ff: int, dropout: float, activation: Activation
    ) -> None:
        super().__init__(d_model, d_ff, dropout, activation)
        self.attention = attention
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, key_sample: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x, x, key_sample)))
        return self.norm2(x + self.feed_forward(x))


class DistilLayer(nn.Module):
    """Halves the sequence: convolution, batch norm, ELU, max pooling. Section 3.2, equation 5."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.downConv = CircularConv(d_model, d_model)
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.downConv(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        # ELU never changes an order, so it may follow the pooling: half the work.
        return F.elu(F.max_pool1d(x.mT, kernel_size=3, stride=2, padding=1).mT)


class Encoder(nn.Module):
    """Layers with distilling between them (none after the last)."""

    def __init__(self, layers: Sequence[EncoderLayer], distils: Sequence[DistilLayer], d_model: int) -> None:
        super().__init__()
        self.attn_layers = nn.ModuleList(layers)
        self.conv_layers = nn.ModuleList(distils)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, samples: Iterator[Tensor | None]) -> Tensor:
        for i, layer in enumerate(self.attn_layers):
            x = layer(x, next(samples))
            if i < len(self.conv_layers):
                x = self.conv_layers[i](x)
        return self.norm(x)


class DecoderLayer(FeedForward):
    """Masked self-attention, full attention over the encoder's output, feed-forward."""

    def __init__(
        self,
        self_attention: AttentionLayer,
        cross_attention: AttentionLayer,
        d_model: int,
        d_ff: int,
        dropout: float,
        activation: Activation,
    ) -> None:
        super().__init__(d_model, d_ff, dropout, activation)
        self.self_attention = self_attention
        self.cross_attention = cross_attention
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, memory: Tensor, key_sample: Tensor | None, n_last: int) -> Tensor:
        x = self.before_cross(x, key_sample, n_last)
        x = self.norm2(x + self.dropout(self.cross_attention(x, memory)))
        return self.norm3(x + self.feed_forward(x))

    def before_cross(self, x: Tensor, key_sample: Tensor | None, n_last: int) -> Tensor:
        """Return the last `n_last` steps as they enter the attention over the encoder's output."""
        return self.norm1(x[:, -n_last:] + self.dropout(self.self_attention(x, x, key_sample, n_last)))


class Decoder(nn.Module):
    """Decoder layers and a last normalisation; returns the last `n_last` steps.

    Behind its self-attention a step meets no other step of the decoder. So the last layer goes on
    with the wanted steps alone: the same forecast for a third of the work at 48 + 24 steps.
    """

    def __init__(self, layers: Sequence[DecoderLayer], d_model: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, memory: Tensor, samples: Iterator[Tensor | None], n_last: int) -> Tensor:
        x = self._before_last(x, memory, samples)
        return self.norm(self.layers[-1](x, memory, next(samples), n_last))

    def attention_weights(
        self, x: Tensor, memory: Tensor, samples: Iterator[Tensor | None], n_last: int
    ) -> Tensor:
        """Return the last layer's attention to the encoder's output, `(B, n_last, keys)`."""
        x = self._before_last(x, memory, samples)
        last: DecoderLayer = self.layers[-1]  # pyright: ignore[reportAssignmentType]
        return last.cross_attention.weights(last.before_cross(x, next(samples), n_last), memory)

    def _before_last(self, x: Tensor, memory: Tensor, samples: Iterator[Tensor | None]) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x, memory, next(samples), x.shape[1])
        return x


class InformerCore(nn.Module):
    """Encoder-decoder over values and time marks; the arguments are named as the published model's.

    `n_marks` defaults to what the published model reads for `freq`.
    """

    def __init__(
        self,
        *,
        enc_in: int,
        dec_in: int,
        c_out: int,
        seq_len: int,
        label_len: int,
        pred_len: int,
        factor: int = 5,
        d_model: int = 512,
        n_heads: int = 8,
        e_layers: int = 2,
        d_layers: int = 1,
        d_ff: int = 2048,
        dropout: float = 0.0,
        attn: AttentionKind = "prob",
        embed: TimeEmbedding = "timeF",
        freq: str = "h",
        activation: Activation = "gelu",
        distil: bool = True,
        mix: bool = True,
        n_marks: int | None = None,
    ) -> None:
        super().__init__()
        self.pred_len = pred_len
        n_marks = n_marks_of(freq, embed) if n_marks is None else n_marks
        dec_len = label_len + pred_len

        def self_attention(length: int, *, masked: bool, mix: bool) -> AttentionLayer:
            attention = (
                ProbSparseAttention(length, factor=factor, masked=masked)
                if attn == "prob"
                else FullAttention(masked=masked, dropout=dropout)
            )
            return AttentionLayer(attention, d_model, n_heads, mix=mix)

        def cross_attention() -> AttentionLayer:
            return AttentionLayer(FullAttention(masked=False, dropout=dropout), d_model, n_heads)

        block = (d_model, d_ff, dropout, activation)
        lengths = _encoder_lengths(seq_len, e_layers, distil)
        self.enc_embedding = DataEmbedding(enc_in, n_marks, seq_len, d_model, embed, dropout)
        self.dec_embedding = DataEmbedding(dec_in, n_marks, dec_len, d_model, embed, dropout)
        self.encoder = Encoder(
            [EncoderLayer(self_attention(length, masked=False, mix=False), *block) for length in lengths],
            [DistilLayer(d_model) for _ in range(e_layers - 1 if distil else 0)],
            d_model,
        )
        self.decoder = Decoder(
            [
                DecoderLayer(self_attention(dec_len, masked=True, mix=mix), cross_attention(), *block)
                for _ in range(d_layers)
            ],
            d_model,
        )
        self.projection = nn.Linear(d_model, c_out)

    def forward(
        self,
        x_enc: Tensor,
        x_mark_enc: Tensor,
        x_dec: Tensor,
        x_mark_dec: Tensor,
        key_samples: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Return the forecast, `(B, pred_len, c_out)`.

        `x_enc` `(B, seq_len, enc_in)`, `x_dec` `(B, label_len + pred_len, dec_in)`, marks with `n_marks`
        columns. `key_samples`: the key indices of every ProbSparse attention in the order of the calls,
        encoder first, each `(queries, samples)`; drawn here when None.
        """
        n_attentions = len(self.encoder.attn_layers) + len(self.decoder.layers)
        if key_samples is not None and len(key_samples) != n_attentions:
            raise ValueError(f"{len(key_samples)} key samples for {n_attentions} self-attentions; one each")
        samples = iter(key_samples or [None] * n_attentions)
        memory, steps = self._encoded(x_enc, x_mark_enc, x_dec, x_mark_dec, samples)
        return self.projection(self.decoder(steps, memory, samples, self.pred_len))

    def attention_weights(
        self, x_enc: Tensor, x_mark_enc: Tensor, x_dec: Tensor, x_mark_dec: Tensor
    ) -> Tensor:
        """Return the last layer's attention to the encoder's output, `(B, pred_len, keys)`, rows sum to 1."""
        samples: Iterator[Tensor | None] = repeat(None)
        memory, steps = self._encoded(x_enc, x_mark_enc, x_dec, x_mark_dec, samples)
        return self.decoder.attention_weights(steps, memory, samples, self.pred_len)

    def _encoded(
        self,
        x_enc: Tensor,
        x_mark_enc: Tensor,
        x_dec: Tensor,
        x_mark_dec: Tensor,
        samples: Iterator[Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Return the encoder's output and the decoder's embedded input."""
        memory = self.encoder(self.enc_embedding(x_enc, x_mark_enc), samples)
        return memory, self.dec_embedding(x_dec, x_mark_dec)


def _encoder_lengths(seq_len: int, e_layers: int, distil: bool) -> list[int]:
    """Return the sequence length that each encoder layer works on; pooling rounds up."""
    lengths = [seq_len]
    for _ in range(e_layers - 1):
        lengths.append((lengths[-1] + 1) // 2 if distil else lengths[-1])
    return lengths


def load_reference_state(core: InformerCore, state: Mapping[str, Tensor]) -> None:
    """Load a checkpoint of the published implementation, also one saved under DataParallel.

    Position tables are ignored (they are a formula). Raises ConfigError naming every parameter that
    is missing, unknown or of another shape; `core` is then unchanged.
    """
    given = {name.removeprefix("module."): value for name, value in state.items()}
    given = {name: value for name, value in given.items() if not name.endswith(".position_embedding.pe")}
    own = core.state_dict()
    problems = [f"{name} is missing" for name in own if name not in given]
    problems += [f"{name} is not a parameter of this model" for name in given if name not in own]
    problems += [
        f"{name} has shape {tuple(given[name].shape)}, this model needs {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        raise ConfigError(
            "this checkpoint does not fit the configured Informer: "
            + "; ".join(problems)
            + ". Configure the model as the checkpoint was trained."
        )
    core.load_state_dict(given)

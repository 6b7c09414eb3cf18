"""The sequence models on tables by name; see `BaseSequentialModel` for what they do.

    GRUModel(input_size=8, hidden_size=64, num_layers=2, seq_length=50, task="classification")

Every field of a family's configuration may be passed with the common ones, for example
`kernel_size` to `TCNModel`. Families without a class here: `BaseSequentialModel(..., family="tsmixer")`.
"""

from __future__ import annotations

from nas_system.toolkit.sequential_model import BaseSequentialModel


class LSTMModel(BaseSequentialModel):
    """Long short-term memory; `bidirectional=True` reads the window in both directions."""

    family = "lstm"


class GRUModel(BaseSequentialModel):
    """Gated recurrent unit; also takes `bidirectional`."""

    family = "gru"


class Seq2SeqAttentionModel(BaseSequentialModel):
    """Encoder and decoder with attention; `attention` is "dot" or "additive"."""

    family = "seq2seq_attention"


class TCNModel(BaseSequentialModel):
    """Temporal convolutional network; depth and `kernel_size` must let it see the whole window."""

    family = "tcn"


class TFTModel(BaseSequentialModel):
    """Temporal fusion Transformer; `n_heads` divides `hidden_size`. Needs the extra `tft`."""

    family = "tft"


class InformerModel(BaseSequentialModel):
    """Informer; its time marks are the places in the window. `n_heads` divides `hidden_size`."""

    family = "informer"


class CNNLSTMModel(BaseSequentialModel):
    """Convolution, pooling, LSTM; takes `channels`, `kernel_size` and `pool`."""

    family = "cnn_lstm"

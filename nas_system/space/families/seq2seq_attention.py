"""Fields of the sequence-to-sequence family."""

from __future__ import annotations

from typing import Annotated, Literal

from nas_system.space.families.family import NetworkConfig
from nas_system.space.fields import Choice, Range


class Seq2SeqAttentionConfig(NetworkConfig):
    """Recurrent encoder and decoder joined by attention (Bahdanau et al. 2015, arXiv:1409.0473)."""

    family: Literal["seq2seq_attention"] = "seq2seq_attention"

    hidden_size: Annotated[int, Range(2, 1024, grid=(8, 16, 32, 64, 128))] = 32
    """Width of encoder and decoder states."""

    num_layers: Annotated[int, Range(1, 4, grid=(1, 2))] = 1
    """Recurrent layers in encoder and decoder."""

    dropout: Annotated[float, Range(0.0, 0.7, grid=(0.0, 0.05, 0.1, 0.2, 0.3))] = 0.1
    """Share of activations dropped while training."""

    attention: Annotated[Literal["additive", "dot"], Choice()] = "dot"
    """How decoder and encoder states are compared: Bahdanau's small network, or Luong's product."""

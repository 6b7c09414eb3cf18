"""The model families: one class of fields each, and `FAMILIES`, the registry."""

from __future__ import annotations

from nas_system.space.families.cnn_lstm import CNNLSTMConfig
from nas_system.space.families.family import FamilyConfig, Normalization, TimeMarks
from nas_system.space.families.graph_transformer import GraphTransformerConfig
from nas_system.space.families.informer import InformerConfig
from nas_system.space.families.itransformer import ITransformerConfig
from nas_system.space.families.linear import LinearConfig
from nas_system.space.families.nhits import NHiTSConfig
from nas_system.space.families.patchtst import PatchTSTConfig
from nas_system.space.families.recurrent import GRUConfig, LSTMConfig
from nas_system.space.families.ridge import RidgeConfig
from nas_system.space.families.seq2seq_attention import Seq2SeqAttentionConfig
from nas_system.space.families.tcn import TCNConfig
from nas_system.space.families.tft import TFTConfig
from nas_system.space.families.tide import TiDEConfig
from nas_system.space.families.tsmixer import TSMixerConfig

__all__ = [
    "FAMILIES",
    "CNNLSTMConfig",
    "FamilyConfig",
    "GRUConfig",
    "GraphTransformerConfig",
    "ITransformerConfig",
    "InformerConfig",
    "LSTMConfig",
    "LinearConfig",
    "NHiTSConfig",
    "Normalization",
    "PatchTSTConfig",
    "RidgeConfig",
    "Seq2SeqAttentionConfig",
    "TCNConfig",
    "TFTConfig",
    "TSMixerConfig",
    "TiDEConfig",
    "TimeMarks",
    "families_of",
]

FAMILIES: dict[str, type[FamilyConfig]] = {
    "informer": InformerConfig,
    "ridge": RidgeConfig,
    "linear": LinearConfig,
    "patchtst": PatchTSTConfig,
    "itransformer": ITransformerConfig,
    "tsmixer": TSMixerConfig,
    "nhits": NHiTSConfig,
    "tide": TiDEConfig,
    "lstm": LSTMConfig,
    "gru": GRUConfig,
    "seq2seq_attention": Seq2SeqAttentionConfig,
    "tcn": TCNConfig,
    "cnn_lstm": CNNLSTMConfig,
    "tft": TFTConfig,
    "graph_transformer": GraphTransformerConfig,
}
"""Every family, by its key; a search tries the defaults of those that serve its task in this order."""


def families_of(kind: str) -> tuple[str, ...]:
    """The families made for a kind of task, in the registry's order."""
    return tuple(name for name, family in FAMILIES.items() if kind in family.tasks)

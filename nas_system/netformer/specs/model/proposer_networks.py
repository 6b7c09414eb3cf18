"""The networks of the spec mode: one writes configurations, one guesses how good a configuration is.

After MetaD2A (Lee, Hyung, Hwang 2021, "Rapid Neural Architecture Search by Learning to Generate Graphs
from Datasets", ICLR, arXiv:2107.00860): a generator conditioned on the data set, and a predictor that
ranks what it wrote. Ours writes tokens of a whole search space, knows the data set by its
meta-features, and is also told which score is wanted (Chen et al. 2021, Decision Transformer,
arXiv:2106.01345).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_system.netformer.specs.model.vocabulary import Vocabulary

PAD = -1
"""Stands behind the last token of a shorter configuration."""


class TokenEmbedding(nn.Module):
    """A token as its parameter, its value, and how far up its scale the value stands."""

    slot_of_token: Tensor
    place: Tensor

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.slots = nn.Embedding(len(vocabulary.paths), width)
        self.values = nn.Embedding(len(vocabulary.tokens), width)
        self.directions = nn.Embedding(len(vocabulary.paths), width)
        for table in (self.slots, self.values, self.directions):
            nn.init.normal_(table.weight, std=0.3)
        self.register_buffer("slot_of_token", torch.tensor(vocabulary.slot_of_token), persistent=False)
        places = torch.tensor([token.place for token in vocabulary.tokens])
        self.register_buffer("place", places, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length) -> (batch, length, width)."""
        slots = self.slot_of_token[tokens]
        place = self.place[tokens][..., None]
        return self.slots(slots) + self.values(tokens) + place * self.directions(slots)


class ScorePredictor(nn.Module):
    """How good a configuration is on a data set, relative to others on the same data set; low is good."""

    def __init__(
        self, vocabulary: Vocabulary, features: int, *, width: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocabulary, width)
        self.features = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """(batch, length), (batch, features) -> (batch,)."""
        padding = tokens == PAD
        embedded = self.embedding(tokens.clamp_min(0))
        joined = torch.cat([self.features(features)[:, None], embedded], dim=1)
        hidden = self.encoder(joined, src_key_padding_mask=F.pad(padding, (1, 0)))
        return self.out(hidden[:, 0])[:, 0]


class ConfigWriter(nn.Module):
    """The next token of a configuration, given those before, the data set and the wanted score."""

    allowed: Tensor

    def __init__(
        self, vocabulary: Vocabulary, features: int, *, width: int, layers: int, dropout: float, longest: int
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocabulary, width)
        self.condition = nn.Sequential(nn.Dropout(dropout), nn.Linear(features + 1, width))
        self.next_slot = nn.Embedding(len(vocabulary.paths), width)
        self.position = nn.Parameter(torch.zeros(longest, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(vocabulary.tokens)))
        allowed = torch.tensor(vocabulary.slot_of_token)[None] == torch.arange(len(vocabulary.paths))[:, None]
        self.register_buffer("allowed", allowed, persistent=False)

    def forward(self, written: Tensor, slots: Tensor, features: Tensor, wanted: Tensor) -> Tensor:
        """Logits (batch, length, tokens), impossible ones at minus infinity.

        `written` (batch, length - 1) are the tokens so far, `slots` (batch, length) the parameters whose
        values are wanted: which one comes next is no guess, the grammar knows it.
        """
        length = slots.shape[1]
        condition = self.condition(torch.cat([features, wanted[:, None]], dim=1))
        before = torch.cat([condition[:, None], self.embedding(written.clamp_min(0))], dim=1)
        hidden = before + condition[:, None] + self.next_slot(slots) + self.position[:length]
        mask = torch.triu(torch.ones(length, length, dtype=torch.bool, device=slots.device), diagonal=1)
        logits = self.out(self.decoder(hidden, mask=mask))
        return logits.masked_fill(~self.allowed[slots], -torch.inf)

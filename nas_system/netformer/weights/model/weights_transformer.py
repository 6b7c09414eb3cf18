"""A variational transformer that reads and writes networks.

Encoder: tokens -> embeddings, which are joined with the meta-features of the data the network was
trained on. Variational part: a few latent tokens, drawn from the normal distribution that the
encoder names. Decoder: latent tokens and the structure so far -> scores for the next type, number and
parent, and then the weight of the edge that was chosen.

Kingma and Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114. Vaswani et al. 2017,
"Attention Is All You Need", arXiv:1706.03762. The decoder sees the structure it has written but not
the weights: they come from the latent tokens, so an error in one of them does not spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas_system.netformer.weights.tokens import TOKEN_TYPES


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the model; those of the vocabulary come from the zoo."""

    max_vertices: int
    max_tokens: int
    meta_features: int = 0
    d_model: int = 64
    heads: int = 4
    layers: int = 2
    latent_tokens: int = 8
    latent_size: int = 8


class Written(NamedTuple):
    """What the model says about every place of a sequence, in one tensor of (batch, length, channels)."""

    kind: Tensor
    number: Tensor
    parent: Tensor
    weight: Tensor
    """Scaled weight of the edge; (batch, length)."""
    divergence: Tensor
    """Kullback-Leibler divergence of the latent tokens from N(0, 1), in nats; (batch,)."""

    @classmethod
    def from_packed(cls, packed: Tensor, max_vertices: int) -> Written:
        """The parts of what `WeightsTransformer.forward` returns."""
        sizes = [len(TOKEN_TYPES), max_vertices, max_vertices, 1, 1]
        kind, number, parent, weight, divergence = packed.split(sizes, dim=-1)
        return cls(kind, number, parent, weight[..., 0], divergence[:, 0, 0])


class TokenEmbedding(nn.Module):
    """Type, number, parent and weight of a token as one vector."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = nn.Embedding(len(TOKEN_TYPES), config.d_model)
        self.number = nn.Embedding(config.max_vertices, config.d_model)
        self.parent = nn.Embedding(config.max_vertices, config.d_model)
        # What a weight means depends on its edge, so every edge has a direction of its own for it.
        self.child_direction = nn.Embedding(config.max_vertices, config.d_model)
        self.parent_direction = nn.Embedding(config.max_vertices, config.d_model)

    def structure(self, structure: Tensor) -> Tensor:
        """Without the weights."""
        kind, number, parent = structure.unbind(-1)
        return self.kind(kind) + self.number(number) + self.parent(parent)

    def forward(self, structure: Tensor, weight: Tensor) -> Tensor:
        direction = self.child_direction(structure[..., 1]) * self.parent_direction(structure[..., 2])
        return self.structure(structure) + weight[..., None] * direction


class WeightsTransformer(nn.Module):
    """(structure, scaled weight, meta-features) -> what `Written` unpacks.

    In training the latent tokens are drawn; in evaluation they are the mean.
    """

    weight_scale: Tensor
    """Standard deviation of the weights of the networks in the training part."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, latent = config.d_model, config.latent_size
        self.embed = TokenEmbedding(config)
        self.place = nn.Parameter(torch.randn(config.max_tokens, width) * 0.02)
        self.readers = nn.Parameter(torch.randn(config.latent_tokens, width) * 0.02)
        encoder_layer = nn.TransformerEncoderLayer(**_layer(config))
        self.encoder = nn.TransformerEncoder(encoder_layer, config.layers, enable_nested_tensor=False)
        self.moments = nn.Sequential(
            nn.LayerNorm(width + config.meta_features),
            nn.Linear(width + config.meta_features, width),
            nn.GELU(),
            nn.Linear(width, 2 * latent),
        )
        self.unfold = nn.Linear(latent, width)
        self.latent_place = nn.Parameter(torch.randn(config.latent_tokens, width) * 0.02)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**_layer(config)), config.layers)
        self.norm = nn.LayerNorm(width)
        self.structure_head = nn.Linear(width, len(TOKEN_TYPES) + 2 * config.max_vertices)
        whole = config.latent_tokens * latent
        self.weight_head = nn.Sequential(
            nn.Linear(2 * width + whole, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.GELU(),
            nn.Linear(width, 1),
        )
        self.register_buffer("weight_scale", torch.ones(()))

    def forward(self, structure: Tensor, weight: Tensor, meta: Tensor) -> Tensor:
        mean, log_variance = self.encode(structure, weight, meta)
        latent = mean
        if self.training:
            latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum((1, 2)) / 2
        state, scores = self.write_structure(latent, structure)
        written = self.write_weights(latent, state, structure)
        spread = divergence[:, None].expand_as(written)
        return torch.cat((scores, written[..., None], spread[..., None]), dim=-1)

    def encode(self, structure: Tensor, weight: Tensor, meta: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent tokens; (batch, latent_tokens, latent_size) each."""
        tokens = self.embed(structure, weight / self.weight_scale) + self.place[: structure.shape[1]]
        readers = self.readers.expand(len(tokens), -1, -1)
        behind = _behind_the_end(structure)
        padding = torch.cat((behind.new_zeros(readers.shape[:2]), behind), dim=1)
        read = self.encoder(torch.cat((readers, tokens), dim=1), src_key_padding_mask=padding)
        read = read[:, : readers.shape[1]]
        joined = torch.cat((read, meta[:, None].expand(-1, readers.shape[1], -1)), dim=-1)
        mean, log_variance = self.moments(joined).chunk(2, dim=-1)
        # Bounded: an unlucky first step must not overflow its exponential.
        return mean, log_variance.clamp(-12, 6)

    def write_structure(self, latent: Tensor, structure: Tensor) -> tuple[Tensor, Tensor]:
        """States and scores of every place, each from the latent tokens and the `structure` before it.

        (batch, length, d_model) and (batch, length, choices).
        """
        memory = self.unfold(latent) + self.latent_place
        before = self.embed.structure(structure[:, :-1])
        before = torch.cat((self.start.expand(len(latent), 1, -1), before), dim=1)
        length = structure.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=latent.device).triu(1)
        state = self.decoder(before + self.place[:length], memory, tgt_mask=future)
        state = self.norm(state)
        return state, self.structure_head(state)

    def choices(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of type, number and parent."""
        kind, number, parent = scores.split(
            [len(TOKEN_TYPES), self.config.max_vertices, self.config.max_vertices], dim=-1
        )
        return kind, number, parent

    def write_weights(self, latent: Tensor, state: Tensor, structure: Tensor) -> Tensor:
        """Scaled weights for the edges of `structure`; (batch, length)."""
        whole = latent.flatten(1)[:, None].expand(-1, structure.shape[1], -1)
        joined = torch.cat((state, self.embed.structure(structure), whole), dim=-1)
        return self.weight_head(joined)[..., 0]


def _layer(config: ModelConfig) -> dict[str, Any]:
    return {
        "d_model": config.d_model,
        "nhead": config.heads,
        "dim_feedforward": 4 * config.d_model,
        "dropout": 0.0,
        "activation": "gelu",
        "batch_first": True,
        "norm_first": True,
    }


def _behind_the_end(structure: Tensor) -> Tensor:
    """Which places are filling; the end token itself is none."""
    is_end = structure[..., 0] == 0
    return is_end.long().cumsum(1) > 1

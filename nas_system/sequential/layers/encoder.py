"""A Transformer encoder over tokens of any kind: patches, columns.

Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, section 3.1. With `norm_first`
the normalisation stands before each block (Xiong et al. 2020, arXiv:2002.04745), else after it, as
in the paper. It is layer norm everywhere: batch norm, which some forecasters use instead, makes a
window's forecast depend on the windows it is trained with, and ties the score to the batch size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.layers.attention import AttentionLayer, FullAttention
from nas_system.sequential.layers.dropout import Dropout


class EncoderLayer(nn.Module):
    """Attention among the tokens, then a feed-forward block on each, both added to their input.

    `n_heads` None leaves attention out: a token that is alone has nobody to look at.
    """

    def __init__(
        self, d_model: int, n_heads: int | None, d_ff: int, dropout: float, *, norm_first: bool
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = None
        if n_heads is not None:
            # No dropout on the weights: random numbers are most of its price, and the outputs get it anyway.
            self.attention = AttentionLayer(FullAttention(masked=False, dropout=0.0), d_model, n_heads)
            self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, wanted: Tensor | None = None) -> Tensor:
        """`(B, N, d_model)` of all tokens, or of those whose indices are `wanted`."""
        tokens = self._attend(tokens, wanted)
        if self.norm_first:
            return tokens + self._feed_forward(self.norm2(tokens))
        return self.norm2(tokens + self._feed_forward(tokens))

    def _attend(self, tokens: Tensor, wanted: Tensor | None) -> Tensor:
        kept = _pick(tokens, wanted)
        if self.attention is None:
            return kept
        if self.norm_first:
            seen = self.norm1(tokens)
            return kept + self.dropout(self.attention(_pick(seen, wanted), seen))
        return self.norm1(kept + self.dropout(self.attention(kept, tokens)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(x)))))


class TokenEncoder(nn.Module):
    """`n_layers` encoder layers over `(B, n_tokens, d_model)`; with `norm_first` a last layer norm."""

    def __init__(
        self,
        n_tokens: int,
        *,
        d_model: int,
        n_heads: int,
        n_layers: int,
        d_ff: int,
        dropout: float,
        norm_first: bool,
    ) -> None:
        super().__init__()
        heads = n_heads if n_tokens > 1 else None
        layers = [EncoderLayer(d_model, heads, d_ff, dropout, norm_first=norm_first) for _ in range(n_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()

    def forward(self, tokens: Tensor, wanted: Tensor | None = None) -> Tensor:
        """`wanted (K,)`: indices of the tokens to give, `(B, K, d_model)`; None gives all.

        Behind its attention a token meets no other. So the last layer goes on with the wanted tokens
        alone: the same result for a part of the work.
        """
        *first, last = self.layers
        for layer in first:
            tokens = layer(tokens)
        return self.norm(last(tokens, wanted))


def _pick(tokens: Tensor, wanted: Tensor | None) -> Tensor:
    return tokens if wanted is None else tokens.index_select(1, wanted)

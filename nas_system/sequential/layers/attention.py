"""Full attention, and the ProbSparse attention of the Informer.

Zhou et al. 2021, "Informer", arXiv:2012.07436, section 3.1 and algorithm 1. All attentions map
queries, keys and values `(batch, heads, length, width)` to `(batch, heads, queries, width)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.layers.dropout import Dropout

MOST_SCORES = 2**24
"""Above this many scores we leave attention on a CPU to torch's kernel, which never holds them all."""

SCORES_AT_ONCE = 2**18
"""Scores held at a time while queries are ranked on a CPU: they stay in its second-level cache."""

NARROW = 16
"""Heads narrower than this multiply in transposed order on a CPU."""


class FullAttention(nn.Module):
    """Softmax over all keys; `masked`: a query sees only keys at or before its own place."""

    def __init__(self, *, masked: bool, dropout: float) -> None:
        super().__init__()
        self.masked = masked
        self.dropout = Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_sample: Tensor | None = None) -> Tensor:
        return attend(q, k, v, self._bias(q), self.dropout)

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the attention of every query to every key, `(B, H, queries, keys)`; rows sum to 1."""
        return attention_weights(q, k, self._bias(q))

    def _bias(self, q: Tensor) -> Tensor | None:
        return causal_bias(q.shape[2], q.device) if self.masked else None


def causal_bias(length: int, device: torch.device | None = None) -> Tensor:
    """Return the causal mask to add to scores: 0 up to the diagonal, minus infinity beyond."""
    return torch.full((length, length), -math.inf, device=device).triu(1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: Dropout | None = None) -> Tensor:
    """softmax(q k' / sqrt(width) + bias) v; `dropout` acts on the weights.

    On a CPU plain products beat torch's fused kernel on short sequences (32 windows, 4 heads, 25 queries
    on 96 keys, forward and backward: 1.1 ms against 1.8 at width 8, 4.3 against 4.7 at width 64), and
    dropout would send that kernel to a slow path.
    """
    width = q.shape[-1]
    if q.device.type != "cpu" or q[..., 0].numel() * k.shape[2] > MOST_SCORES:
        rate = dropout.rate if dropout is not None and dropout.training else 0.0
        mask = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
    weights = attention_weights(q, k, bias)
    if dropout is not None:
        weights = dropout(weights)
    # A result with few columns takes MKL twice as long as its transpose (0.22 ms against 0.11).
    return (v.mT @ weights.mT).mT if width < NARROW else weights @ v


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(width) + bias), `(B, H, queries, keys)`."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return (scores if bias is None else scores + bias).softmax(dim=-1)


class ProbSparseAttention(nn.Module):
    """Only the queries whose attention is far from uniform are computed; the rest get a summary.

    A query's sparsity is its largest score minus its mean score, measured on randomly sampled
    keys. The factor * ceil(ln L) sparsest queries attend to all keys; the others take the mean
    of the values (`masked`: the running sum, as the published implementation does).

    Unlike the paper's complexity argument we compute all scores in one matrix product and look at
    the sampled ones: at these lengths that beats collecting the sampled keys, which would need
    (batch, heads, L, samples, width) numbers.

    Keys are sampled with replacement, once per call, for all windows and heads. In training the
    sample is new at every call, from torch's global generator on the device. In evaluation it is
    fixed, so that a forecast depends on nothing but its own window: not on the batch it came in,
    nor on what was computed before.
    """

    eval_sample: Tensor
    bias: Tensor | None

    def __init__(self, length: int, *, factor: int, masked: bool) -> None:
        super().__init__()
        self.length = length
        self.masked = masked
        # Of queries and of sampled keys. One at least: ln(1) = 0 would keep none.
        self.n_kept = min(max(factor * math.ceil(math.log(length)), 1), length)
        sample = torch.randint(length, (length, self.n_kept), generator=torch.Generator().manual_seed(0))
        self.register_buffer("eval_sample", sample, persistent=False)
        self.register_buffer("bias", causal_bias(length) if masked else None, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_sample: Tensor | None = None) -> Tensor:
        """`key_sample`: `(length, samples)` key indices to use instead of drawing them."""
        batch, heads, length, width = q.shape
        if self.n_kept == length:  # a short sequence: every query is among the sparsest
            return attend(q, k, v, self.bias)
        if key_sample is None:
            key_sample = self._draw() if self.training else self.eval_sample
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        top = self._sparsest(q, k, key_sample)  # (B, H, u)
        first_row = torch.arange(0, batch * heads * length, length, device=q.device).view(batch, heads, 1)
        rows = (top + first_row).flatten()  # of all queries of all heads and windows, one below the other
        q_top = q.view(-1, width).index_select(0, rows).view(batch, heads, -1, width)
        bias = None if self.bias is None else F.embedding(top, self.bias)  # each query's own row of it
        attended = attend(q_top, k, v, bias)
        summary = v.cumsum(dim=2) if self.masked else v.mean(dim=2, keepdim=True).expand(q.shape)
        flat = summary.reshape(-1, width)
        return flat.index_copy(0, rows, attended.reshape(-1, width).to(flat.dtype)).view(q.shape)

    def _draw(self) -> Tensor:
        return torch.randint(self.length, self.eval_sample.shape, device=self.eval_sample.device)

    @torch.no_grad()  # only indices leave: there is nothing to differentiate
    def _sparsest(self, q: Tensor, k: Tensor, key_sample: Tensor) -> Tensor:
        """Return the indices of the sparsest queries, `(B, H, u)`."""
        batch, heads, length, _ = q.shape
        # Samples before queries: a maximum over an inner dimension of 25 takes a CPU 0.37 ms, not 0.02.
        first_place = torch.arange(0, length * length, length, device=q.device)
        places = (key_sample + first_place[:, None]).T.flatten()
        sparsity = []
        for q_part, k_part in self._parts(q, k):
            scores = (q_part @ k_part.mT).view(-1, length * length)  # unscaled: the order is the same
            sampled = scores.index_select(1, places).view(-1, key_sample.shape[1], length)
            sparsity.append(sampled.amax(dim=1) - sampled.sum(dim=1) / length)
        return torch.cat(sparsity).topk(self.n_kept, sorted=False).indices.view(batch, heads, -1)

    @staticmethod
    def _parts(q: Tensor, k: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Return the windows in groups whose scores are held at a time."""
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return [(q, k)]  # a traced graph takes batches of any size, so none may shape it
        _, heads, length, _ = q.shape
        limit = SCORES_AT_ONCE if q.device.type == "cpu" else MOST_SCORES
        at_once = max(limit // (heads * length * length), 1)
        return zip(q.split(at_once), k.split(at_once), strict=True)


class AttentionLayer(nn.Module):
    """Projections around an attention: `(B, Lq, d_model), (B, Lk, d_model) -> (B, Lq, d_model)`.

    `mix` lets the output projection read heads and steps interleaved, (heads, steps) flattened as
    if it were (steps, heads): a quirk of the published decoder that its weights rely on.
    """

    def __init__(self, attention: nn.Module, d_model: int, n_heads: int, *, mix: bool = False) -> None:
        super().__init__()
        inner = d_model // n_heads * n_heads
        self.attention = attention
        self.n_heads = n_heads
        self.mix = mix
        self.query_projection = nn.Linear(d_model, inner)
        self.key_projection = nn.Linear(d_model, inner)
        self.value_projection = nn.Linear(d_model, inner)
        self.out_projection = nn.Linear(inner, d_model)

    def forward(
        self, x: Tensor, memory: Tensor, key_sample: Tensor | None = None, n_last: int | None = None
    ) -> Tensor:
        """`n_last`: give only that many steps, the last ones."""
        q = self._heads(self.query_projection(x))
        k = self._heads(self.key_projection(memory))
        v = self._heads(self.value_projection(memory))
        out = self.attention(q, k, v, key_sample)  # (B, H, L, E)
        if not self.mix:
            out = out.transpose(1, 2)
        out = out.reshape(*x.shape[:2], -1)
        return self.out_projection(out if n_last is None else out[:, -n_last:])

    def weights(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return the attention of all steps of `x` to those of `memory`, `(B, Lq, Lk)`: mean of the heads."""
        assert isinstance(self.attention, FullAttention)
        q, k = self._heads(self.query_projection(x)), self._heads(self.key_projection(memory))
        return self.attention.weights(q, k).mean(dim=1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

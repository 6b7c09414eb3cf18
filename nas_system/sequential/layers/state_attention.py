"""How a decoder's state is compared with every state of the encoder: two scores, one interface.

`keys` prepares the encoder's states once; `forward` scores one query against them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class DotScore(nn.Module):
    """The product of both states: Luong, Pham and Manning 2015, arXiv:1508.04025, section 3.1, "dot".

    Divided by the root of the width, unlike there: else wide states make the softmax a maximum.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(hidden_size)

    def keys(self, states: Tensor) -> Tensor:
        """`(B, L, H) -> (B, H, L)`: rows times contiguous matrices are what a CPU is fast at."""
        return states.mT.contiguous() * self.scale

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """`(B, H), (B, H, L) -> (B, L)`."""
        return torch.bmm(query[:, None], keys)[:, 0]


class AdditiveScore(nn.Module):
    """A small network over both states: Bahdanau, Cho and Bengio 2015, arXiv:1409.0473, appendix A.1.2."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.of_query = nn.Linear(hidden_size, hidden_size)
        self.of_state = nn.Linear(hidden_size, hidden_size, bias=False)
        self.energy = nn.Linear(hidden_size, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        return self.of_state(states)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """`(B, H), (B, L, H) -> (B, L)`."""
        return self.energy(torch.tanh(keys + self.of_query(query)[:, None]))[..., 0]

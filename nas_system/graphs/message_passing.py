"""Message passing along bonds: every node adds up what its neighbours send.

GINE: Hu et al. 2020, "Strategies for Pre-training Graph Neural Networks", arXiv:1905.12265, which adds
the bond to the message of GIN (Xu et al. 2019, "How Powerful are Graph Neural Networks?",
arXiv:1810.00826). The weight 1 + epsilon of the node itself is 1, the variant GIN-0 of the latter.
"""

from __future__ import annotations

from torch import Tensor, nn


class GINE(nn.Module):
    """x_i' = MLP(x_i + sum over bonds j -> i of relu(x_j + e_ji))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, edge_index: Tensor, bonds: Tensor | None) -> Tensor:
        """`x` (N, width), `edge_index` (2, E) from source to target, `bonds` (E, width) or None."""
        source, target = edge_index.unbind()
        messages = x.index_select(0, source)
        if bonds is not None:
            messages = messages.add_(bonds)
        # In place, as the messages are the largest tensors here; `index_add` needs no compiled extension.
        return self.mlp(x.index_add(0, target, messages.relu_()))

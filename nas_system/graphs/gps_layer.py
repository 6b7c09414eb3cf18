"""GPS layer: message passing along bonds and attention among all nodes, side by side.

Rampášek et al. 2022, "Recipe for a General, Powerful, Scalable Graph Transformer", arXiv:2205.12454,
section 3. Besides, attention takes an additive bias for each head and pair of nodes, for which PyTorch
Geometric's `GPSConv` has no place. Without a bias the two compute the same.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.graphs.global_attention import GlobalAttention
from nas_system.graphs.message_passing import GINE
from nas_system.graphs.padding import PaddedLayout


class NodeBatchNorm(nn.BatchNorm1d):
    """Batch norm over the nodes of all graphs. A batch of one node, or none, uses the running statistics.

    One value has no variance: torch refuses it in training, and the last batch of an epoch may be so small.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


NORMS: dict[str, type[nn.Module]] = {"batch": NodeBatchNorm, "layer": nn.LayerNorm}


class GPSLayer(nn.Module):
    """`(N, width) -> (N, width)`: two ways of looking around, summed, then a feed-forward block.

    `norm` "batch" is the paper's; "layer" makes a node independent of the other graphs in its batch.
    """

    def __init__(self, width: int, n_heads: int, dropout: float = 0.0, norm: str = "batch") -> None:
        super().__init__()
        self.message_passing = GINE(width)
        self.attention = GlobalAttention(width, n_heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.Dropout(dropout),
        )
        self.local_norm, self.global_norm, self.norm = (NORMS[norm](width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, edge_index: Tensor, bonds: Tensor | None, layout: PaddedLayout, bias: Tensor
    ) -> Tensor:
        """`bonds` (E, width) and `bias` (see `attention_bias`) are the same for all layers of a model."""
        near = self.local_norm(x + self.dropout(self.message_passing(x, edge_index, bonds)))
        far = self.global_norm(x + self.dropout(self.attention(x, layout, bias)))
        both = near + far
        return self.norm(both + self.feed_forward(both))

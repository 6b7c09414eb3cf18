"""Classes as an objective of the engine: cross-entropy for the gradient and to decide, accuracy to read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Classification:
    """Outputs are logits `(B, 1, classes)`, targets the classes' numbers `(B, 1, 1)`."""

    names = ("cross_entropy", "accuracy")
    pools_batches = True

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), target.flatten().long())

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        output = output.float()
        hits = output.argmax(-1).flatten() == target.flatten()
        return torch.stack((self.loss(output, target, weight), hits.float().mean()))

    def postproc(self, output: Tensor) -> Tensor:
        """Logits; `Encoding` makes labels and probabilities of them."""
        return output

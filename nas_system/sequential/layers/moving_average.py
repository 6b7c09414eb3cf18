"""The moving average that splits a window into trend and rest (Wu et al. 2021, arXiv:2106.13008)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def moving_average(x: Tensor, kernel: int) -> Tensor:
    """Average `kernel` (odd) steps, centred, of `(B, L, C)`; the ends are continued by their own values."""
    padded = F.pad(x.mT, (kernel // 2, kernel // 2), mode="replicate")
    return F.avg_pool1d(padded, kernel, stride=1).mT

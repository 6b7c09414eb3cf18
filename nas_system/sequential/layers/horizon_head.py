"""The last layer of one-shot forecasters: one vector becomes the whole horizon."""

from __future__ import annotations

from torch import Tensor, nn

from nas_system.space.shape import SeriesShape


class HorizonHead(nn.Linear):
    """A linear map `(batch, width) -> (batch, pred_len, targets)`."""

    def __init__(self, width: int, shape: SeriesShape) -> None:
        super().__init__(width, shape.pred_len * shape.n_targets)
        self.n_targets = shape.n_targets

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).unflatten(-1, (-1, self.n_targets))

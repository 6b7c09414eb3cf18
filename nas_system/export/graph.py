"""One module for all members of a forecast: data units in, data units out, as it is written to a file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nas_system.data import Scaler
from nas_system.export.signature import Signature

if TYPE_CHECKING:
    from nas_system.tasks.saved_forecaster import SavedForecaster


class Member(nn.Module):
    """A trained model with its scaling; finds its columns and its look-back in what all members are given.

    Scales in 64 bits, as predicting does: a series far from zero has no digits to lose.
    """

    columns: Tensor
    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, forecaster: SavedForecaster, signature: Signature) -> None:
        super().__init__()
        metadata = forecaster.metadata
        self.family = metadata.config.model.family
        # A copy: the caller's model stays on its device.
        self.model = copy.deepcopy(forecaster.model).cpu().float()
        self.seq_len = metadata.shape.seq_len
        kind = metadata.config.model.time_marks
        self.marks = None if kind == "none" else signature.marks_of(kind)
        self.register_buffer("columns", torch.tensor([signature.columns.index(n) for n in metadata.inputs]))
        scaler = Scaler.from_json(metadata.scaler)
        inputs = scaler.of_columns([metadata.columns.index(name) for name in metadata.inputs])
        targets = forecaster.target_scaler
        for name, values in (
            ("mean", inputs.mean),
            ("std", inputs.std),
            ("target_mean", targets.mean),
            ("target_std", targets.std),
        ):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float64)))

    def forward(self, rows: Tensor, past: Tensor | None, future: Tensor | None) -> Tensor:
        """`(batch, rows, columns)` -> `(batch, pred_len, targets)`, both in data units and 64 bits."""
        x = rows[:, -self.seq_len :].index_select(-1, self.columns)
        x = ((x - self.mean) / self.std).float()
        x_mark = y_mark = None
        if self.marks is not None and past is not None and future is not None:
            x_mark, y_mark = past[:, -self.seq_len :, self.marks], future[..., self.marks]
        return self.model(x, x_mark, y_mark).double() * self.target_std + self.target_mean


class WeightedMean(nn.Module):
    """The weighted mean of the members' forecasts. Weights are divided by their sum."""

    def __init__(self, members: Sequence[Member], weights: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = [weight / sum(weights) for weight in weights]
        # As a whole: torch's exporter puts every part back into the mode of the whole.
        self.eval()

    def forward(self, rows: Tensor, past: Tensor | None = None, future: Tensor | None = None) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for weight, member in zip(self.weights, self.members, strict=True):
            total = total + weight * member(rows, past, future)
        return total

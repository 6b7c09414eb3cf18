"""What a step of a series becomes before the first layer: values, position and calendar, summed.

Zhou et al. 2021, "Informer", arXiv:2012.07436, appendix B. Module and parameter names are
those of the published implementation, so that its checkpoints load.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nas_system.sequential.layers.convolution import CircularConv
from nas_system.sequential.layers.dropout import Dropout

TimeEmbedding = Literal["timeF", "fixed", "learned"]

CALENDAR_SIZES = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}
"""Rows per table, in the order of the mark columns. Months and days count from 1; minutes are quarters."""


def sinusoids(length: int, width: int) -> Tensor:
    """Return sines in the even columns, cosines in the odd ones, `(length, width)`.

    Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, section 3.5.
    """
    position = torch.arange(length, dtype=torch.float32)[:, None]
    wave = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    table = torch.empty(length, width)
    table[:, 0::2] = torch.sin(position * wave)
    table[:, 1::2] = torch.cos(position * wave)
    return table


class TokenEmbedding(nn.Module):
    """Each step's values and those of its two neighbours, mapped to `d_model`."""

    def __init__(self, n_inputs: int, d_model: int) -> None:
        super().__init__()
        self.tokenConv = CircularConv(n_inputs, d_model)
        nn.init.kaiming_normal_(self.tokenConv.weight, nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.tokenConv(x)


class PositionEmbedding(nn.Module):
    """Fixed sinusoids of the step's place in the window, `(1, length, d_model)`."""

    pe: Tensor

    def __init__(self, length: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("pe", sinusoids(length, d_model)[None], persistent=False)
        self.register_load_state_dict_pre_hook(_drop_position_table)

    def forward(self, x: Tensor) -> Tensor:
        return self.pe[:, : x.shape[1]]


def _drop_position_table(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    # Published checkpoints carry 5,000 rows of it. It is a formula, not knowledge.
    state.pop(prefix + "pe", None)


class LinearTimeEmbedding(nn.Module):
    """Continuous time features (`timeF`), mapped to `d_model`."""

    def __init__(self, n_marks: int, d_model: int) -> None:
        super().__init__()
        self.embed = nn.Linear(n_marks, d_model)

    def forward(self, marks: Tensor) -> Tensor:
        return self.embed(marks)


class FixedTable(nn.Module):
    """Rows of sinusoids, looked up by number. Never trained."""

    def __init__(self, rows: int, d_model: int) -> None:
        super().__init__()
        self.emb = nn.Module()
        self.emb.register_buffer("weight", sinusoids(rows, d_model))

    def forward(self, index: Tensor) -> Tensor:
        return nn.functional.embedding(index, self.emb.get_buffer("weight"))


class CalendarEmbedding(nn.Module):
    """One table row per calendar number, summed: month, day, weekday, hour and, with five marks, minute."""

    def __init__(self, n_marks: int, d_model: int, *, learned: bool) -> None:
        super().__init__()
        self.names = tuple(CALENDAR_SIZES)[:n_marks]
        for name in self.names:
            rows = CALENDAR_SIZES[name]
            table = nn.Embedding(rows, d_model) if learned else FixedTable(rows, d_model)
            self.add_module(f"{name}_embed", table)

    def forward(self, marks: Tensor) -> Tensor:
        numbers = marks.long()
        rows = [self.get_submodule(f"{name}_embed")(numbers[..., i]) for i, name in enumerate(self.names)]
        return torch.stack(rows).sum(dim=0)


class DataEmbedding(nn.Module):
    """Values + position + time, then dropout: `(B, L, inputs), (B, L, marks) -> (B, L, d_model)`."""

    def __init__(
        self, n_inputs: int, n_marks: int, length: int, d_model: int, embed: TimeEmbedding, dropout: float
    ) -> None:
        super().__init__()
        self.value_embedding = TokenEmbedding(n_inputs, d_model)
        self.position_embedding = PositionEmbedding(length, d_model)
        if embed == "timeF":
            self.temporal_embedding = LinearTimeEmbedding(n_marks, d_model)
        else:
            self.temporal_embedding = CalendarEmbedding(n_marks, d_model, learned=embed == "learned")
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, marks: Tensor) -> Tensor:
        embedded = self.value_embedding(x) + self.position_embedding(x) + self.temporal_embedding(marks)
        return self.dropout(embedded)

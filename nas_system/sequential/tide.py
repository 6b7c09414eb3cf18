"""TiDE: a dense encoder and decoder, then every step of the forecast with its own time features.

Das et al. 2023, "Long-term Forecasting with TiDE: Time-series Dense Encoder", arXiv:2304.08424,
section 4. A small block projects each step's time features, of look-back and horizon alike; residual
blocks encode all of this with the targets' past, decode a vector per step of the horizon, and the
temporal decoder joins each vector with the projected features of its step.

Unlike the paper, which knows all covariates of the future, other input columns have a past alone: a
block of their own projects them for each step. Several targets may share a window instead of being
forecast one by one. The global residual connection is the frame's linear path.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.forecaster import Forecaster
from nas_system.sequential.layers.dropout import Dropout
from nas_system.space.families import TiDEConfig
from nas_system.space.shape import SeriesShape

PROJECTED = 4
"""Width of a step's projected features (Das et al., appendix B.3)."""


class ResidualBlock(nn.Module):
    """One hidden layer next to a linear shortcut: `(..., n_in) -> (..., n_out)`."""

    def __init__(self, n_in: int, hidden: int, n_out: int, dropout: float, *, norm: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_in, hidden)
        self.output = nn.Linear(hidden, n_out)
        self.shortcut = nn.Linear(n_in, n_out)
        self.dropout = Dropout(dropout)
        # A single number would be normalised away.
        self.norm = nn.LayerNorm(n_out) if norm and n_out > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(self.output(F.relu(self.hidden(x))))
        return self.norm(out + self.shortcut(x))


class TiDEForecaster(Forecaster):
    """The dense encoder family."""

    reads_known = True

    def __init__(self, config: TiDEConfig, shape: SeriesShape) -> None:
        super().__init__(config, shape)
        inner = self.inner

        def block(n_in: int, hidden: int, n_out: int) -> ResidualBlock:
            return ResidualBlock(n_in, hidden, n_out, config.dropout, norm=config.layer_norm)

        self.targets = list(inner.target_columns)
        self.others = [column for column in range(inner.n_inputs) if column not in inner.target_columns]
        n_marks = inner.n_marks if config.time_features else inner.n_known
        self.project_marks = block(n_marks, config.step_hidden, PROJECTED) if n_marks else None
        n_others = len(self.others)
        self.project_others = block(n_others, config.step_hidden, PROJECTED) if n_others else None
        clock = PROJECTED if n_marks else 0
        past = len(self.targets) + (PROJECTED if n_others else 0) + clock
        width = inner.seq_len * past + inner.pred_len * clock
        size = config.hidden_size
        encoder = [block(n_in, size, size) for n_in in [width, *[size] * (config.e_layers - 1)]]
        decoder = [block(size, size, size) for _ in range(config.d_layers - 1)]
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder, block(size, size, inner.pred_len * config.step_width))
        self.pred_len = inner.pred_len
        # No norm behind it: what it gives is the forecast.
        self.temporal_decoder = ResidualBlock(
            config.step_width + clock, config.step_hidden, inner.n_targets, config.dropout, norm=False
        )

    def forecast(self, x: Tensor, x_mark: Tensor | None, y_mark: Tensor | None) -> Tensor:
        past, future = [x[..., self.targets]], []
        if self.project_others is not None:
            past.append(self.project_others(x[..., self.others]))
        if self.project_marks is not None and x_mark is not None and y_mark is not None:
            past.append(self.project_marks(x_mark))
            future.append(self.project_marks(y_mark))
        window = torch.cat([part.flatten(1) for part in (*past, *future)], dim=-1)
        steps = self.decoder(self.encoder(window)).unflatten(-1, (self.pred_len, -1))
        return self.temporal_decoder(torch.cat([steps, *future], dim=-1))

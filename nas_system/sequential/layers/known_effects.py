"""What columns with a known future do to the targets: promotions, holidays, forecasts of the weather.

Dynamic regression: the targets are what those columns add to them, plus a series that the network forecasts
(Hyndman and Athanasopoulos 2021, "Forecasting: Principles and Practice", 3rd edition, chapter 10).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_system.sequential.layers.ridge_regression import RidgeRegression

HIDDEN = 16
"""Width of the part that is not linear."""
MOST_LAGS = 48
"""Steps of the look-back that the regression reads."""
MOST_INPUTS = 600
"""Inputs of the regression per target; many columns shorten what it reads of the look-back."""
MOST_MOMENTS = 2**22
"""Numbers in the moments of all targets (32 MiB); many targets shorten it, too."""
FREEDOM = 10.0
"""How much larger the inputs whose weights are the effects are made, so that the penalty, which is for the
many lags, hardly shrinks them."""

TINY = 1e-24
"""Squared weight that counts as nothing."""


class KnownEffects(nn.Module):
    """What the known columns of a step add to the targets of that step: `(B, T, known) -> (B, T, targets)`.

    The same at every step. It starts as nothing; of the linear part `set_to` takes the closed form.
    """

    def __init__(self, n_known: int, n_targets: int) -> None:
        super().__init__()
        # Without biases: a constant at all steps is the network's to forecast.
        self.linear = nn.Linear(n_known, n_targets, bias=False)
        self.hidden = nn.Linear(n_known, HIDDEN)
        self.curve = nn.Linear(HIDDEN, n_targets, bias=False)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.curve.weight)

    @torch.no_grad()
    def set_to(self, effects: Tensor) -> None:
        """Take linear effects `(targets, known)`."""
        self.linear.weight.copy_(effects)

    def forward(self, known: Tensor) -> Tensor:
        return self.linear(known) + self.curve(F.gelu(self.hidden(known)))


class EffectRegression:
    """Estimates linear effects from training windows by one ridge regression per target.

    The first step of the horizon is regressed on the last steps of the target and of the known columns, on
    the known columns of its own step, and on a constant: an autoregressive distributed-lag model. What the
    past says of both is thereby accounted for, so a promotion that always falls on the busy day is not
    credited with the day.
    """

    def __init__(self, windows: int, seq_len: int, n_targets: int, n_known: int) -> None:
        """`windows` windows will be added."""
        most = min(MOST_INPUTS, math.isqrt(MOST_MOMENTS // n_targets))
        self.lags = max(min(seq_len, MOST_LAGS, (most - n_known - 1) // (1 + n_known)), 1)
        self.n_known = n_known
        self._regression = RidgeRegression(windows, individual=True)

    def add(self, past: Tensor, known_past: Tensor, known_next: Tensor, target: Tensor) -> None:
        """Add windows in their order, in the scale of the data.

        `past (B, seq_len, targets)`, `known_past (B, seq_len, known)`, `known_next (B, known)`, and the first
        step to forecast, `target (B, targets)`.
        """
        own = past[:, -self.lags :]
        constant = torch.ones_like(own[:, :1])
        shared = torch.cat([known_past[:, -self.lags :].flatten(1), FREEDOM * known_next], dim=1)
        shared = shared[..., None].expand(-1, -1, own.shape[2])
        self._regression.add(torch.cat([own, shared, constant], dim=1), target[:, None])

    def solution(self) -> Tensor:
        """Return the effects `(targets, known)`, 0 of a column that says no more than chance does."""
        own = slice(-1 - self.n_known, -1)
        weights, errors = (part[:, own] for part in self._regression.solution_with_errors())
        # Breiman 1995, "Better Subset Regression Using the Nonnegative Garrote": what is large next to its
        # error stays, of noise a third of the squared weight does.
        kept = 1 - errors.square() / weights.square().clamp(min=TINY)
        return FREEDOM * weights * kept.clamp(min=0)

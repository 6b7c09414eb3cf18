"""What a training minimises, what it is judged by, and how raw outputs become answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_system.errors import ConfigError


class Objective(Protocol):
    """The engine's view of a task's numbers.

    An objective with `pools_batches = True` promises that the report of several batches joined into
    one is the sample-weighted mean of their reports; small batches are then judged together.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the reported figures; the first one decides (lower is better)."""
        ...

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """The scalar that the gradient follows."""
        ...

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """The figures of one batch, shape (len(names),), each a mean over its samples."""
        ...

    def postproc(self, output: Tensor) -> Tensor:
        """Raw network output to the answer a person reads."""
        ...


LOSSES = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    # SmoothL1 with beta 1 is the Huber loss with delta 1.
    "huber": F.smooth_l1_loss,
}


class Forecasting:
    """Scaled forecasts: any of `LOSSES` for the gradient, mean squared and absolute error to decide."""

    names = ("mse", "mae")
    pools_batches = True

    def __init__(self, loss: str = "mse") -> None:
        if loss not in LOSSES:
            raise ConfigError(f"training.loss={loss!r} is not known; choose from: {', '.join(LOSSES)}")
        self._loss = LOSSES[loss]

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return self._loss(output, target)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        output = output.float()
        return torch.stack((F.mse_loss(output, target), F.l1_loss(output, target)))

    def postproc(self, output: Tensor) -> Tensor:
        return output


class GraphRegression:
    """A number for every graph, (B, 1): any of `LOSSES` for the gradient, mean absolute error to decide."""

    names = ("mae", "mse")
    pools_batches = True

    def __init__(self, loss: str = "mae") -> None:
        self._forecasting = Forecasting(loss)

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return self._forecasting.loss(output, target, weight)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        if output.shape != target.shape:
            # Beside (B,) an output of (B, 1) would make B times B differences, and only warn.
            raise ValueError(f"an output {tuple(output.shape)} cannot be judged by {tuple(target.shape)}")
        return self._forecasting.report(output, target, weight).flip(0)

    def postproc(self, output: Tensor) -> Tensor:
        return output


class LossObjective:
    """Any loss function `loss_fn(output, target)`: it is what the gradient follows and what is reported."""

    names = ("loss",)

    def __init__(self, loss_fn: Callable[..., Tensor]) -> None:
        self._loss_fn = loss_fn

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        # A loss that knows no weights must not see any: it would raise, and rightly so, if there are some.
        return self._loss_fn(output, target) if weight is None else self._loss_fn(output, target, weight)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return self.loss(output, target, weight).detach().reshape(1)

    def postproc(self, output: Tensor) -> Tensor:
        return output

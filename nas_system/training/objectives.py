"""Objectives: the loss that a training minimises, and the metrics that it is evaluated by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_system.errors import ConfigError
from nas_system.space.score import Direction


class Objective(Protocol):
    """Loss and metrics of a task.

    Five attributes are optional. `direction` says whether the deciding metric is minimised (the
    default) or maximised; the loss is minimised in either case. `pools_batches = True` promises that the
    report of several batches joined into one is the sample-weighted mean of their reports; small batches
    are then evaluated together. `output_shape(target)` is the shape of outputs that fit a target, by
    default the target's own. `per_sample(output, target)` are the values (n,) of the deciding metric for
    single samples, whose mean is the reported one. `mean(outputs, weights)` is the output of several models
    together, by default the weighted mean of theirs.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the reported metrics; the first one decides."""
        ...

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the scalar that the gradient follows."""
        ...

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the metrics of one batch, shape (len(names),), each a mean over its samples."""
        ...

    def postproc(self, output: Tensor) -> Tensor:
        """Turn raw network output into the answer a person reads."""
        ...


def direction_of(objective: Objective) -> Direction:
    """Return the direction of the objective's deciding metric."""
    return getattr(objective, "direction", "minimize")


def mean_output(objective: Objective, outputs: Tensor, weights: Tensor) -> Tensor:
    """Return the output that answers as the weighted mean of several models does.

    `outputs` are (models, ...), `weights` (models,), which add up to 1.
    """
    own = getattr(objective, "mean", None)
    return torch.tensordot(weights, outputs, dims=1) if own is None else own(outputs, weights)


def output_shape(objective: Objective, target: Tensor) -> tuple[int, ...]:
    """Return the shape that a model's output needs for this target."""
    shape_of = getattr(objective, "output_shape", None)
    return tuple(target.shape) if shape_of is None else shape_of(target)


SMALLEST = 1e-7
"""A mean probability is kept so far from 0 and 1, where single precision has no logit."""

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

    def per_sample(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.float() - target).square().reshape(len(target), -1).mean(1)

    def postproc(self, output: Tensor) -> Tensor:
        return output


class GraphRegression(Forecasting):
    """A number for every graph, (B, 1): any of `LOSSES` for the gradient, mean absolute error to decide."""

    names = ("mae", "mse")

    def __init__(self, loss: str = "mae") -> None:
        super().__init__(loss)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        if output.shape != target.shape:
            # With targets (B,) an output of (B, 1) would make B times B differences, and only warn.
            raise ValueError(
                f"an output {tuple(output.shape)} cannot be compared with targets {tuple(target.shape)}"
            )
        return super().report(output, target, weight).flip(0)

    def per_sample(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.float() - target).abs().reshape(len(target), -1).mean(1)


class Classification:
    """One of `n_classes` per sample: cross-entropy for the gradient, accuracy to decide.

    Outputs are logits (B, n_classes), targets class numbers (B,) or (B, 1). Axes of length one, such as
    the single step of (B, 1, n_classes), are allowed in both.
    """

    pools_batches = True

    def __init__(self, n_classes: int, decided_by: Literal["accuracy", "cross_entropy"] = "accuracy") -> None:
        if n_classes < 2:
            raise ValueError(f"n_classes={n_classes}: a classification has at least two classes")
        self.n_classes = n_classes
        by_accuracy = decided_by == "accuracy"
        self.names = ("accuracy", "cross_entropy") if by_accuracy else ("cross_entropy", "accuracy")
        self.direction: Direction = "maximize" if by_accuracy else "minimize"

    def output_shape(self, target: Tensor) -> tuple[int, ...]:
        return (len(target), self.n_classes)

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return F.cross_entropy(self._logits(output), target.flatten().long())

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        output = output.float()
        hits = self._hits(output, target).mean()
        metrics = {"accuracy": hits, "cross_entropy": self.loss(output, target, weight)}
        return torch.stack([metrics[name] for name in self.names])

    def per_sample(self, output: Tensor, target: Tensor) -> Tensor:
        output = output.float()
        if self.names[0] == "accuracy":
            return self._hits(output, target)
        return F.cross_entropy(self._logits(output), target.flatten().long(), reduction="none")

    def _hits(self, output: Tensor, target: Tensor) -> Tensor:
        return (self._logits(output).argmax(-1) == target.flatten()).float()

    def postproc(self, output: Tensor) -> Tensor:
        """Return the logits: some callers want the classes, others their probabilities."""
        return output

    def mean(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Return the logits of the mean probabilities."""
        return torch.tensordot(weights, outputs.softmax(-1), dims=1).clamp_min(SMALLEST).log()

    def _logits(self, output: Tensor) -> Tensor:
        if output.shape[-1] != self.n_classes:
            raise ValueError(
                f"{self.n_classes} classes need logits (B, {self.n_classes}), not {tuple(output.shape)}"
            )
        return output.reshape(-1, self.n_classes)


class EdgePrediction:
    """Whether pairs of nodes are linked: binary cross-entropy for the gradient, accuracy to decide.

    Outputs are one logit per pair, (L,) or (L, 1), labels 0 or 1, (L,).
    """

    names = ("accuracy", "bce")
    direction: Direction = "maximize"
    pools_batches = True

    def output_shape(self, target: Tensor) -> tuple[int, ...]:
        return (len(target), 1)

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return F.binary_cross_entropy_with_logits(aligned(output, target), target.to(output.dtype))

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        output = output.float()
        return torch.stack((self.per_sample(output, target).mean(), self.loss(output, target, weight)))

    def per_sample(self, output: Tensor, target: Tensor) -> Tensor:
        return ((aligned(output, target) > 0) == (target > 0.5)).float().flatten()

    def postproc(self, output: Tensor) -> Tensor:
        """Return the logits: their order ranks the pairs, their sigmoid is the probability of a link."""
        return output

    def mean(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Return the logits of the mean probabilities."""
        return torch.tensordot(weights, outputs.sigmoid(), dims=1).logit(eps=SMALLEST)


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


def aligned(output: Tensor, target: Tensor) -> Tensor:
    """Return `output` in the shape of `target` where they differ by axes of length one.

    Raises ValueError for any other difference: (N, 1) against (N,) would broadcast to (N, N) in silence.
    """
    if output.shape == target.shape:
        return output
    if [size for size in output.shape if size != 1] == [size for size in target.shape if size != 1]:
        return output.reshape(target.shape)
    raise ValueError(f"outputs of shape {tuple(output.shape)} do not fit targets of {tuple(target.shape)}")

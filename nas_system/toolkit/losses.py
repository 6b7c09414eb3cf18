"""Training losses by task. The loss is named by the caller, never guessed from the shape of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_system.training.objectives import aligned

LOSS_TYPES = {
    "regression": ("mse", "mae", "huber"),
    "classification": ("cross_entropy", "bce_logits"),
    "edge_prediction": ("bce_logits",),
}
"""Of every task; the first one is the default."""


@dataclass(frozen=True)
class TaskLoss:
    """A mean over elements (regression, bce_logits) or samples (cross_entropy).

    `weight`, one number or vector per sample, multiplies the terms; the mean is not divided by it.
    """

    loss_type: str
    num_classes: int | None = None
    delta: float = 1.0
    label_smoothing: float = 0.0
    pos_weight: float | None = None

    def __call__(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Outputs are values (regression), logits (N, num_classes) or one logit per label (bce_logits)."""
        terms = self._terms(output, target)
        if weight is not None:
            terms = terms * _broadcastable(weight, terms)
        return terms.mean()

    def _terms(self, output: Tensor, target: Tensor) -> Tensor:
        if self.loss_type == "cross_entropy":
            labels = target.squeeze(-1) if target.ndim == output.ndim else target
            self._check_classes(output)
            return F.cross_entropy(
                output, labels.long(), reduction="none", label_smoothing=self.label_smoothing
            )
        output = aligned(output, target)
        target = target.to(output.dtype)
        if self.loss_type == "bce_logits":
            pos_weight = None if self.pos_weight is None else output.new_tensor(self.pos_weight)
            return F.binary_cross_entropy_with_logits(output, target, reduction="none", pos_weight=pos_weight)
        return REGRESSION[self.loss_type](output, target, self.delta)

    def _check_classes(self, output: Tensor) -> None:
        if self.num_classes is not None and (output.ndim < 2 or output.shape[1] != self.num_classes):
            raise ValueError(
                f"cross_entropy over {self.num_classes} classes needs logits (N, {self.num_classes}), but "
                f"the model has {tuple(output.shape)}; for one logit per sample use loss_type='bce_logits'"
            )


REGRESSION: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "mse": lambda output, target, delta: F.mse_loss(output, target, reduction="none"),
    "mae": lambda output, target, delta: F.l1_loss(output, target, reduction="none"),
    "huber": lambda output, target, delta: F.huber_loss(output, target, reduction="none", delta=delta),
}


def get_loss_fn(
    task_type: str = "regression",
    loss_type: str | None = None,
    num_classes: int | None = None,
    *,
    delta: float = 1.0,
    label_smoothing: float = 0.0,
    pos_weight: float | None = None,
) -> TaskLoss:
    """Return the loss of a task: regression mse, mae, huber; classification cross_entropy, bce_logits.

    edge_prediction is bce_logits. That wants one logit per sample (num_classes 2, or not given) or per
    label (multi-label, num_classes of them). `delta` is for huber, `label_smoothing` for cross_entropy,
    `pos_weight` for bce_logits. Raises ValueError for an unknown name.
    """
    if task_type not in LOSS_TYPES:
        raise ValueError(f"task_type={task_type!r} is not known; choose from: {', '.join(LOSS_TYPES)}")
    loss_type = loss_type or LOSS_TYPES[task_type][0]
    if loss_type not in LOSS_TYPES[task_type]:
        choices = ", ".join(LOSS_TYPES[task_type])
        raise ValueError(f"loss_type={loss_type!r} is no loss for {task_type}; choose from: {choices}")
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: a classification has at least two classes")
    return TaskLoss(loss_type, num_classes, delta, label_smoothing, pos_weight)


def _broadcastable(weight: Tensor, terms: Tensor) -> Tensor:
    """Reshape weights (N,) or (N, C) to multiply the terms of their samples."""
    missing = terms.ndim - weight.ndim
    if missing < 0:
        return torch.reshape(weight, terms.shape)
    return weight.reshape(*weight.shape, *([1] * missing))

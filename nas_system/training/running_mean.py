"""Running means of a pass: the metrics of every batch, and whether the loss stayed finite."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nas_system.errors import Diverged
from nas_system.training.objectives import Objective


class NoBatches(ValueError):
    """A pass over a loader that returned nothing."""


class Meter(Protocol):
    """Metrics of a whole pass that are no means over batches, such as the area under a curve."""

    def add(self, output: Tensor, target: Tensor) -> None:
        """Add one batch: without gradient, in fp32, on the device."""
        ...

    def compute(self) -> dict[str, float]:
        """Return the metrics of all that was added."""
        ...


# A metric costs a handful of tiny kernels: on a small network as much as a quarter of the whole
# step. Small batches are therefore kept and evaluated many at a time. Large ones are evaluated at once.
BATCHES_HELD = 50
ELEMENTS_HELD = 2**18


class RunningMean:
    """Sample-weighted means of an objective's metrics, and those of a meter if there is one.

    With `keeps_samples` also the deciding metric of every sample, if the objective tells it.

    Nothing is read back before the end or a check.
    """

    def __init__(
        self,
        objective: Objective,
        device: torch.device,
        meter: Meter | None = None,
        *,
        keeps_samples: bool = False,
    ) -> None:
        self.objective = objective
        self._per_sample = getattr(objective, "per_sample", None) if keeps_samples else None
        self._errors: list[Tensor] = []
        self.meter = meter
        self.samples = 0
        self._batches_held = BATCHES_HELD if getattr(objective, "pools_batches", False) else 1
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._weights: list[Tensor | None] = []
        self._losses: list[Tensor] = []
        self._held = 0
        self._held_samples = 0
        self._totals = torch.zeros(len(objective.names), device=device)
        self._loss = torch.zeros((), device=device)

    def add(self, output: Tensor, target: Tensor, weight: Tensor | None, n: int) -> None:
        """Add one batch of n samples; nothing here may require a gradient."""
        if self.meter is not None:
            self.meter.add(output, target)
        self._outputs.append(output)
        self._targets.append(target)
        self._weights.append(weight)
        self.samples += n
        self._held_samples += n
        self._held += output.numel()
        if len(self._outputs) >= self._batches_held or self._held > ELEMENTS_HELD:
            self._evaluate()

    def add_loss(self, loss: Tensor) -> None:
        """Add one training loss, detached."""
        self._losses.append(loss)
        if len(self._losses) >= BATCHES_HELD:
            self._sum_losses()

    def check_finite(self, step: int) -> None:
        """Raise Diverged if a loss so far was NaN or infinite. Waits for the device."""
        self._sum_losses()
        if not torch.isfinite(self._loss):
            raise Diverged(
                f"the training loss is no longer finite after step {step} of the epoch; lower training.lr "
                "or set training.grad_clip",
                {"step": step},
            )

    def metrics(self) -> dict[str, float]:
        """Return the metrics over all samples. Raises NoBatches if there are none."""
        self._evaluate()
        if not self.samples:
            raise NoBatches("the loader returned no batch")
        means = dict(zip(self.objective.names, (self._totals / self.samples).tolist(), strict=True))
        return means if self.meter is None else means | self.meter.compute()

    def errors(self) -> Tensor | None:
        """Return the deciding metric of every sample, (samples,), in order; None if it was not kept."""
        self._evaluate()
        return torch.cat(self._errors) if self._errors else None

    @torch.no_grad()
    def _evaluate(self) -> None:
        if not self._outputs:
            return
        output, target = _joined(self._outputs), _joined(self._targets)
        metrics = self.objective.report(output, target, self._weight())
        if self._per_sample is not None:
            self._errors.append(self._per_sample(output, target))
        self._totals.add_(metrics, alpha=self._held_samples)
        for held in (self._outputs, self._targets, self._weights):
            held.clear()
        self._held = self._held_samples = 0

    def _weight(self) -> Tensor | None:
        weights = [weight for weight in self._weights if weight is not None]
        return _joined(weights) if weights else None

    def _sum_losses(self) -> None:
        if self._losses:
            self._loss += torch.stack(self._losses).sum()
            self._losses.clear()


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

"""The two loops: one pass of training, one pass of evaluation. The only place with a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import Diverged
from nas_system.training.batches import unpack
from nas_system.training.objectives import Objective

# How often a running loss is read back: a read waits for the device, and a NaN that
# is noticed this late has wasted little.
STEPS_BETWEEN_CHECKS = 100


def train_epoch(
    model: nn.Module,
    loader: Iterable[Any],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    *,
    grad_clip: float = 0.0,
    after_step: Callable[[], None] | None = None,
) -> dict[str, float]:
    """One pass over the training data; the sample-weighted mean of every reported figure.

    Raises Diverged, with the step, when the loss is no longer finite. `after_step` may raise
    to end the training between two steps.
    """
    model.train()
    parameters = list(model.parameters())
    totals: Tensor | None = None
    losses = torch.zeros((), device=device)
    samples = 0
    step = 0
    for raw in loader:
        batch = unpack(raw, device)
        optimizer.zero_grad(set_to_none=True)
        output = model(*batch.args)
        loss = objective.loss(output, batch.target, batch.weight)
        loss.backward()
        if grad_clip:
            nn.utils.clip_grad_norm_(parameters, grad_clip)
        optimizer.step()
        with torch.no_grad():
            figures = objective.report(output.detach(), batch.target, batch.weight) * batch.n
            totals = figures if totals is None else totals + figures
            losses += loss.detach()
        samples += batch.n
        step += 1
        if step % STEPS_BETWEEN_CHECKS == 0:
            _check_finite(losses, step)
        if after_step is not None:
            after_step()
    _check_finite(losses, step)
    return _means(objective, totals, samples)


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: Iterable[Any], objective: Objective, device: torch.device
) -> dict[str, float]:
    """One pass without training; the sample-weighted mean of every reported figure."""
    model.eval()
    totals: Tensor | None = None
    samples = 0
    for raw in loader:
        batch = unpack(raw, device)
        figures = objective.report(model(*batch.args), batch.target, batch.weight) * batch.n
        totals = figures if totals is None else totals + figures
        samples += batch.n
    return _means(objective, totals, samples)


@torch.no_grad()
def predict(
    model: nn.Module, loader: Iterable[Any], objective: Objective, device: torch.device
) -> Tensor:
    """Post-processed outputs of every sample, in order, on the CPU."""
    model.eval()
    batches = (unpack(raw, device) for raw in loader)
    return torch.cat([objective.postproc(model(*batch.args)).float().cpu() for batch in batches])


def _check_finite(losses: Tensor, step: int) -> None:
    if not torch.isfinite(losses):
        raise Diverged(
            f"the training loss is no longer finite after step {step} of the epoch; lower training.lr "
            "or set training.grad_clip"
        )


def _means(objective: Objective, totals: Tensor | None, samples: int) -> dict[str, float]:
    if totals is None:
        raise ValueError("the loader gave no batch")
    return dict(zip(objective.names, (totals / samples).tolist(), strict=True))

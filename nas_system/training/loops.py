"""The two loops: one pass of training, one pass of evaluation. The only module with a backward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nas_system.training.acceleration.cuda_graph import CapturedStep, Step
from nas_system.training.acceleration.eager import step_eagerly
from nas_system.training.acceleration.precision import Precision
from nas_system.training.batches import Batch, unpack, unpack_arguments
from nas_system.training.clock import Clock
from nas_system.training.objectives import Objective
from nas_system.training.running_mean import Meter, NoBatches, RunningMean

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
    accumulation_steps: int = 1,
    precision: Precision | None = None,
    meter: Meter | None = None,
    clock: Clock | None = None,
    watch: Callable[[Tensor], None] | None = None,
    captured: CapturedStep | None = None,
) -> dict[str, float]:
    """Train for one pass and return the sample-weighted mean of every reported metric.

    An optimizer step follows the mean over `accumulation_steps` batches of any sizes; the
    last step takes what is left. `watch` gets the loss of every step, detached and unread, before
    `after_step`, which may raise to end the training between two steps.
    `captured` runs a whole step in one launch, in place of model, objective and optimizer.
    Raises Diverged, with the step, when the loss is no longer finite.
    """
    model.train()
    precision = precision or Precision("fp32", device)
    clock = clock or Clock()
    running_mean = RunningMean(objective, device, meter)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    step = 0
    clock.start()
    for group in _groups(loader, accumulation_steps):
        batches = [unpack(raw, device) for raw in group]
        clock.lap("data")
        if captured is not None:
            loss = _replay(captured, batches[0], running_mean)
        else:
            for parameter in parameters:
                # All that `zero_grad` does, at a tenth of its cost.
                parameter.grad = None
            loss = _accumulate(model, batches, objective, precision, running_mean, clock)
            _update(optimizer, parameters, grad_clip, precision)
        step += 1
        clock.steps += 1
        running_mean.add_loss(loss)
        if step % STEPS_BETWEEN_CHECKS == 0:
            running_mean.check_finite(step)
        if watch is not None:
            watch(loss)
        if after_step is not None:
            after_step()
        clock.lap("optimizer")
    running_mean.check_finite(step)
    metrics = running_mean.metrics()
    clock.lap("optimizer")
    return metrics


class Evaluation(NamedTuple):
    """One pass without training."""

    metrics: dict[str, float]
    """Sample-weighted means of every reported metric."""
    errors: Tensor | None
    """The deciding metric of every sample, (samples,), in order, on the device, or what the loader makes of
    that; None if the objective has none for single samples."""


@runtime_checkable
class Summarizes(Protocol):
    """A loader of samples that do not count one by one when a score is compared with chance."""

    def summarized(self, errors: Tensor) -> Tensor:
        """Return the means of samples that belong together, in order of time; the mean of all stays."""
        ...


def evaluate(
    model: nn.Module,
    loader: Iterable[Any],
    objective: Objective,
    device: torch.device,
    *,
    precision: Precision | None = None,
    meter: Meter | None = None,
) -> dict[str, float]:
    """Return the sample-weighted mean of every reported metric over one pass without training."""
    return evaluate_samples(model, loader, objective, device, precision=precision, meter=meter).metrics


@torch.no_grad()
def evaluate_samples(
    model: nn.Module,
    loader: Iterable[Any],
    objective: Objective,
    device: torch.device,
    *,
    precision: Precision | None = None,
    meter: Meter | None = None,
) -> Evaluation:
    """Evaluate in one pass without training, as a whole and sample by sample, or as the loader says."""
    model.eval()
    precision = precision or Precision("fp32", device)
    running_mean = RunningMean(objective, device, meter, keeps_samples=True)
    for raw in loader:
        batch = unpack(raw, device)
        output = _forward(model, batch.args, precision)
        running_mean.add(output, batch.target, batch.weight, batch.n)
    errors = running_mean.errors()
    if errors is not None and isinstance(loader, Summarizes):
        errors = loader.summarized(errors)
    return Evaluation(running_mean.metrics(), errors)


@torch.no_grad()
def predict(
    model: nn.Module,
    loader: Iterable[Any],
    objective: Objective,
    device: torch.device,
    *,
    precision: Precision | None = None,
) -> Tensor:
    """Return the post-processed outputs of all samples, in order, on the CPU. Batches need no target.

    Raises NoBatches if there are none.
    """
    model.eval()
    precision = precision or Precision("fp32", device)
    outputs = (_forward(model, unpack_arguments(raw, device), precision) for raw in loader)
    answers = [objective.postproc(output).float().cpu() for output in outputs]
    if not answers:
        raise NoBatches("the loader returned no batch")
    return torch.cat(answers)


class DryRunStep:
    """A training step in parts, on copies of model and optimizer: to be measured, without effect.

    Draws from the global random state, as every step does. The gradient of fp16 is not scaled here.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        grad_clip: float = 0.0,
    ) -> None:
        # In one call: the copied optimizer then holds the copied parameters.
        self.model, copied = copy.deepcopy((model, optimizer))
        self.optimizer = step_eagerly(copied)
        self.objective = objective
        self.precision = Precision(precision.name, precision.device)
        self.precision.scaler = None
        self.grad_clip = grad_clip

    def gradient(self, batch: Batch) -> None:
        """Run forward and backward once, from no gradient."""
        self.model.zero_grad(set_to_none=True)
        self.add_gradient(self.forward(batch), batch)

    def forward(self, batch: Batch) -> Any:
        """Return the model's output, in the mode (train, eval) that the copy is in."""
        return _forward(self.model, batch.args, self.precision)

    def add_gradient(self, output: Any, batch: Batch) -> Tensor:
        """Add to the copy's gradient; return the loss, detached."""
        loss = self.objective.loss(output, batch.target, batch.weight)
        loss.backward()
        return loss.detach()

    def update(self) -> None:
        """Let the copied optimizer step."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        _update(self.optimizer, parameters, self.grad_clip, self.precision)


def whole_step(
    model: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    grad_clip: float,
    precision: Precision,
) -> Step:
    """Return forward, backward and update on one batch as a function, for a CUDA graph to capture."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def step(batch: Batch) -> tuple[Tensor, Tensor]:
        output = _forward(model, batch.args, precision)
        loss = objective.loss(output, batch.target, batch.weight)
        loss.backward()
        _update(optimizer, parameters, grad_clip, precision)
        return output.detach(), loss.detach()

    return step


def _replay(captured: CapturedStep, batch: Batch, running_mean: RunningMean) -> Tensor:
    """Run one captured step; return its loss."""
    output, loss = captured(batch)
    running_mean.add(output, batch.target, batch.weight, batch.n)
    return loss


def _accumulate(
    model: nn.Module,
    batches: list[Batch],
    objective: Objective,
    precision: Precision,
    running_mean: RunningMean,
    clock: Clock,
) -> Tensor:
    """Add up the gradient of the mean loss over `batches`; return that loss, detached."""
    samples = sum(batch.n for batch in batches)
    losses = []
    for batch in batches:
        output = _forward(model, batch.args, precision)
        loss = objective.loss(output, batch.target, batch.weight)
        if len(batches) > 1:
            loss = loss * (batch.n / samples)
        losses.append(loss.detach())
        clock.lap("forward")
        (loss if precision.scaler is None else precision.scaler.scale(loss)).backward()
        clock.lap("backward")
        output = output.detach()
        running_mean.add(output, batch.target, batch.weight, batch.n)
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def _forward(model: nn.Module, args: tuple[Any, ...], precision: Precision) -> Any:
    if precision.name == "fp32":
        return model(*args)
    with precision.forward():
        output = model(*args)
    return precision.full(output)


def _update(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], grad_clip: float, precision: Precision
) -> None:
    scaler = precision.scaler
    if grad_clip:
        if scaler is not None:
            # The limit is for the gradient itself, not for the scaled one.
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, grad_clip)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def _groups(loader: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield up to `size` consecutive batches at a time. Sizes are known before the first backward pass."""
    batches = iter(loader)
    while group := list(islice(batches, size)):
        yield group

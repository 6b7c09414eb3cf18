"""Single passes over single batches, on a copy of the model: whether they work, time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import PreflightFailed, first_line, memory_that_ran_out
from nas_system.training.batches import Batch, unpack
from nas_system.training.clock import compute_seconds
from nas_system.training.engine import Engine
from nas_system.training.loops import DryRunStep
from nas_system.training.objectives import output_shape
from nas_system.training.preflight.memory import LiveBytes

COUNTED_UP_TO = 8
"""Samples of the largest batch whose tensors are counted on the CPU: counting takes time."""
COUNTING_S = 1e-4
"""Seconds that counting adds to an operator at most; a measured time less that is a lower bound."""

LESS_MEMORY = "lower data.batch_size, the width or, for a series, data.seq_len"
SCALE = "look at the scale of its inputs and weights"

# Raised by a model whose parts do not fit together. Anything else is not the model's fault.
FORESEEN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)


@dataclass
class Measured:
    """Seconds of compute (see `compute_seconds`), and memory, of a pass."""

    seconds: float = 0.0
    """Lower bound; exact if nothing was counted."""
    forward_s: float = 0.0
    """Of the forward pass alone."""
    peak_bytes: int | None = None
    """Of new tensors, gradients of weights aside; None if not counted."""


class Probe:
    """Raises PreflightFailed where a pass fails: forward, backward, memory, shape or nonfinite."""

    def __init__(self, engine: Engine, batch: Callable[[int], Any]) -> None:
        """`batch` returns the first n samples as one batch."""
        self.device = engine.device
        self.threads = 1
        """Over which the compute of a pass is divided."""
        self._batch_of = batch
        self._objective = engine.objective
        self._step = DryRunStep(
            engine.model, engine.objective, engine.optimizer, engine.amp, engine.grad_clip
        )

    def batch(self, size: int) -> Batch:
        return unpack(self._batch_of(size), self.device)

    def measure_step(self, size: int) -> Measured:
        """Run forward and backward on a batch of this size; measure its memory, check the gradient."""
        batch = self.batch(size)
        for parameter in self._step.model.parameters():
            # Allocated before, so that only activations are counted.
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        with self._measured(batch) as measured:
            measured.forward_s = self._pass(batch)
        check_gradients(self._step.model)
        return measured

    def measure_evaluation(self, size: int) -> Measured:
        """Measure a forward pass without gradients."""
        batch = self.batch(size)
        self._step.model.eval()
        with torch.no_grad(), self._measured(batch) as measured, _failing_as("forward", size):
            self._step.forward(batch)
        self._step.model.train()
        return measured

    def time_step(self, size: int) -> Measured:
        """Time a batch, forward and backward, as a training does them."""
        self._step.model.zero_grad(set_to_none=True)
        started = self._now()
        forward_s = self._pass(self.batch(size))
        return Measured(self._now() - started, forward_s)

    def time_evaluation(self, size: int) -> float:
        """Return the seconds of a batch and a forward pass without gradients."""
        self._step.model.eval()
        with torch.no_grad(), _failing_as("forward", size):
            started = self._now()
            self._step.forward(self.batch(size))
            seconds = self._now() - started
        self._step.model.train()
        return seconds

    def time_update(self) -> float:
        """Return the seconds of an optimizer step with the present gradient."""
        started = self._now()
        self._step.update()
        return self._now() - started

    def _pass(self, batch: Batch) -> float:
        """Run forward and backward; return the seconds of the forward pass."""
        started = self._now()
        with _failing_as("forward", batch.n):
            output = self._step.forward(batch)
            forward_s = self._now() - started
        check_output(output, output_shape(self._objective, batch.target))
        with _failing_as("backward", batch.n):
            loss = self._step.add_gradient(output, batch)
            self._now()  # waits for the device, whose errors come late
        if not bool(torch.isfinite(loss)):
            raise PreflightFailed("nonfinite", f"the loss is {loss.item()} before any training; {SCALE}")
        return forward_s

    @contextmanager
    def _measured(self, batch: Batch) -> Iterator[Measured]:
        """Measure time and memory of the code inside; on the CPU memory only for small batches."""
        measured, started, operators = Measured(), self._now(), 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            yield measured
            measured.peak_bytes = torch.cuda.max_memory_allocated(self.device) - before
            # The training's own peak counts from here on.
            torch.cuda.reset_peak_memory_stats(self.device)
        elif batch.n <= COUNTED_UP_TO:
            with LiveBytes(_present(self._step.model, batch)) as live:
                yield measured
            measured.peak_bytes, operators = live.peak, live.operators
        else:
            yield measured
        measured.seconds = max(self._now() - started - COUNTING_S * operators, 0.0)

    def _now(self) -> float:
        return compute_seconds(self.device, self.threads)


@contextmanager
def _failing_as(kind: str, size: int) -> Iterator[None]:
    """Turn an error of the model into a failure of this kind; a failed allocation into one of memory."""
    try:
        yield
    except (*FORESEEN, MemoryError) as error:
        described = f"{type(error).__name__}: {first_line(error)}"
        numbers = {"batch_size": size}
        if memory_that_ran_out(error):
            message = f"the {kind} pass on {size} samples ran out of memory; {LESS_MEMORY} ({described})"
            raise PreflightFailed("memory", message, numbers) from error
        raise PreflightFailed(kind, f"{described} (on a batch of {size})", numbers) from error


def check_output(output: Any, expected: tuple[int, ...]) -> None:
    """Raise PreflightFailed unless the output has the expected shape and finite numbers."""
    if not isinstance(output, Tensor) or output.shape != expected:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise PreflightFailed("shape", f"the model's output is {found}, expected {expected}: fix its head")
    wrong = int((~torch.isfinite(output)).sum())
    if wrong:
        message = f"{wrong:,} of {output.numel():,} outputs are not finite before any training; {SCALE}"
        raise PreflightFailed("nonfinite", message, {"outputs": output.numel(), "not_finite": wrong})


def check_gradients(model: nn.Module) -> None:
    """Raise PreflightFailed, naming the parameter, if a gradient is not finite."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if not gradients or bool(torch.isfinite(nn.utils.get_total_norm(gradients.values()))):
        return
    # The norm may overflow where no gradient does.
    wrong = [name for name, gradient in gradients.items() if not bool(torch.isfinite(gradient).all())]
    if wrong:
        message = f"the gradient of {wrong[0]} is not finite before any training; {SCALE}"
        raise PreflightFailed("nonfinite", message, {"gradients": len(gradients), "not_finite": len(wrong)})


def _present(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Return the tensors that exist before a pass."""
    weights = [*model.parameters(), *model.buffers()]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    data = [x for x in (*batch.args, batch.target, batch.weight) if isinstance(x, Tensor)]
    return [*weights, *gradients, *data]

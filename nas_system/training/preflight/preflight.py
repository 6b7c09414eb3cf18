"""A dry run on the first batch before a training: does it run, does it fit, can it end in time?

The batch grows fourfold, from two samples to its real size. The needs of the smaller ones predict those of
the next, so the dry run itself cannot exhaust the memory. And a step on a part of a batch is never
slower than one on the whole, so a hopeless training is noticed before its first whole step.
Everything happens on copies and the random state is restored: no result of the training changes.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas_system.errors import PreflightFailed
from nas_system.training.engine import Engine
from nas_system.training.preflight.memory import MIB, available_mb, bytes_of, resident_mb
from nas_system.training.preflight.probe import COUNTED_UP_TO, LESS_MEMORY, Measured, Probe
from nas_system.training.reproducibility import peak_memory_mb, random_state, set_random_state

FIRST_BATCH, GROWTH = 2, 4
"""Samples of the first batch; how many times larger the next one is."""

ROUNDS = 5
UPDATES = 3
TIMING_S = 0.1
"""No further step is timed after this long."""
STEPS_TO_CONFIRM = 3
"""Steps that all have to be too slow before a training is refused."""
REFUSAL_FACTOR = 1.25
"""How many times the limit an epoch must take at its fastest: a busy moment is no reason to refuse."""

LESS_TIME = "lower the width, the depth or, for a series, data.seq_len; or raise data.batch_size"


@dataclass(frozen=True)
class Workload:
    """Size of a training in samples: windows or graphs."""

    batch: Callable[[int], Any]
    """Returns the first n samples of the training part as one batch."""
    batch_size: int
    n_train: int
    n_val: int
    n_test: int
    evaluation_batch: int
    """Samples at a time in evaluations, if there is memory for it."""


@dataclass(frozen=True)
class TimeLimit:
    """The hard limit, after which a training is ended without a score."""

    seconds: float
    since: float
    """`time.monotonic()` at the training's start."""


@dataclass(frozen=True)
class Estimate:
    """Cost of a training, estimated from one batch."""

    n_params: int
    memory_mb: float
    """Peak in MiB: of the card's tensors for CUDA, else of this process's resident memory."""
    step_ms: float | None
    """One batch fetched, forward, backward and update, without the loop's bookkeeping (a fraction of a
    millisecond); None if a compiler will change it."""
    epoch_s: float | None
    """One pass of training and one of validation."""
    seconds: float
    """Duration of the preflight itself."""


class Preflight:
    """Checks one training: `check_batch`, then `check_time`, then `estimate`.

    Raises PreflightFailed, whose numbers are MiB (`_mb`) and seconds (`_s`).
    """

    def __init__(
        self,
        engine: Engine,
        work: Workload,
        *,
        limit: TimeLimit | None = None,
        free_mb: float | None = None,
    ) -> None:
        """`free_mb`: what may still be allocated; measured by default."""
        self._began = time.perf_counter()
        self.device, self.work, self.limit = engine.device, work, limit
        self.size = min(work.batch_size, work.n_train)
        """Windows of a full batch."""
        self.evaluation_batch = min(work.evaluation_batch, max(work.n_val, work.n_test))
        """Samples at a time that fit, after `check_batch`."""
        self.accumulation_steps = engine.accumulation_steps
        # A compiled or captured step is not the one that is timed here.
        self.tells_time = not engine.compile and not engine.cuda_graph
        self.n_params = sum(parameter.numel() for parameter in engine.model.parameters())
        self._parameters = _Parameters.of(engine)
        held_mb = self._parameters.held_mb
        self._there_mb = held_mb + (available_mb(self.device) if free_mb is None else free_mb)
        self._other_mb = 0.0 if self.device.type == "cuda" else resident_mb() - held_mb
        self._peaks: list[tuple[int, float]] = [(0, 0.0)]
        """(samples, MiB of activations) of the measured batches."""
        self._peak_mb = 0.0
        """Of the device or this process, after `check_batch`."""
        self._evaluated_mb = 0.0
        """Per window."""
        self._timed: list[Measured] = []
        self._update_s = 0.0
        self._check_memory(0)
        self._probe = Probe(engine, work.batch)

    def check_batch(self) -> None:
        """Run forward and backward on growing batches up to the real one, and a small evaluation."""
        with _random_state_kept(self.device):
            for size in self._sizes():
                self._check_memory(size)
                measured = self._measure_step(size)
                if self._is_hopeless(measured.seconds):
                    # The first call of a kernel may load a library, which must not count.
                    again = self._measure_step(size)
                    self._refuse_if_too_slow("at least", min(measured.seconds, again.seconds))
                if size <= COUNTED_UP_TO:
                    evaluation = self._probe.measure_evaluation(size)
                    self._evaluated_mb = (evaluation.peak_bytes or 0.0) / MIB / size
        while self.evaluation_batch > self.size and self._evaluation_mb() > self._there_mb:
            # The score does not depend on it: no reason to refuse.
            self.evaluation_batch //= 2
        self._peak_mb = peak_memory_mb(self.device)

    def step(self) -> None:
        """Forward and backward on the real batch, for others to time; draws from the random state."""
        self._probe.time_step(self.size)

    def check_time(self) -> None:
        """Time a few steps on the real batch; refuse if not even the first epoch can end in time."""
        if not self.tells_time:
            return
        with _random_state_kept(self.device):
            began = time.perf_counter()
            while len(self._timed) < ROUNDS:
                self._timed.append(self._probe.time_step(self.size))
                if self._is_hopeless(*self._fastest()):
                    if len(self._timed) >= STEPS_TO_CONFIRM:
                        break
                elif time.perf_counter() - began > TIMING_S:
                    break
            # After the steps: none of them may start from weights that have moved.
            self._update_s = statistics.median(self._probe.time_update() for _ in range(UPDATES))
        self._refuse_if_too_slow("about", *self._fastest())

    def estimate(self) -> Estimate:
        """Return what was measured; call it last."""
        step_ms = epoch_s = None
        if self._timed:
            step_s = statistics.median(step.seconds for step in self._timed)
            forward_s = statistics.median(step.forward_s for step in self._timed)
            updates = self.work.n_train / self.size / self.accumulation_steps
            step_ms = round(1000 * (step_s + self._update_s), 3)
            epoch_s = round(self._epoch_s(step_s, forward_s) + updates * self._update_s, 3)
        return Estimate(
            n_params=self.n_params,
            memory_mb=round(self._memory_mb(), 1),
            step_ms=step_ms,
            epoch_s=epoch_s,
            seconds=round(time.perf_counter() - self._began, 3),
        )

    def _sizes(self) -> list[int]:
        """Return 2, 8, 32, ... and the real size; first 1 if an epoch's last batch has a single sample."""
        sizes = [1] if self.work.n_train % self.size == 1 else []
        size = FIRST_BATCH
        while size < self.size:
            sizes.append(size)
            size *= GROWTH
        return [*sizes, self.size]

    def _measure_step(self, size: int) -> Measured:
        measured = self._probe.measure_step(size)
        if measured.peak_bytes is not None and size > self._peaks[-1][0]:
            self._peaks.append((size, measured.peak_bytes / MIB))
        return measured

    # -- memory --------------------------------------------------------------------------------

    def _activations_mb(self, size: int) -> float:
        """Extrapolate the line through the last two measured batches; the first of them is the empty one."""
        if len(self._peaks) < 2:
            return 0.0
        (near, low), (far, high) = self._peaks[-2:]
        return high + max(high - low, 0.0) / (far - near) * (size - far)

    def _evaluation_mb(self) -> float:
        return self._parameters.trained_mb + self._evaluated_mb * self.evaluation_batch

    def _memory_mb(self) -> float:
        """Return the training's peak. On the CPU the real batch has shown it: only the copies differ."""
        trained_mb = self._parameters.trained_mb
        estimate_mb = max(trained_mb + self._activations_mb(self.size), self._evaluation_mb())
        if self.device.type == "cuda":
            return estimate_mb
        tried_mb = self._parameters.held_mb + self._parameters.copied_mb
        return max(self._other_mb + estimate_mb, self._peak_mb + trained_mb - tried_mb)

    def _check_memory(self, next_size: int) -> None:
        """Raise PreflightFailed unless the next batch fits and, once two were measured, the real one."""
        certain = self.size if len(self._peaks) > 2 else next_size
        if self._parameters.trained_mb + self._activations_mb(certain) <= self._there_mb:
            return
        activations_mb = self._activations_mb(self.size)
        needed_mb = self._parameters.trained_mb + activations_mb
        part = f", activations {activations_mb:,.0f} at batch {self.size}" if activations_mb else " alone"
        raise PreflightFailed(
            "memory",
            f"{needed_mb:,.0f} MiB needed (parameters {self._parameters.trained_mb:,.0f}{part}), "
            f"{self._there_mb:,.0f} MiB there; {LESS_MEMORY}",
            {
                "n_params": self.n_params,
                "batch_size": self.size,
                "needed_mb": round(needed_mb, 1),
                "parameters_mb": round(self._parameters.trained_mb, 1),
                "activations_mb": round(activations_mb, 1),
                "available_mb": round(self._there_mb, 1),
            },
        )

    # -- time ----------------------------------------------------------------------------------

    def _fastest(self) -> tuple[float, float]:
        """Return the seconds of the fastest step, and of the fastest forward pass."""
        return min(step.seconds for step in self._timed), min(step.forward_s for step in self._timed)

    def _epoch_s(self, step_s: float, forward_s: float) -> float:
        """Return the seconds of steps on all training samples and forward passes on all of validation."""
        return (self.work.n_train * step_s + self.work.n_val * forward_s) / self.size

    def _is_hopeless(self, step_s: float, forward_s: float = 0.0) -> bool:
        """Return whether first epoch and test cannot end in time at this pace."""
        if self.limit is None or not self.tells_time:
            return False
        test_s = self.work.n_test / self.size * forward_s
        ends_after = time.monotonic() - self.limit.since + self._epoch_s(step_s, forward_s) + test_s
        return ends_after > REFUSAL_FACTOR * self.limit.seconds

    def _refuse_if_too_slow(self, about: str, step_s: float, forward_s: float = 0.0) -> None:
        if not self._is_hopeless(step_s, forward_s):
            return
        assert self.limit is not None
        epoch_s, steps = self._epoch_s(step_s, forward_s), math.ceil(self.work.n_train / self.size)
        raise PreflightFailed(
            "time",
            f"one epoch takes {about} {epoch_s:,.0f} s ({steps:,} steps of {step_s:.2f} s), "
            f"the hard limit is {self.limit.seconds:,.0f} s; {LESS_TIME}",
            {
                "n_params": self.n_params,
                "batch_size": self.size,
                "epoch_s": round(epoch_s, 1),
                "step_s": round(step_s, 4),
                "limit_s": self.limit.seconds,
            },
        )


@dataclass(frozen=True)
class _Parameters:
    """MiB of weights and of all tensors in their shape."""

    held_mb: float
    """Allocated already: weights, and the optimizer's state in a resumed training."""
    copied_mb: float
    """Added by a dry run: weights and gradients."""
    trained_mb: float
    """In a training: weights, gradients and running means, two for Adam, one for momentum."""

    @classmethod
    def of(cls, engine: Engine) -> _Parameters:
        weights = bytes_of([*engine.model.parameters(), *engine.model.buffers()])
        states = [value for state in engine.optimizer.state.values() for value in state.values()]
        held = weights + bytes_of(value for value in states if isinstance(value, Tensor))
        copied = trained = weights
        for group in engine.optimizer.param_groups:
            gradients = bytes_of(parameter for parameter in group["params"] if parameter.requires_grad)
            means = 2 if "betas" in group else bool(group.get("momentum"))
            copied += gradients
            trained += (1 + means) * gradients
        return cls(held / MIB, copied / MIB, max(trained, held) / MIB)


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    outer = random_state(cuda=device.type == "cuda")
    try:
        yield
    finally:
        set_random_state(outer)

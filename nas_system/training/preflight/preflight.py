"""A dry run on the first batch before a training: does it run, does it fit, can it end in time?

The batch grows fourfold, from two samples to its real size. The needs of the smaller ones predict those of
the next, so the dry run itself cannot exhaust the memory. And a step on a part of a batch is never
slower than one on the whole, so a hopeless training is noticed before its first whole step.
Times are compute (`compute_seconds`), and of several the shortest counts: what a busy machine adds to a
step, by its caches and its second threads of a core, it does not add to every one.
Everything happens on copies and the random state is restored: no result of the training changes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nas_system.errors import PreflightFailed
from nas_system.training.engine import Engine
from nas_system.training.preflight.memory import MIB, available_mb, bytes_of, resident_mb
from nas_system.training.preflight.plan import Pace
from nas_system.training.preflight.probe import COUNTED_UP_TO, LESS_MEMORY, Measured, Probe
from nas_system.training.reproducibility import peak_memory_mb, random_state_kept

FIRST_BATCH, GROWTH = 2, 4
"""Samples of the first batch; how many times larger the next one is."""

ROUNDS = 5
UPDATES = 3
TIMING_S = 0.1
"""No further step is timed after this much compute."""
PLANNING_ROUNDS, PLANNING_S = 50, 0.5
"""The same where a training's length is planned from its steps."""
EVALUATIONS, LARGER_EVALUATION = 3, 4
"""Forward passes that are timed, and on how many training batches at once: evaluations have larger ones."""
STEPS_TO_CONFIRM = 3
"""Steps that all have to be too slow before a training is refused; as many are timed to plan one."""
REFUSAL_FACTOR, REFUSAL_EXTRA_S = 2.0, 10.0
"""How many times its limit, and seconds more, the shortest training must cost to be refused."""
FILES_S, FILES_S_PER_MB = 0.01, 0.003
"""What the files after an epoch cost: the history, and checkpoints of the size of what is trained."""

LESS_TIME = "lower the width, the depth or, for a series, data.seq_len"


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
class Estimate:
    """Cost of a training, estimated from one batch; times are compute (`compute_seconds`)."""

    n_params: int
    memory_mb: float
    """Peak in MiB: of the card's tensors for CUDA, else of this process's resident memory."""
    step_ms: float | None
    """One batch fetched, forward, backward and update, without the loop's bookkeeping (a fraction of a
    millisecond); None if a compiler will change it."""
    epoch_s: float | None
    """One pass over the training part and one over validation."""
    seconds: float
    """Duration of the preflight itself, by the clock."""
    training_s: float | None = None
    """The whole training as it is planned, test part included; None where epoch_s is."""


class Preflight:
    """Checks one training: `check_batch`, then `check_time`, then `estimate`.

    Raises PreflightFailed, whose numbers are MiB (`_mb`) and seconds (`_s`).
    """

    def __init__(
        self,
        engine: Engine,
        work: Workload,
        *,
        limit_s: float | None = None,
        free_mb: float | None = None,
    ) -> None:
        """`limit_s`: the compute that the training may cost; `free_mb`: what may still be allocated, by
        default measured."""
        self._began = time.perf_counter()
        self.device, self.work, self.limit_s = engine.device, work, limit_s
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
        self._update_s = self._evaluation_s = 0.0
        """Of an optimizer step, and of a sample in an evaluation."""
        self._check_memory(0)
        self._probe = Probe(engine, work.batch)

    def check_batch(self, largest: int | None = None) -> None:
        """Run forward and backward on growing batches up to the real one, and a small evaluation.

        `largest` leaves out greater ones, whose memory is then extrapolated.
        """
        with random_state_kept(cuda=self.device.type == "cuda"):
            for size in self._sizes():
                if largest is not None and size > largest:
                    break
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

    def check_time(self, threads: int = 1) -> None:
        """Time a few steps on the real batch; refuse if not even the shortest training can end in time."""
        if not self.tells_time:
            return
        self._probe.threads = threads
        rounds, enough_s = (ROUNDS, TIMING_S) if self.limit_s is None else (PLANNING_ROUNDS, PLANNING_S)
        with random_state_kept(cuda=self.device.type == "cuda"):
            while len(self._timed) < rounds:
                self._timed.append(self._probe.time_step(self.size))
                if self.limit_s is not None and len(self._timed) < STEPS_TO_CONFIRM:
                    continue
                if sum(step.seconds for step in self._timed) > enough_s or self._is_hopeless(
                    *self._fastest()
                ):
                    break
            self._refuse_if_too_slow("about", *self._fastest())
            samples = min(self.evaluation_batch, LARGER_EVALUATION * self.size, self.work.n_train)
            evaluations = [self._probe.time_evaluation(samples) for _ in range(EVALUATIONS)]
            self._evaluation_s = min(evaluations) / samples
            # After the steps: none of them may start from weights that have moved.
            self._update_s = min(self._probe.time_update() for _ in range(UPDATES))
        self._refuse_if_too_slow("about", *self._fastest())

    def pace(self) -> Pace | None:
        """Return what steps and epochs cost, after `check_time`; None where a compiler will change it."""
        if not self._timed:
            return None
        step_s, _ = self._fastest()
        files_s = FILES_S + FILES_S_PER_MB * self._parameters.trained_mb
        return Pace(
            step_s=self.accumulation_steps * step_s + self._update_s,
            epoch_s=self.work.n_val * self._evaluation_s + files_s,
            test_s=self.work.n_test * self._evaluation_s,
        )

    def estimate(self) -> Estimate:
        """Return what was measured; call it last."""
        step_ms = epoch_s = None
        if (pace := self.pace()) is not None:
            step_s, _ = self._fastest()
            updates = self.work.n_train / self.size / self.accumulation_steps
            step_ms = round(1000 * (step_s + self._update_s), 3)
            epoch_s = round(updates * pace.step_s + self.work.n_val * self._evaluation_s, 3)
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

    def _shortest_s(self, step_s: float, forward_s: float) -> float:
        """Return the least that a training of one step costs."""
        evaluated = self.work.n_val + self.work.n_test
        if self._evaluation_s:
            evaluation_s = evaluated * self._evaluation_s
        else:
            # A forward pass on more samples is never faster.
            evaluation_s = math.ceil(evaluated / max(self.evaluation_batch, self.size)) * forward_s
        return self.accumulation_steps * step_s + self._update_s + evaluation_s

    def _is_hopeless(self, step_s: float, forward_s: float = 0.0) -> bool:
        """Return whether even one step, a validation pass and the test part cost far too much."""
        if self.limit_s is None or not self.tells_time:
            return False
        return self._shortest_s(step_s, forward_s) > REFUSAL_FACTOR * self.limit_s + REFUSAL_EXTRA_S

    def _refuse_if_too_slow(self, about: str, step_s: float, forward_s: float = 0.0) -> None:
        if not self._is_hopeless(step_s, forward_s):
            return
        assert self.limit_s is not None
        shortest_s = self._shortest_s(step_s, forward_s)
        raise PreflightFailed(
            "time",
            f"one step and its evaluation cost {about} {shortest_s:,.0f} s of compute, "
            f"a run may cost {self.limit_s:g} s; {LESS_TIME}",
            {
                "n_params": self.n_params,
                "batch_size": self.size,
                "shortest_s": round(shortest_s, 1),
                "step_s": round(step_s, 4),
                "limit_s": self.limit_s,
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

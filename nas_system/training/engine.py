"""The engine: one training from its first epoch to its last file.

Every entry point (the search's `train.py`, and the trainers for interactive use) builds an `Engine`
and calls `fit`. Whether a callback's reason, an error or a signal ends a training, it
leaves through `fit`'s single exit, with the best weights on disk and the reason known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError, Diverged, StoppedOnRequest
from nas_system.training import loops
from nas_system.training.acceleration.cuda_graph import CapturedStep
from nas_system.training.acceleration.precision import Precision
from nas_system.training.checkpoint import StateDict
from nas_system.training.clock import Clock
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.loops import Evaluation
from nas_system.training.objectives import Objective, direction_of
from nas_system.training.preflight.plan import Passes, TrainingPlan
from nas_system.training.reproducibility import random_state, set_random_state
from nas_system.training.running_mean import Meter
from nas_system.training.scheduler import Scheduler


@dataclass(frozen=True)
class EpochRecord:
    """Metrics, learning rate and duration of one epoch."""

    epoch: int
    train: dict[str, float]
    val: dict[str, float]
    lr: float
    seconds: float
    is_best: bool

    def metrics(self) -> dict[str, float]:
        """Return the metrics of both parts: `train_...` and `val_...`."""
        train = {f"train_{name}": value for name, value in self.train.items()}
        return train | {f"val_{name}": value for name, value in self.val.items()}


class Callback(Protocol):
    """An observer of a training; derive from it to implement only one of its methods.

    Two more methods are optional: `step_ended(engine, loss)`, called after every optimizer step with the
    loss as a tensor that nobody has waited for; and `state_dict` / `load_state_dict`, to survive a resume.
    """

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> str | None:
        """Handle the end of an epoch; a returned reason ends the training."""
        return None

    def fit_ended(self, engine: Engine, reason: str) -> None:
        """Handle the end of the training; called once, however it ended."""
        return None


@dataclass
class Engine:
    """One training: the model and everything that changes between two epochs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    device: torch.device
    progress: EarlyStoppingState
    scheduler: Scheduler | None = None
    grad_clip: float = 0.0
    generator: torch.Generator | None = None
    """Where the loader's shuffling comes from; part of the state an exact resume needs."""
    history: list[EpochRecord] = field(default_factory=list)
    steps: int = 0
    """Optimizer steps so far."""
    scheduler_per_step: bool = False
    """True if the schedule advances with every step (one-cycle), False if with every epoch."""
    precision: str = "fp32"
    """fp32, bf16 or fp16, in training and evaluation alike."""
    accumulation_steps: int = 1
    """Batches per optimizer step."""
    compile: bool | str = False
    """Run the model through torch.compile; a string names its backend. Not together with `eager.py`."""
    cuda_graph: bool = False
    """Capture the step of full batches in a CUDA graph (see `cuda_graph`); needs a capturable optimizer."""
    meter: Callable[[], Meter] | None = None
    """Builds the meter of a pass, whose metrics are added to the objective's."""
    monitor: str | None = None
    """The deciding metric, better in `progress.direction`; None takes the objective's first one."""
    plan: TrainingPlan | None = None
    """How long `fit_planned` trains; the schedule spans it."""
    solve: Callable[[], dict[str, float]] | None = None
    """Fits the model, or a part of it, in closed form and returns the training metrics: epoch 0 of
    `fit_planned`, before those of the plan."""
    callbacks: Sequence[Callback] = ()
    """Those of the last `fit`."""
    best_errors: Tensor | None = None
    """Of the best epoch: the deciding metric of every validation sample, in order; None if it has none."""

    def __post_init__(self) -> None:
        if self.accumulation_steps < 1:
            raise ValueError(f"accumulation_steps={self.accumulation_steps}: at least one batch is needed")
        direction = direction_of(self.objective)
        if self.monitor is None and self.progress.direction != direction:
            raise ValueError(
                f"the objective's {self.objective.names[0]} is to {direction}, but early stopping is to "
                f"{self.progress.direction}; pass EarlyStoppingState(direction={direction!r})"
            )
        self.amp = Precision(self.precision, self.device)
        self._captured = self._capture() if self.cuda_graph else None
        self._clock = Clock()
        self._resumed: StateDict | None = None
        self._network: nn.Module = self.model
        if self.compile:
            backend = self.compile if isinstance(self.compile, str) else "inductor"
            # Shares its parameters with `model`, whose names stay free of the compiler's prefix.
            self._network = torch.compile(self.model, backend=backend)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def timing(self) -> dict[str, float]:
        """Seconds per part of the work, and steps per second, in this process (see `clock`)."""
        return self._clock.to_json()

    def fit(
        self,
        train: Iterable[Any],
        val: Iterable[Any] | None,
        max_epochs: int,
        callbacks: Sequence[Callback] = (),
        *,
        after_step: Callable[[], None] | None = None,
    ) -> str:
        """Train to the end and return the reason: completed, early_stopping, or a callback's.

        Continues after the last epoch in `history`. Without `val` the training metrics decide. Errors
        pass through, after the callbacks' `fit_ended`: with `diverged` for Diverged, `stopped` for
        StoppedOnRequest and Ctrl-C, `error` for anything else.
        """
        # Those with state first: a checkpoint written by another one then holds their latest state.
        self.callbacks = tuple(sorted(callbacks, key=lambda callback: not hasattr(callback, "state_dict")))
        reason = "error"
        with ExitStack() as ending:
            # Every one is called, also when another one fails.
            for callback in reversed(callbacks):
                ending.callback(lambda called=callback: called.fit_ended(self, reason))
            try:
                self._continue_exactly()
                reason = self._epochs(train, val, max_epochs, after_step)
            except Diverged:
                reason = "diverged"
                raise
            except (StoppedOnRequest, KeyboardInterrupt):
                reason = "stopped"
                raise
        return reason

    def fit_planned(
        self,
        passes: Passes,
        val: Iterable[Any] | None,
        callbacks: Sequence[Callback] = (),
        *,
        after_step: Callable[[], None] | None = None,
    ) -> str:
        """Train as the plan says; like `fit`, with `passes` over the training part instead of epochs."""
        assert self.plan is not None, "build_engine gives the plan"
        epoch = self.plan.epoch_of(passes, self.accumulation_steps)
        return self.fit(epoch, val, self.planned_epochs, callbacks, after_step=after_step)

    @property
    def planned_epochs(self) -> int:
        """All epochs of the plan, the closed form included; 0 without a plan."""
        return (self.plan.epochs if self.plan else 0) + (self.solve is not None)

    def train_epoch(
        self, loader: Iterable[Any], *, after_step: Callable[[], None] | None = None
    ) -> dict[str, float]:
        """Train for one pass and return its metrics. Counts steps, but no epoch."""
        watchers = [c.step_ended for c in self.callbacks if hasattr(c, "step_ended")]  # pyright: ignore[reportAttributeAccessIssue]

        def watch(loss: Tensor) -> None:
            self.steps += 1
            if self.scheduler_per_step and self.scheduler is not None:
                self.scheduler.step()  # pyright: ignore[reportCallIssue]
            for watcher in watchers:
                watcher(self, loss)

        return loops.train_epoch(
            self._network,
            loader,
            self.objective,
            self.optimizer,
            self.device,
            grad_clip=self.grad_clip,
            after_step=after_step,
            accumulation_steps=self.accumulation_steps,
            precision=self.amp,
            meter=self.meter() if self.meter else None,
            clock=self._clock,
            watch=watch,
            captured=self._captured,
        )

    def evaluate(self, loader: Iterable[Any], meter: Meter | None = None) -> dict[str, float]:
        """Return the metrics of one pass without training; `meter` takes the place of the engine's own."""
        return self.evaluate_samples(loader, meter).metrics

    def evaluate_samples(self, loader: Iterable[Any], meter: Meter | None = None) -> Evaluation:
        """Evaluate in one pass without training, as a whole and sample by sample."""
        self._clock.start()
        meter = meter or (self.meter() if self.meter else None)
        evaluation = loops.evaluate_samples(
            self._network, loader, self.objective, self.device, precision=self.amp, meter=meter
        )
        self._clock.lap("evaluation")
        return evaluation

    def predict(self, loader: Iterable[Any]) -> Tensor:
        """Return the post-processed outputs of all samples, in order, on the CPU."""
        return loops.predict(self._network, loader, self.objective, self.device, precision=self.amp)

    def _capture(self) -> CapturedStep:
        if self.device.type != "cuda" or self.accumulation_steps > 1 or self.amp.scaler is not None:
            raise ConfigError(
                "cuda_graph needs a CUDA device, accumulation_steps=1 and precision fp32 or bf16"
            )
        step = loops.whole_step(self.model, self.objective, self.optimizer, self.grad_clip, self.amp)
        return CapturedStep(step, self.optimizer)

    def _epochs(
        self,
        train: Iterable[Any],
        val: Iterable[Any] | None,
        max_epochs: int,
        after_step: Callable[[], None] | None,
    ) -> str:
        if self.history and self.progress.exhausted:
            # Resumed from a checkpoint after whose epoch the training was over.
            return "early_stopping"
        for epoch in range(len(self.history), max_epochs):
            record = self._epoch(epoch, train, val, after_step)
            reasons = [callback.epoch_ended(self, record) for callback in self.callbacks]
            reason = next((reason for reason in reasons if reason), None)
            if reason is None and self.progress.exhausted:
                reason = "early_stopping"
            if reason is not None:
                return reason
        return "completed"

    def _epoch(
        self,
        epoch: int,
        train: Iterable[Any],
        val: Iterable[Any] | None,
        after_step: Callable[[], None] | None,
    ) -> EpochRecord:
        started = time.monotonic()
        solve = self.solve if epoch == 0 else None
        lr = 0.0 if solve else float(self.optimizer.param_groups[0]["lr"])
        train_metrics = solve() if solve else self.train_epoch(train, after_step=after_step)
        val_metrics, errors = Evaluation({}, None) if val is None else self.evaluate_samples(val)
        decisive = self._decisive(train_metrics if val is None else val_metrics, epoch)
        is_best = self.progress.update(decisive, epoch)
        if is_best:
            self.best_errors = errors
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(decisive)
        elif self.scheduler is not None and not self.scheduler_per_step and not solve:
            self.scheduler.step()
        record = EpochRecord(epoch, train_metrics, val_metrics, lr, time.monotonic() - started, is_best)
        self.history.append(record)
        return record

    def _decisive(self, metrics: dict[str, float], epoch: int) -> float:
        name = self.monitor or self.objective.names[0]
        if name not in metrics:
            raise ValueError(f"there is no metric {name!r} to decide by; there are: {', '.join(metrics)}")
        if not math.isfinite(metrics[name]):
            raise Diverged(
                f"the validation score is {metrics[name]} ({name}) after epoch {epoch}; lower training.lr",
                {"epoch": epoch},
            )
        return metrics[name]

    def state_dict(self) -> StateDict:
        """Return all that an exact resume needs, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "scaler": self.amp.state_dict(),
            "progress": self.progress.state_dict(),
            "history": [asdict(record) for record in self.history],
            "best_errors": self.best_errors,
            "steps": self.steps,
            "plan": None if self.plan is None else asdict(self.plan),
            "callbacks": {
                name: callback.state_dict()  # pyright: ignore[reportAttributeAccessIssue]
                for name, callback in _with_state(self.callbacks)
            },
            "random": random_state(cuda=self.device.type == "cuda"),
            "shuffle": self.generator.get_state() if self.generator else None,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore a `state_dict`, for `fit` to continue exactly where it was taken.

        Random states and those of callbacks take effect when `fit` begins, so that nothing done in
        between (another loader built, a prediction made) changes the results.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None and state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.amp.load_state_dict(state["scaler"])
        self.progress.load_state_dict(state["progress"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.steps = state["steps"]
        self.best_errors = state.get("best_errors")  # older checkpoints have none
        self._resumed = {name: state[name] for name in ("callbacks", "random", "shuffle")}

    def _continue_exactly(self) -> None:
        if self._resumed is None:
            return
        resumed, self._resumed = self._resumed, None
        for name, callback in _with_state(self.callbacks):
            if name in resumed["callbacks"]:
                callback.load_state_dict(resumed["callbacks"][name])  # pyright: ignore[reportAttributeAccessIssue]
        set_random_state(resumed["random"])
        if self.generator is not None and resumed["shuffle"] is not None:
            self.generator.set_state(resumed["shuffle"].cpu())


def _with_state(callbacks: Sequence[Callback]) -> list[tuple[str, Callback]]:
    """Return the callbacks that survive a resume, each with its class's name and its number in that class."""
    named: list[tuple[str, Callback]] = []
    counts: dict[str, int] = {}
    for callback in callbacks:
        if hasattr(callback, "state_dict"):
            kind = type(callback).__name__
            named.append((f"{kind}.{counts.setdefault(kind, 0)}", callback))
            counts[kind] += 1
    return named

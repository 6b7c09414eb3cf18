"""The engine: one training from its first epoch to its last file.

Every door (the search's `train.py`, and the facades for interactive use) builds an `Engine`
and calls `fit`. Whatever ends a training, a callback's reason, an error or a signal, it
leaves through `fit`'s single exit, with the best weights on disk and the reason known.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from nas_system.errors import Diverged, StoppedOnRequest
from nas_system.training.loops import evaluate, train_epoch
from nas_system.training.objectives import Objective
from nas_system.training.progress import Progress
from nas_system.training.scheduler import Scheduler


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave."""

    epoch: int
    train: dict[str, float]
    val: dict[str, float]
    lr: float
    seconds: float
    is_best: bool


class Callback(Protocol):
    """Something that watches a training; with state if it must survive a resume."""

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> str | None:
        """Look at one epoch; a returned reason ends the training."""
        ...

    def fit_ended(self, engine: Engine, reason: str) -> None:
        """Called once, however the training ended."""
        ...


@dataclass
class Engine:
    """One training: the model and everything that changes between two epochs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    device: torch.device
    progress: Progress
    scheduler: Scheduler | None = None
    grad_clip: float = 0.0
    generator: torch.Generator | None = None
    """Where the loader's shuffling comes from; part of the state an exact resume needs."""
    history: list[EpochRecord] = field(default_factory=list)
    steps: int = 0

    def fit(
        self,
        train: Iterable[Any],
        val: Iterable[Any],
        max_epochs: int,
        callbacks: Sequence[Callback] = (),
        *,
        after_step: Any = None,
    ) -> str:
        """Train to the end and return the reason: completed, early_stopping, diverged, or a callback's.

        Continues after the last epoch in `history`. Errors other than divergence pass through,
        after the callbacks have been told.
        """
        reason = "error"
        try:
            reason = self._epochs(train, val, max_epochs, callbacks, after_step)
        except Diverged:
            reason = "diverged"
            raise
        except StoppedOnRequest:
            reason = "stopped"
            raise
        finally:
            for callback in callbacks:
                callback.fit_ended(self, reason)
        return reason

    def _epochs(
        self,
        train: Iterable[Any],
        val: Iterable[Any],
        max_epochs: int,
        callbacks: Sequence[Callback],
        after_step: Any,
    ) -> str:
        for epoch in range(len(self.history), max_epochs):
            record = self._epoch(epoch, train, val, after_step)
            reasons = [callback.epoch_ended(self, record) for callback in callbacks]
            reason = next((reason for reason in reasons if reason), None)
            if reason is None and self.progress.exhausted:
                reason = "early_stopping"
            if reason is not None:
                return reason
        return "completed"

    def _epoch(self, epoch: int, train: Iterable[Any], val: Iterable[Any], after_step: Any) -> EpochRecord:
        started = time.monotonic()
        lr = self.optimizer.param_groups[0]["lr"]

        def count() -> None:
            self.steps += 1
            if after_step is not None:
                after_step()

        train_figures = train_epoch(
            self.model,
            train,
            self.objective,
            self.optimizer,
            self.device,
            grad_clip=self.grad_clip,
            after_step=count,
        )
        val_figures = evaluate(self.model, val, self.objective, self.device)
        decisive = val_figures[self.objective.names[0]]
        if not torch.isfinite(torch.tensor(decisive)):
            raise Diverged(f"the validation score is {decisive} after epoch {epoch}; lower training.lr")
        is_best = self.progress.update(decisive, epoch)
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(decisive)
        elif self.scheduler is not None:
            self.scheduler.step()
        record = EpochRecord(epoch, train_figures, val_figures, lr, time.monotonic() - started, is_best)
        self.history.append(record)
        return record

    def state_dict(self) -> dict[str, Any]:
        """All that an exact resume needs, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "progress": self.progress.state_dict(),
            "history": [asdict(record) for record in self.history],
            "steps": self.steps,
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
            "shuffle": self.generator.get_state() if self.generator else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.progress.load_state_dict(state["progress"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.steps = state["steps"]
        torch.set_rng_state(state["random"].cpu())
        if state["cuda_random"]:
            torch.cuda.set_rng_state_all([random.cpu() for random in state["cuda_random"]])
        if self.generator is not None:
            self.generator.set_state(state["shuffle"].cpu())

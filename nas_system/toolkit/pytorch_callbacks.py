"""The callbacks of `PytorchTrainer`: learning rate and restarts, averaging, user hook, log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nas_system.training.checkpoint import StateDict, save_checkpoint
from nas_system.training.engine import Callback, Engine, EpochRecord

GOLDEN_SECTION = 0.618
EPOCHS_BEFORE_REDUCTION = 3
# A network further from the minimum than this share of it would harm an average.
AVERAGING_TOLERANCE = 0.1


def early_stopping_limit(n_epochs: int) -> int:
    """Return the epochs without progress after which a training ends: 15% of all, rounded up."""
    return -(-15 * n_epochs // 100)


def restart_limit(n_epochs: int) -> int:
    """Return the epochs without progress until the optimizer restarts: 20% of that limit, rounded up."""
    return -(-early_stopping_limit(n_epochs) // 5)


class GoldenSectionRate(Callback):
    """Lowers the learning rate after every third epoch without progress; restarts the optimizer once.

    Once per countdown: the number of epochs without progress passes `restart_after` again only after
    progress has set it to zero. After a restart the three epochs are counted again.
    """

    def __init__(self, learning_rate: float, restart_after: int | None, log: Callable[[str], None]) -> None:
        self.learning_rate = learning_rate
        self.restart_after = restart_after
        self.log = log

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        bad_epochs, optimizer = engine.progress.bad_epochs, engine.optimizer
        if engine.progress.exhausted:
            return
        if bad_epochs == self.restart_after:
            optimizer.state.clear()
            rate = self.learning_rate
            self.log(f"  no progress for {bad_epochs} epochs: optimizer restarted, lr {rate:.3g}")
        else:
            since = bad_epochs
            if self.restart_after is not None and bad_epochs > self.restart_after:
                since -= self.restart_after
            if since == 0 or since % EPOCHS_BEFORE_REDUCTION:
                return
            rate = optimizer.param_groups[0]["lr"] * GOLDEN_SECTION
            self.log(f"  no progress for {bad_epochs} epochs: lr {rate:.3g}")
        for group in optimizer.param_groups:
            group["lr"] = rate


class Snapshot(NamedTuple):
    """One epoch's network; sorts by its validation loss, the earlier epoch first."""

    val: float
    epoch: int
    state: StateDict


class BestAverage(Callback):
    """Keeps the best networks of the whole history; at the end (any end) saves and loads their mean."""

    def __init__(self, path: Path, count: int, extra: StateDict) -> None:
        self.path = path
        self.count = count
        self.extra = extra
        self._best: list[Snapshot] = []

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        val = record.val[engine.objective.names[0]]
        if len(self._best) == self.count and val >= self._best[-1].val:
            return
        # On the CPU: a GPU's memory is for training.
        state = {key: _on_cpu(value) for key, value in engine.model.state_dict().items()}
        kept = [*self._best, Snapshot(val, record.epoch, state)]
        self._best = sorted(kept, key=lambda snapshot: snapshot[:2])[: self.count]

    def fit_ended(self, engine: Engine, reason: str) -> None:
        if not self._best:
            return
        chosen = near_minimum(self._best)
        state = average_states([snapshot.state for snapshot in chosen])
        epochs = [snapshot.epoch for snapshot in chosen]
        save_checkpoint(self.path, {"model": state, "averaged_epochs": epochs} | self.extra)
        engine.model.load_state_dict(state)


def near_minimum(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the snapshots within 10% of the first, which is the best."""
    best = snapshots[0].val
    # abs(): 10% of a negative minimum lies above it as well.
    return [snapshot for snapshot in snapshots if snapshot.val - best <= AVERAGING_TOLERANCE * abs(best)]


def average_states(states: Sequence[StateDict]) -> StateDict:
    """Average every floating tensor, batch-norm statistics included; counters come from the first."""

    def mean(key: str) -> Any:
        first = states[0][key]
        if not isinstance(first, Tensor) or not first.is_floating_point():
            return first
        return torch.stack([state[key] for state in states]).mean(dim=0)

    return {key: mean(key) for key in states[0]}


def _on_cpu(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


class EpochLog(Callback):
    """Logs one line per epoch."""

    def __init__(self, n_epochs: int, log: Callable[[str], None]) -> None:
        self.n_epochs = n_epochs
        self.log = log

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        name = engine.objective.names[0]
        best = "new minimum" if record.is_best else f"minimum {engine.progress.best:.6g}"
        self.log(
            f"epoch {record.epoch + 1}/{self.n_epochs}: train {record.train[name]:.6g}, "
            f"valid {record.val[name]:.6g} ({best}), lr {record.lr:.3g}, {record.seconds:.1f} s"
        )


class EpochHook(Callback):
    """Calls the user's function after every epoch."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        self.call()

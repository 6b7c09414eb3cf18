"""Callbacks of the engine: checkpoints, history file, progress, time budget, stop file and log hooks."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from nas_system.files import sha256_of_file, write_atomic
from nas_system.training.checkpoint import StateDict, checkpoint_bytes
from nas_system.training.engine import Callback, Engine, EpochRecord
from nas_system.training.objectives import direction_of

LONGEST_DELAY_S = 1.0
MOST_WAITING_BYTES = 64 * 2**20
"""More is not held in memory: it is written at once."""


class DelayedWrites(Callback):
    """Writes files after the epochs; after short ones not every time, and what waits at the end.

    Until a file is on the disk an epoch of a short series would have passed. A training that is killed loses
    `LONGEST_DELAY_S` of its work. Comes after the callbacks whose files it writes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written_at = -math.inf
        self._waiting: dict[Path, tuple[Callable[[], object], int]] = {}

    def put(self, path: Path, write: Callable[[], object], size: int = 0) -> None:
        """Let `write` be called for `path` by and by, in the place of what waits for it; it holds `size`
        bytes."""
        self._waiting.pop(path, None)  # files are written in the order of their latest epochs
        self._waiting[path] = write, size

    def drop(self, path: Path) -> None:
        """Forget what waits for `path`."""
        self._waiting.pop(path, None)

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        held = sum(size for _, size in self._waiting.values())
        if self._clock() - self._written_at >= LONGEST_DELAY_S or held > MOST_WAITING_BYTES:
            self._write()

    def fit_ended(self, engine: Engine, reason: str) -> None:
        self._write()

    def _write(self) -> None:
        for path, (write, _) in list(self._waiting.items()):
            write()
            del self._waiting[path]
        self._written_at = self._clock()


class BestCheckpoint(Callback):
    """Saves the weights of every new best epoch, with what is needed to use them elsewhere."""

    def __init__(self, path: Path, extra: StateDict, writes: DelayedWrites | None = None) -> None:
        """`writes` writes the file; by default it is there after every epoch."""
        self.path = path
        self.extra = extra
        self.writes = writes
        self.sha256: str | None = None

    def resume(self) -> None:
        """Take over the checkpoint of an interrupted training."""
        self.sha256 = sha256_of_file(self.path) if self.path.exists() else None

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        if record.is_best:
            content = {"model": engine.model.state_dict(), "epoch": record.epoch, "val": record.val}
            checkpoint = checkpoint_bytes(content | self.extra)
            self.sha256 = hashlib.sha256(checkpoint).hexdigest()
            _write(self.path, checkpoint, self.writes)


class BestWeights(Callback):
    """Keeps the best epoch's weights, and restores them when the training has ended."""

    def __init__(self) -> None:
        self._state: StateDict | None = None

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        if record.is_best:
            self._state = copy.deepcopy(engine.model.state_dict())

    def fit_ended(self, engine: Engine, reason: str) -> None:
        if self._state is not None:
            engine.model.load_state_dict(self._state)


class LastCheckpoint(Callback):
    """Saves what an exact resume needs after every epoch; removed when the training has ended by itself.

    With `keep` it stays, for a run that goes on after this training.
    """

    def __init__(
        self, path: Path, config_key: str, writes: DelayedWrites | None = None, *, keep: bool = False
    ) -> None:
        """`writes` writes the file; by default it is there after every epoch."""
        self.path = path
        self.config_key = config_key
        self.writes = writes
        self.keep = keep

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        checkpoint = checkpoint_bytes(engine.state_dict() | {"config_key": self.config_key})
        _write(self.path, checkpoint, self.writes)

    def fit_ended(self, engine: Engine, reason: str) -> None:
        if reason not in ("error", "stopped") and not self.keep:
            if self.writes is not None:
                self.writes.drop(self.path)
            self.path.unlink(missing_ok=True)


def _write(path: Path, content: bytes, writes: DelayedWrites | None) -> None:
    if writes is None:
        write_atomic(path, content)
    else:
        writes.put(path, lambda: write_atomic(path, content), len(content))


class HistoryFile(Callback):
    """Rewrites the history after the epochs, so that others can watch the training."""

    def __init__(
        self, path: Path, write: Callable[[Mapping[str, object]], None], writes: DelayedWrites
    ) -> None:
        self.path, self.write, self.writes = path, write, writes

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        # All epochs until it is written belong into it.
        self.writes.put(self.path, lambda: self.write(history_as_json(engine)))


class ProgressLog(Callback):
    """Prints a line for every epoch, and during a long one how far it is; notes the first step's time."""

    def __init__(self, interval_s: float, started: float) -> None:
        self.interval_s = interval_s
        self.first_step_at: float | None = None
        """`time.time()`"""
        self._steps = 0
        """Of the running epoch."""
        self._printed_at = started

    def step_ended(self, engine: Engine, loss: Tensor) -> None:
        if self.first_step_at is None:
            self.first_step_at = time.time()
        self._steps += 1
        now = time.monotonic()
        if now - self._printed_at >= self.interval_s:
            self._printed_at = now
            print(f"epoch {len(engine.history) + 1}, step {self._steps}", flush=True)

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        self._steps, self._printed_at = 0, time.monotonic()
        name = engine.objective.names[0]
        # A refit has no validation part.
        val = f"val_{name} {record.val[name]:.5f}  " if name in record.val else ""
        print(
            f"epoch {record.epoch + 1}/{engine.planned_epochs}  train_{name} {record.train[name]:.5f}  {val}"
            f"lr {record.lr:.2e}  {record.seconds:.1f} s",
            flush=True,
        )


class TimeBudget(Callback):
    """Ends the training after the epoch that comes closest to the limit, in the middle of its schedule.

    For what has no plan that fits. Its score counts; `clock` gives the seconds that do.
    """

    def __init__(self, seconds: float, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.started = self._last = started
        self._clock = clock

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> str | None:
        now = self._clock()
        epoch_s, self._last = now - self._last, now
        # Half an epoch past the limit is closer than half an epoch before it.
        return "time_budget" if now - self.started + epoch_s / 2 > self.seconds else None


class StopFile(Callback):
    """Ends the training normally after the epoch in which a person made this file; then removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> str | None:
        return "stop_file" if self.path.exists() else None

    def fit_ended(self, engine: Engine, reason: str) -> None:
        # Also a file that came too late: it must not stop the next training of that name. Where a sandbox
        # lets the training write to its own folder only, its supervisor removes the file.
        with contextlib.suppress(PermissionError):
            self.path.unlink(missing_ok=True)


LogHook = Callable[[Mapping[str, float], int, str], None]
"""hook(metrics, step, prefix), the interface of writers for TensorBoard and the like."""


class LogHooks(Callback):
    """Passes every hook the loss of each `log_every`-th step ("train") and each epoch's metrics.

    Those have the prefixes "train_epoch" and "val". Only the steps that are logged wait for the device.
    """

    def __init__(self, hooks: Sequence[LogHook], log_every: int) -> None:
        self.hooks = hooks
        self.log_every = log_every

    def step_ended(self, engine: Engine, loss: Tensor) -> None:
        if self.hooks and engine.steps % self.log_every == 0:
            lr = float(engine.optimizer.param_groups[0]["lr"])
            self._log({"loss": loss.item(), "lr": lr}, engine.steps, "train")

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        self._log(record.train | {"epoch": record.epoch}, engine.steps, "train_epoch")
        if record.val:
            self._log(record.val, engine.steps, "val")

    def _log(self, metrics: dict[str, float], step: int, prefix: str) -> None:
        for hook in self.hooks:
            hook(metrics, step, prefix)


def named_scores(metric: str, **scores: float | None) -> dict[str, float | None]:
    """Name the deciding metric of every part as all tasks do, `val_score`, and as the seeds do, `val_mse`."""
    general = {f"{part}_score": score for part, score in scores.items()}
    return general | {f"{part}_{metric}": score for part, score in scores.items()}


def history_as_json(engine: Engine) -> dict[str, object]:
    """Return the history in its file format: the deciding metric (see `named_scores`), lr and seconds."""
    name = engine.objective.names[0]
    return {
        "metric": f"val_{name}",
        "direction": direction_of(engine.objective),
        "best_epoch": engine.progress.best_epoch,
        "planned_epochs": engine.planned_epochs or None,
        "closed_form": engine.solve is not None,
        "planned_steps": engine.plan.steps if engine.plan else None,
        "wanted_steps": engine.plan.wanted_steps if engine.plan else None,
        "epochs": [
            {
                "epoch": record.epoch,
                **named_scores(name, train=record.train[name], val=record.val[name]),
                "lr": record.lr,
                "seconds": round(record.seconds, 3),
            }
            for record in engine.history
        ],
    }


def history_columns(history: Sequence[EpochRecord]) -> dict[str, list[float]]:
    """Return one list per metric, one value per epoch: train_loss, val_loss, ..., lr, seconds."""
    rows = [record.metrics() | {"lr": record.lr, "seconds": record.seconds} for record in history]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, float("nan")) for row in rows] for name in names}

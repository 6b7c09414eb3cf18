"""Training in a few lines of a notebook: a model, an optimizer, two loaders, `fit`.

    trainer = Trainer(model, optimizer, scheduler, task_type="regression", checkpoint_dir="checkpoints/")
    history = trainer.fit(train_loader, val_loader, epochs=100, early_stopping=20)

A facade of the engine, without a loop of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.toolkit.diagnosis import explained
from nas_system.toolkit.losses import TaskLoss, get_loss_fn
from nas_system.toolkit.metrics import Metric, MetricMeter, get_metrics, is_higher_better
from nas_system.toolkit.watched_loader import WatchedLoader
from nas_system.training.acceleration.precision import best_half_precision
from nas_system.training.callbacks import LogHook, LogHooks, history_columns
from nas_system.training.checkpoint import StateDict, load_checkpoint, save_checkpoint
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Callback, Engine, EpochRecord
from nas_system.training.objectives import LossObjective
from nas_system.training.optimizer import GradientAccumulator
from nas_system.training.reproducibility import resolve_device
from nas_system.training.scheduler import Scheduler, advances_per_step

logger = logging.getLogger(__name__)

_SUMMARY = ("epoch", "global_step", "best_metric", "best_epoch", "metrics", "config")
"""Entries of a checkpoint that `load_checkpoint` returns."""


class Trainer:
    """Trains one model. Batches are (input, target), (input, weight, target), {"X", "y"} or graph batches.

    After `load_checkpoint`, `fit` continues at the next epoch and produces what an uninterrupted
    training would have produced, shuffling included if the loader draws from torch's random numbers or
    from its own `generator`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Scheduler | None = None,
        loss_fn: Callable[..., Tensor] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        device: str | torch.device | None = None,
        task_type: str = "regression",
        grad_clip: float | None = 1.0,
        mixed_precision: bool | str = False,
        log_every: int = 50,
        checkpoint_dir: str | Path | None = None,
        *,
        num_classes: int | None = None,
        accumulation_steps: int | GradientAccumulator = 1,
        scheduler_per_step: bool | None = None,
        compile: bool | str = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Loss and metrics default to those of `task_type`; classification then needs `num_classes`.

        `mixed_precision` True takes the best half precision of the device; "bf16" and "fp16" are exact.
        `scheduler_per_step` None: torch's own convention (one-cycle and cyclic per step, others per epoch).
        `config`, plain values, is kept in every checkpoint. Raises ValueError and ConfigError.
        """
        if log_every < 1:
            raise ValueError(f"log_every={log_every}: at least one step must lie between two reports")
        resolved = resolve_device(device or "auto")
        if isinstance(accumulation_steps, GradientAccumulator):
            accumulation_steps = accumulation_steps.accumulation_steps
        if mixed_precision is True:
            mixed_precision = best_half_precision(resolved)
        if metrics is None:
            metrics = get_metrics(task_type, num_classes)
        if scheduler_per_step is None:
            scheduler_per_step = advances_per_step(scheduler)
        loss_fn = loss_fn or get_loss_fn(task_type, num_classes=num_classes)
        if isinstance(loss_fn, nn.Module):
            loss_fn.to(resolved)
        _check_optimizer(optimizer, model, loss_fn)
        self.metrics = dict(metrics)
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.config = dict(config or {})
        self._n_classes = _classes_of(loss_fn, num_classes)
        self.stop_reason: str | None = None
        """Why the last `fit` ended: completed, early_stopping, or a callback's reason."""
        self._log = LogHooks([], log_every)
        self.engine = Engine(
            model=model.to(resolved),
            optimizer=optimizer,
            objective=LossObjective(loss_fn),
            device=resolved,
            progress=EarlyStoppingState(),
            scheduler=scheduler,
            grad_clip=grad_clip or 0.0,
            scheduler_per_step=scheduler_per_step,
            precision=mixed_precision or "fp32",
            accumulation_steps=accumulation_steps,
            compile=compile,
            meter=lambda: MetricMeter(self.metrics),
            callbacks=(self._log,),
        )

    @property
    def model(self) -> nn.Module:
        return self.engine.model

    @property
    def epoch(self) -> int:
        """The last finished epoch, from 0; -1 before the first."""
        return len(self.engine.history) - 1

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.engine.steps

    @property
    def history(self) -> dict[str, list[float]]:
        """Return one list per metric, one value per epoch: train_loss, val_loss, ..., lr, seconds."""
        return history_columns(self.engine.history)

    def add_log_hook(self, hook: LogHook) -> None:
        """Call `hook(metrics, step, prefix)`: "train" every `log_every` steps, then "train_epoch", "val"."""
        self._log.hooks = [*self._log.hooks, hook]

    def train_epoch(self, train_loader: Iterable[Any]) -> dict[str, float]:
        """Train for one pass; return loss and metrics over all its samples. The schedule is not advanced."""
        train = WatchedLoader(train_loader, "training")
        with self._explained(train):
            return self.engine.train_epoch(train)

    def eval_epoch(self, val_loader: Iterable[Any]) -> dict[str, float]:
        """Return loss and metrics of one pass without training, over all its samples."""
        val = WatchedLoader(val_loader, "validation")
        with self._explained(val):
            return self.engine.evaluate(val)

    def predict(self, loader: Iterable[Any]) -> Tensor:
        """Return the model's outputs (values or logits) of every sample, in order, fp32 on the CPU."""
        watched = WatchedLoader(loader, "prediction")
        watched.check_edges()
        with self._explained(watched):
            return self.engine.predict(watched)

    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        epochs: int = 100,
        metric_for_best: str = "loss",
        minimize_metric: bool | None = None,
        early_stopping: int | None = None,
        *,
        callbacks: Sequence[Callback] = (),
    ) -> dict[str, list[float]]:
        """Train up to `epochs` epochs in total and return the history; `stop_reason` is why it ended.

        `metric_for_best` is measured on the validation loader, or on the training one if there is no
        other; `minimize_metric` None knows the direction of our own metrics and minimises others.
        `early_stopping`: epochs without a new best. With a `checkpoint_dir`, best.pt and last.pt are
        written there. Raises ValueError for a metric that nobody computes, Diverged for NaN, ConfigError for
        data that cannot be trained on; both name the item if the data are to blame.
        """
        self._follow(metric_for_best, minimize_metric, early_stopping)
        self.engine.generator = getattr(train_loader, "generator", None)
        observers = [*callbacks, self._log, _EpochEnds(self)]
        self.stop_reason = None
        train = WatchedLoader(train_loader, "training")
        val = None if val_loader is None else WatchedLoader(val_loader, "validation")
        watched = [train] if val is None else [train, val]
        for loader in watched:
            loader.check_edges()
        with self._explained(*watched):
            self.stop_reason = self.engine.fit(train, val, epochs, observers)
        return self.history

    def save_checkpoint(self, path: str | Path) -> Path:
        """Write all that is needed to continue; a bare file name goes to `checkpoint_dir`."""
        path = self._checkpoint_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        progress, history = self.engine.progress, self.engine.history
        content = {
            "epoch": self.epoch,
            "global_step": self.global_step,
            "best_metric": progress.best,
            "best_epoch": progress.best_epoch,
            "metrics": history[-1].metrics() if history else {},
            "config": self.config,
        }
        save_checkpoint(path, self.engine.state_dict() | content)
        return path

    def load_checkpoint(self, path: str | Path) -> StateDict:
        """Load model, optimizer, schedule and counters; return epoch, step, best metric and metrics.

        No code from the file is run. Raises StateError for a file that is missing or damaged.
        """
        content = load_checkpoint(self._checkpoint_path(path))
        self.engine.load_state_dict(content)
        return {name: content[name] for name in _SUMMARY}

    @contextmanager
    def _explained(self, *loaders: WatchedLoader) -> Iterator[None]:
        rate = float(self.engine.optimizer.param_groups[0]["lr"])
        clip = "" if self.engine.grad_clip else ", or set grad_clip"
        advice = f"lower the learning rate of the optimizer ({rate:g}){clip}"
        with explained(self.engine, loaders, advice, self._n_classes):
            yield

    def _checkpoint_path(self, path: str | Path) -> Path:
        path = Path(path)
        return self.checkpoint_dir / path if self.checkpoint_dir and path.name == str(path) else path

    def _follow(self, metric: str, minimize: bool | None, patience: int | None) -> None:
        """Decide by `metric` from now on, and by what it was in the epochs so far."""
        known = [*self.engine.objective.names, *self.metrics]
        if metric not in known:
            raise ValueError(f"metric_for_best={metric!r} is not measured; choose from: {', '.join(known)}")
        if minimize is None:
            minimize = not is_higher_better(metric)
        progress = EarlyStoppingState(patience=patience, direction="minimize" if minimize else "maximize")
        for record in self.engine.history:
            metrics = record.val or record.train
            if metric in metrics:
                progress.update(metrics[metric], record.epoch)
        self.engine.monitor, self.engine.progress = metric, progress


class _EpochEnds(Callback):
    """Logs an epoch; writes best.pt if it is the best so far, and last.pt."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        metrics = " ".join(f"{name}={value:.6g}" for name, value in record.metrics().items())
        logger.info("epoch %d: %s", record.epoch, metrics)
        if self.trainer.checkpoint_dir is None:
            return
        if record.is_best:
            self.trainer.save_checkpoint("best.pt")
        self.trainer.save_checkpoint("last.pt")


def _check_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, loss_fn: Callable[..., Tensor]
) -> None:
    """Raise ConfigError for an optimizer that holds no parameter of the model, nor of the loss."""
    own = {id(parameter) for parameter in model.parameters()}
    own |= {id(parameter) for parameter in loss_fn.parameters()} if isinstance(loss_fn, nn.Module) else set()
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if own and not any(id(parameter) in own for parameter in held):
        raise ConfigError(
            f"the optimizer holds {len(held)} parameters, and none of them is the model's "
            f"({type(model).__name__}): it would train another one; build it from this model, "
            "get_optimizer(model), after the model is built or copied"
        )


def _classes_of(loss_fn: Callable[..., Tensor], num_classes: int | None) -> int | None:
    """Return how many classes targets may name; None if nobody says."""
    if isinstance(loss_fn, TaskLoss) and loss_fn.loss_type == "bce_logits":
        return 2
    return num_classes


def log_model_info(model: nn.Module) -> dict[str, float]:
    """Log, and return, how many parameters a model has, how many are trainable, and their size in MB."""
    parameters = list(model.parameters())
    info = {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "size_mb": sum(parameter.numel() * parameter.element_size() for parameter in parameters) / 2**20,
    }
    logger.info(
        "%s: %d parameters, %d trainable, %.2f MB",
        type(model).__name__,
        info["parameters"],
        info["trainable"],
        info["size_mb"],
    )
    return info

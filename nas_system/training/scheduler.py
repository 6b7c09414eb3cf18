"""Learning-rate schedules by name, advanced once an epoch (one-cycle: once a step)."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer, lr_scheduler

from nas_system.space import TrainingConfig

Scheduler = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau

SCHEDULERS = ("none", "cosine_warmup", "cosine", "step", "plateau", "onecycle")


def build_scheduler(optimizer: Optimizer, config: TrainingConfig) -> Scheduler | None:
    """The schedule of a training configuration; None for a constant rate."""
    if config.scheduler == "cosine":
        t_max = config.t_max or config.max_epochs
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=t_max, eta_min=config.min_lr)
    if config.scheduler == "step":
        return lr_scheduler.StepLR(optimizer, step_size=config.step_size, gamma=config.gamma)
    if config.scheduler == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=config.plateau_factor, patience=config.plateau_patience
        )
    return None


def get_scheduler(
    optimizer: Optimizer,
    scheduler_type: str = "cosine_warmup",
    total_epochs: int = 100,
    *,
    warmup_epochs: int | None = None,
    min_lr: float = 1e-6,
    step_size: int = 30,
    gamma: float = 0.1,
    mode: str = "min",
    patience: int = 10,
    steps_per_epoch: int | None = None,
) -> Scheduler | None:
    """none, cosine_warmup, cosine, step, plateau or onecycle; the optimizer's rate is the highest.

    `warmup_epochs` is for cosine_warmup (None: a tenth of the epochs), `min_lr` for the cosines and
    plateau, `gamma` for step and plateau, `step_size` for step, `mode` and `patience` for plateau.
    onecycle (Smith and Topin 2018, arXiv:1708.07120) changes the rate with every optimizer step and
    needs `steps_per_epoch`.
    Raises ValueError for what is unknown or does not fit together.
    """
    if scheduler_type not in SCHEDULERS:
        choices = ", ".join(SCHEDULERS)
        raise ValueError(f"scheduler_type={scheduler_type!r} is not known; choose from: {choices}")
    if scheduler_type == "cosine_warmup":
        warmup_epochs = total_epochs // 10 if warmup_epochs is None else warmup_epochs
        if not 0 <= warmup_epochs < total_epochs:
            raise ValueError(
                f"warmup_epochs={warmup_epochs} must be less than total_epochs={total_epochs}; "
                "nothing would be left to train at the full rate"
            )
        shapes = [
            _warmup_then_cosine(warmup_epochs, total_epochs, min_lr / group["lr"])
            for group in optimizer.param_groups
        ]
        return lr_scheduler.LambdaLR(optimizer, shapes)
    if scheduler_type == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_epochs, eta_min=min_lr)
    if scheduler_type == "step":
        return lr_scheduler.StepLR(optimizer, step_size=step_size, gamma=gamma)
    if scheduler_type == "plateau":
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r} is not known; choose from: min, max")
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max" if mode == "max" else "min", factor=gamma, patience=patience, min_lr=min_lr
        )
    if scheduler_type == "onecycle":
        if steps_per_epoch is None:
            raise ValueError("onecycle advances with every step: pass steps_per_epoch=len(train_loader)")
        rates = [group["lr"] for group in optimizer.param_groups]
        return lr_scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=total_epochs * steps_per_epoch)
    return None


def advances_per_step(scheduler: Scheduler | None) -> bool:
    """Whether torch means this schedule to advance with every step, not with every epoch."""
    return isinstance(scheduler, lr_scheduler.OneCycleLR | lr_scheduler.CyclicLR)


def _warmup_then_cosine(warmup: int, total: int, lowest: float) -> Callable[[int], float]:
    """Factor of the rate at an epoch: a line up to 1 in `warmup` epochs, half a cosine down to `lowest`."""

    def factor(epoch: int) -> float:
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        done = min(1.0, (epoch - warmup) / (total - warmup))
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

    return factor

"""Learning-rate schedules by name, advanced once an epoch (one-cycle: once a step)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from torch.optim import Optimizer, lr_scheduler

from nas_system.errors import ConfigError
from nas_system.space.run_config import TrainingConfig
from nas_system.space.score import Direction

Scheduler = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau

SCHEDULERS = ("none", "cosine_warmup", "cosine", "step", "plateau", "onecycle")

MIN_CYCLE_STEPS = 3
"""One optimizer step at the start, one at the highest rate, one at the end."""


def build_scheduler(
    optimizer: Optimizer,
    config: TrainingConfig,
    *,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    direction: Direction = "minimize",
) -> Scheduler | None:
    """Return the schedule of a training configuration; None for a constant rate.

    `epochs` are those of the training's plan, by default `max_epochs`. `direction` is that of the metric
    which plateau follows. onecycle spans `epochs * steps_per_epoch` optimizer steps (see `optimizer_steps`).
    """
    cosine, plateau = config.scheduler == "cosine", config.scheduler == "plateau"
    return get_scheduler(
        optimizer,
        config.scheduler,
        (config.t_max if cosine else None) or epochs or config.max_epochs,
        min_lr=config.min_lr if cosine else 0.0,
        step_size=config.step_size,
        gamma=config.plateau_factor if plateau else config.gamma,
        mode="min" if direction == "minimize" else "max",
        patience=config.plateau_patience,
        steps_per_epoch=steps_per_epoch,
        warmup_share=config.warmup_share,
        # SGD's momentum is a parameter of its own: a cycle would overwrite what was asked for.
        cycle_momentum=config.optimizer != "sgd",
    )


def get_scheduler(
    optimizer: Optimizer,
    scheduler_type: str = "cosine_warmup",
    total_epochs: int = 100,
    *,
    warmup_epochs: int | None = None,
    min_lr: float = 1e-6,
    step_size: int = 30,
    gamma: float = 0.1,
    mode: Literal["min", "max"] = "min",
    patience: int = 10,
    steps_per_epoch: int | None = None,
    warmup_share: float = 0.3,
    cycle_momentum: bool = True,
) -> Scheduler | None:
    """Return none, cosine_warmup, cosine, step, plateau or onecycle; the optimizer's rate is the highest.

    `warmup_epochs` is for cosine_warmup (None: a tenth of the epochs), `min_lr` for the cosines and
    plateau, `gamma` for step and plateau, `step_size` for step, `mode` and `patience` for plateau.
    onecycle (Smith and Topin 2018, arXiv:1708.07120) changes the rate with every optimizer step, rises
    for `warmup_share` of them, moves momentum (or beta 1) the other way unless `cycle_momentum` is off,
    and needs `steps_per_epoch`.
    Raises ValueError for what is unknown or does not fit together, ConfigError for too short a cycle.
    """
    if scheduler_type not in SCHEDULERS:
        choices = ", ".join(SCHEDULERS)
        raise ValueError(f"scheduler_type={scheduler_type!r} is not known; choose from: {choices}")
    if scheduler_type == "cosine_warmup":
        warmup = total_epochs // 10 if warmup_epochs is None else warmup_epochs
        if not 0 <= warmup < total_epochs:
            raise ValueError(
                f"warmup_epochs={warmup} must be less than total_epochs={total_epochs}; "
                "nothing would be left to train at the full rate"
            )
        factor = partial(_warmup_then_cosine, warmup=warmup, total=total_epochs)
        lowest = [min_lr / group["lr"] for group in optimizer.param_groups]
        return lr_scheduler.LambdaLR(optimizer, [partial(factor, lowest=share) for share in lowest])
    if scheduler_type == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_epochs, eta_min=min_lr)
    if scheduler_type == "step":
        return lr_scheduler.StepLR(optimizer, step_size=step_size, gamma=gamma)
    if scheduler_type == "plateau":
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r} is not known; choose from: min, max")
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, mode=mode, factor=gamma, patience=patience, min_lr=min_lr
        )
    if scheduler_type == "onecycle":
        if steps_per_epoch is None:
            raise ValueError("onecycle advances with every step: pass steps_per_epoch=len(train_loader)")
        return _one_cycle(optimizer, total_epochs * steps_per_epoch, warmup_share, cycle_momentum)
    return None


def advances_per_step(scheduler: Scheduler | None) -> bool:
    """Return whether torch means this schedule to advance with every step, not with every epoch."""
    return isinstance(scheduler, lr_scheduler.OneCycleLR | lr_scheduler.CyclicLR)


def optimizer_steps(batches: int, accumulation_steps: int = 1) -> int:
    """Return the optimizer steps in an epoch of so many batches; the last one takes what is left."""
    return -(-batches // accumulation_steps)


def _one_cycle(
    optimizer: Optimizer, total_steps: int, warmup_share: float, cycle_momentum: bool
) -> Scheduler:
    if total_steps < MIN_CYCLE_STEPS:
        raise ConfigError(
            f"a one-cycle schedule over {total_steps} optimizer steps has no room to rise and fall; train "
            "more epochs or smaller batches, or choose another scheduler"
        )
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        # A rise of a single step has no length, by which torch would divide.
        pct_start=max(warmup_share, 2 / total_steps),
        cycle_momentum=cycle_momentum,
    )


def _warmup_then_cosine(epoch: int, *, warmup: int, total: int, lowest: float) -> float:
    """Return the factor of the rate: a line up to 1 in `warmup` epochs, half a cosine down to `lowest`."""
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    done = min(1.0, (epoch - warmup) / (total - warmup))
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * done)) / 2

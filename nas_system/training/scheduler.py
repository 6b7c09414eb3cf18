"""Learning-rate schedules by name, advanced once an epoch."""

from __future__ import annotations

from torch.optim import Optimizer, lr_scheduler

from nas_system.space import TrainingConfig

Scheduler = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau


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

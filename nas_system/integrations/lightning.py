"""A model as a LightningModule, for users whose own training runs on Lightning.

    module = lightning_module(build_model(config, windows.shape), config.training, steps_per_epoch=len(train))
    lightning.Trainer(max_epochs=config.training.max_epochs).fit(module, train, val)

The search itself trains with its own engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nas_system.space.run_config import TrainingConfig
from nas_system.training.batches import unpack
from nas_system.training.extras import import_extra
from nas_system.training.objectives import Forecasting, Objective, direction_of
from nas_system.training.optimizer import build_optimizer
from nas_system.training.scheduler import advances_per_step, build_scheduler

if TYPE_CHECKING:
    from lightning import LightningModule


def lightning_module(
    model: nn.Module,
    training: TrainingConfig,
    *,
    objective: Objective | None = None,
    steps_per_epoch: int | None = None,
) -> LightningModule:
    """Return a LightningModule that trains `model` in place, with the config's optimizer and schedule.

    It takes every batch the engine takes and logs `train_loss` and the objective's metrics as `val_mse`,
    `val_mae`, each weighted by the batch's samples. Epochs, patience, clipping, precision and accumulation
    are settings of Lightning's Trainer. `steps_per_epoch` is needed for one-cycle.
    Raises ConfigError if the package lightning is missing.
    """
    lightning = import_extra("lightning", "lightning")
    criterion = objective or Forecasting(training.loss)

    class TrainingModule(lightning.LightningModule):
        """The model with its training; weights live in `model`."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *args: Any) -> Any:
            return self.model(*args)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            args, target, weight, n = unpack(batch, self.device)
            loss = criterion.loss(self.model(*args), target, weight)
            self.log("train_loss", loss, batch_size=n, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            args, target, weight, n = unpack(batch, self.device)
            metrics = criterion.report(self.model(*args), target, weight)
            named = {f"val_{name}": value for name, value in zip(criterion.names, metrics, strict=True)}
            self.log_dict(named, batch_size=n)

        def configure_optimizers(self) -> Any:
            optimizer = build_optimizer(self.model, training, self.device)
            scheduler = build_scheduler(
                optimizer, training, steps_per_epoch=steps_per_epoch, direction=direction_of(criterion)
            )
            if scheduler is None:
                return optimizer
            interval = "step" if advances_per_step(scheduler) else "epoch"
            watched = f"val_{criterion.names[0]}"
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": interval, "monitor": watched},
            }

    return TrainingModule()

"""The training engine: knows batches, objectives and epochs; no model and no data set.

For interactive use: `from nas_system.training import Trainer, get_optimizer, ...`.
A name is imported when it is first used, so that programs load only what they need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_system.toolkit.losses import get_loss_fn
    from nas_system.toolkit.metrics import get_metrics
    from nas_system.toolkit.trainer import Trainer, log_model_info
    from nas_system.training.early_stopping import EarlyStopping
    from nas_system.training.optimizer import GradientAccumulator, get_optimizer
    from nas_system.training.reproducibility import ReproducibilityContext, get_device, set_seed
    from nas_system.training.scheduler import get_scheduler

__all__ = [
    "EarlyStopping",
    "GradientAccumulator",
    "ReproducibilityContext",
    "Trainer",
    "get_device",
    "get_loss_fn",
    "get_metrics",
    "get_optimizer",
    "get_scheduler",
    "log_model_info",
    "set_seed",
]

_HOMES = {
    "EarlyStopping": "training.early_stopping",
    "GradientAccumulator": "training.optimizer",
    "ReproducibilityContext": "training.reproducibility",
    "Trainer": "toolkit.trainer",
    "get_device": "training.reproducibility",
    "get_loss_fn": "toolkit.losses",
    "get_metrics": "toolkit.metrics",
    "get_optimizer": "training.optimizer",
    "get_scheduler": "training.scheduler",
    "log_model_info": "toolkit.trainer",
    "set_seed": "training.reproducibility",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nas_system.{_HOMES[name]}"), name)

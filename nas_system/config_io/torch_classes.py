"""The PyTorch classes that a config.py may name, and the fields of `TrainingConfig` they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nas_system.config_io.literal_python import TorchName


@dataclass(frozen=True)
class TorchClass:
    """A class that a config.py may name, and what stands for it in `TrainingConfig`."""

    name: str
    choice: str
    fields: dict[str, str] = field(default_factory=dict)
    """Its parameters, and the field of `TrainingConfig` each one is."""
    defaults: dict[str, float | None] = field(default_factory=dict)
    """PyTorch's defaults; a parameter without one must be given."""

    @property
    def usual(self) -> str:
        """How it is written after `import torch.optim as optim` and `import torch.nn as nn`."""
        return repr(TorchName(self.name))


@dataclass(frozen=True)
class ClassKey:
    """One of the keys that take a class, and the key of that class's parameters."""

    key: str
    params_key: str | None
    choice_field: str
    classes: tuple[TorchClass, ...]
    no_class: str | None = None
    """The choice that None, or leaving the key out, stands for."""


_DECAY = {"lr": "lr", "weight_decay": "weight_decay"}
_MOMENTUM = _DECAY | {"momentum": "momentum"}
_COSINE = {"T_max": "t_max", "eta_min": "min_lr"}
_PLATEAU = {"factor": "plateau_factor", "patience": "plateau_patience"}

_OPTIMIZERS = (
    TorchClass("torch.optim.Adam", "adam", _DECAY, {"lr": 1e-3, "weight_decay": 0.0}),
    TorchClass("torch.optim.AdamW", "adamw", _DECAY, {"lr": 1e-3, "weight_decay": 1e-2}),
    TorchClass("torch.optim.SGD", "sgd", _MOMENTUM, {"lr": 1e-3, "weight_decay": 0.0, "momentum": 0.0}),
)
_CRITERIA = (
    TorchClass("torch.nn.MSELoss", "mse"),
    TorchClass("torch.nn.L1Loss", "mae"),
    TorchClass("torch.nn.SmoothL1Loss", "huber"),
)
_SCHEDULE = "torch.optim.lr_scheduler."
_SCHEDULERS = (
    # T_max: our default; PyTorch has none.
    TorchClass(f"{_SCHEDULE}CosineAnnealingLR", "cosine", _COSINE, {"T_max": None, "eta_min": 0.0}),
    TorchClass(f"{_SCHEDULE}StepLR", "step", {"step_size": "step_size", "gamma": "gamma"}, {"gamma": 0.1}),
    TorchClass(f"{_SCHEDULE}ReduceLROnPlateau", "plateau", _PLATEAU, {"factor": 0.1, "patience": 10}),
    # Its highest rate is the optimizer's lr, its length the training's.
    TorchClass(f"{_SCHEDULE}OneCycleLR", "onecycle", {"pct_start": "warmup_share"}, {"pct_start": 0.3}),
)

CLASS_KEYS = (
    ClassKey("optimizer_class", "optimizer_params", "optimizer", _OPTIMIZERS),
    ClassKey("criterion_class", None, "loss", _CRITERIA),
    ClassKey("scheduler_class", "scheduler_params", "scheduler", _SCHEDULERS, no_class="none"),
)

_BY_CLASS = {kind.choice_field for kind in CLASS_KEYS} | {
    name for kind in CLASS_KEYS for known in kind.classes for name in known.fields.values()
}


def plain_fields(training_fields: Iterable[str]) -> tuple[str, ...]:
    """Return the fields of `TrainingConfig` that keep their own name in `training`."""
    return tuple(name for name in training_fields if name not in _BY_CLASS)

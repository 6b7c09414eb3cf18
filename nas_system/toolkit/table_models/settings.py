"""Settings of a sequence model on tables, checked before anything is trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, Field, ValidationError, model_validator

from nas_system.errors import ConfigError
from nas_system.space import FAMILIES, FamilyConfig, TrainingConfig
from nas_system.space.changes import explain
from nas_system.space.fields import ConfigModel
from nas_system.space.size_names import SIZE_NAMES, size_field
from nas_system.toolkit.table_models.networks import NETWORKS
from nas_system.training.acceleration.precision import best_half_precision
from nas_system.training.checkpoint import StateDict

Config = TypeVar("Config", bound=BaseModel)

NO_FRAME: Mapping[str, object] = {
    "normalization": "none",
    "linear_path": False,
    "decomposition": False,
    "channel_independence": False,
    "time_features": False,
}
"""Off: what forecasters of a series add around a network, which needs the target's own past or a clock."""


class SequenceSettings(ConfigModel):
    """One sequence model: which network, how large, and how it is trained."""

    family: str
    """Key of the network's family."""
    task: Literal["regression", "classification"] = "regression"
    """Numbers or classes."""
    input_size: int | Literal["auto"] = "auto"
    """Columns of X; "auto" takes what the first `fit` gets."""
    hidden_size: int
    """Width: hidden_size, d_model or d_ff of the family."""
    num_layers: int
    """Depth: num_layers or e_layers of the family."""
    seq_length: int = Field(ge=1, le=100_000)
    """Rows in a window."""
    dropout: float = 0.2
    """Share of activations dropped while training."""
    architecture: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the family, such as `bidirectional`."""
    stride: int = Field(default=1, ge=1)
    """Rows between the starts of two training windows."""
    validation_share: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of the last rows that is held out when `fit` gets no validation data; 0 trains on all."""
    epochs: int = 100
    """Most passes over the training data."""
    batch_size: int = Field(default=128, ge=1)
    """Windows per step."""
    learning_rate: float = 1e-3
    """At the start; for onecycle the highest."""
    optimizer: str = "adam"
    """adam, adamw or sgd."""
    weight_decay: float = 0.0
    """L2 penalty (adam, sgd) or decoupled decay (adamw)."""
    loss: str = "mse"
    """Of a regression: mse, mae or huber. A classification has the cross-entropy."""
    scheduler: str = "onecycle"
    """none, cosine, step, plateau or onecycle."""
    warmup_share: float = 0.3
    """One-cycle: share of all steps in which the rate rises."""
    early_stopping: int | None = Field(default=10, ge=1)
    """Epochs without a better validation metric before the training ends; None never stops early."""
    grad_clip: float = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    mixed_precision: bool = False
    """Use the device's best half precision in the network."""
    augmentation: str = "none"
    """How training windows are varied, see `augmentation.py`."""
    augmentation_strength: float = 0.1
    """Size of the variation."""
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    """Of everything random in `fit`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.task == "classification" and self.loss != "mse":
            raise ValueError(
                f"loss={self.loss!r}: a classification is trained with the cross-entropy; drop it"
            )
        return self

    @property
    def needs_positions(self) -> bool:
        """Whether the family cannot do without time marks; it then gets the place in the window."""
        return self.family == "informer"

    def network_config(self) -> FamilyConfig:
        """Return the family's configuration. Raises ConfigError, naming what does not fit."""
        known = FAMILIES[self.family].model_fields
        values = {name: value for name, value in NO_FRAME.items() if name in known}
        for word in SIZE_NAMES:
            field = size_field(self.family, word)
            assert field is not None
            values[field] = getattr(self, word)
        values["dropout"] = self.dropout
        if self.needs_positions:
            # Twice the width, as in the family's own default; the decoder starts from half the window.
            values |= {"d_ff": 2 * self.hidden_size, "label_len": self.seq_length // 2}
        config = validated(FAMILIES[self.family], values | self.architecture)
        if self.needs_positions and config.time_marks != "continuous":
            raise ConfigError(
                f"embed={self.architecture['embed']!r} reads a calendar, which X is not; drop it"
            )
        try:
            config.check_window(self.seq_length, 1)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return config

    def training_config(self, device: torch.device) -> TrainingConfig:
        """Return the training in the form of the search's configurations."""
        values = {
            "optimizer": self.optimizer,
            "lr": self.learning_rate,
            "weight_decay": self.weight_decay,
            "loss": self.loss,
            "scheduler": self.scheduler,
            "warmup_share": self.warmup_share,
            "augmentation": self.augmentation,
            "augmentation_strength": self.augmentation_strength,
            "max_epochs": self.epochs,
            "patience": self.early_stopping or self.epochs,
            "grad_clip": self.grad_clip,
            "precision": self.precision(device),
        }
        return validated(TrainingConfig, values)

    def precision(self, device: torch.device) -> str:
        """Return the number format of the network's matrix products on `device`."""
        return best_half_precision(device) if self.mixed_precision else "fp32"

    def as_arguments(self) -> StateDict:
        """Return the arguments of a model's constructor, as plain values."""
        return self.model_dump(exclude={"architecture"}) | self.architecture


def settings_from(arguments: Mapping[str, Any]) -> SequenceSettings:
    """Separate settings from the family's fields by name. Raises ConfigError for what is neither."""
    family = arguments.get("family")
    if family not in NETWORKS:
        why = "forecasts a series from its own past" if family in FAMILIES else "is not known"
        raise ConfigError(f"family={family!r} {why}; choose from: {', '.join(NETWORKS)}")
    own, fields = set(SequenceSettings.model_fields) - {"architecture"}, set(FAMILIES[family].model_fields)
    sizes = {size_field(family, word) for word in SIZE_NAMES}
    for name in arguments.keys() - own - (fields - sizes):
        close = difflib.get_close_matches(name, [*own, *fields], n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(own | fields))}"
        if name in sizes:
            hint = f"here it is {next(word for word in SIZE_NAMES if size_field(family, word) == name)}"
        raise ConfigError(f"a model of the family {family!r} has no setting {name!r}; {hint}")
    values = {name: value for name, value in arguments.items() if name in own}
    architecture = {name: value for name, value in arguments.items() if name not in own}
    settings = validated(SequenceSettings, values | {"architecture": architecture})
    settings.network_config()
    settings.training_config(torch.device("cpu"))
    return settings


def validated(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Validate `values` as a configuration. Raises ConfigError, naming every field that is wrong."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None

"""Criteria: one object that gives the loss, judges it in real units, and turns outputs into answers."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from nas_system.errors import ConfigError
from nas_system.training.mixed_criterion import MixedCriterion


class Criterion(Protocol):
    """What a criterion of one's own must offer; it is built with the data set, or with None."""

    def __call__(
        self, output: Tensor, target: Tensor, weights: Tensor | None = None, unscaled: bool = False
    ) -> Tensor:
        """A scalar: the loss for the gradient, or with `unscaled` the one for every decision."""
        ...

    def postproc(self, pred: Tensor) -> Tensor:
        """Raw network output to the answer a person reads."""
        ...


class CriterionObjective:
    """The engine's view of a criterion."""

    names = ("loss",)

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return self.criterion(output, target, weights=weight)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return torch.as_tensor(self.criterion(output, target, weights=weight, unscaled=True)).reshape(1)

    def postproc(self, output: Tensor) -> Tensor:
        return self.criterion.postproc(output)


def build_criterion(criterion: Any, dataset: Any, device: torch.device) -> Criterion:
    """`"auto"`, a class (or function) that is called with the data set, or a finished criterion."""
    if isinstance(criterion, str):
        if criterion != "auto":
            raise ConfigError(f"criterion={criterion!r} is not known; use 'auto' or a criterion of your own")
        criterion = MixedCriterion
    if isinstance(criterion, type) or not hasattr(criterion, "postproc"):
        built = criterion(dataset) if callable(criterion) and not isinstance(criterion, nn.Module) else None
    else:
        built = criterion
    if not callable(built) or not callable(getattr(built, "postproc", None)):
        raise ConfigError(
            "a criterion needs __call__(output, target, weights=None, unscaled=False) and postproc(pred); "
            f"got {criterion!r}"
        )
    return cast(Criterion, built.to(device) if isinstance(built, nn.Module) else built)


def criterion_record(criterion: Criterion) -> dict[str, Any]:
    """What a saved network says about its criterion, as plain values."""
    settings = criterion.settings() if type(criterion) is MixedCriterion else None
    return {"name": _name(criterion), "settings": settings}


def restore_criterion(
    record: dict[str, Any], present: Criterion | None, device: torch.device
) -> Criterion | None:
    """The criterion that `record` tells of: rebuilt if it is ours, else `present` if it is of that class."""
    if record["settings"] is not None:
        return MixedCriterion.from_settings(record["settings"]).to(device)
    if present is not None and _name(present) == record["name"]:
        return cast(Criterion, present.to(device) if isinstance(present, nn.Module) else present)
    return None


def _name(criterion: Criterion) -> str:
    return f"{type(criterion).__module__}:{type(criterion).__qualname__}"

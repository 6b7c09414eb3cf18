"""Criteria: one object that gives the loss, judges it in real units, and turns outputs into answers."""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.toolkit.mixed_criterion import MixedCriterion


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
        figure = self.criterion(output, target, weights=weight, unscaled=True)
        return torch.as_tensor(figure, device=output.device).reshape(1)

    def postproc(self, output: Tensor) -> Tensor:
        return self.criterion.postproc(output)


def build_criterion(criterion: Any, dataset: Any) -> Criterion:
    """`"auto"`, a class (or function) that is called with the data set, or a finished criterion."""
    if isinstance(criterion, str):
        if criterion != "auto":
            raise ConfigError(f"criterion={criterion!r} is not known; use 'auto' or a criterion of your own")
        criterion = MixedCriterion
    built = criterion(dataset) if isinstance(criterion, type | FunctionType | partial) else criterion
    if not callable(built) or not callable(getattr(built, "postproc", None)):
        raise ConfigError(
            "a criterion needs __call__(output, target, weights=None, unscaled=False) and postproc(pred); "
            f"{built!r} has not"
        )
    return cast(Criterion, built)


def criterion_record(criterion: Criterion) -> dict[str, Any]:
    """What a saved network says about its criterion, as plain values."""
    settings = criterion.settings() if type(criterion) is MixedCriterion else None
    return {"name": _name(criterion), "settings": settings}


def restore_criterion(record: dict[str, Any], present: Criterion | None) -> Criterion | None:
    """The criterion that `record` tells of: rebuilt if it is ours, else `present` if it is of that class."""
    if record["settings"] is not None:
        return MixedCriterion.from_settings(record["settings"])
    return present if present is not None and _name(present) == record["name"] else None


def _name(criterion: Criterion) -> str:
    return f"{type(criterion).__module__}:{type(criterion).__qualname__}"

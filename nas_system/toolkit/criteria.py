"""Criteria: one object for the loss, for its value in real units, and for turning outputs into answers."""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import Any, Protocol, TypedDict, cast

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.toolkit.mixed_criterion import MixedCriterion


class Criterion(Protocol):
    """The interface of a custom criterion; it is built with the data set, or with None."""

    def __call__(
        self, output: Tensor, target: Tensor, weights: Tensor | None = None, unscaled: bool = False
    ) -> Tensor:
        """Return a scalar: the loss for the gradient, or with `unscaled` the one for every decision."""
        ...

    def postproc(self, pred: Tensor) -> Tensor:
        """Turn raw network output into the answer a person reads."""
        ...


class CriterionObjective:
    """The engine's view of a criterion."""

    names = ("loss",)

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return self.criterion(output, target, weights=weight)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        value = self.criterion(output, target, weights=weight, unscaled=True)
        return torch.as_tensor(value, device=output.device).reshape(1)

    def postproc(self, output: Tensor) -> Tensor:
        return self.criterion.postproc(output)


def build_criterion(criterion: Any, dataset: Any) -> Criterion:
    """Build a criterion from `"auto"`, a class or function to be called with the data set, or an instance."""
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


class CriterionRecord(TypedDict):
    """A criterion in a saved network, as plain values."""

    name: str
    settings: dict[str, list[Any]] | None
    """Of a `MixedCriterion`; None for a custom one, which only its owner can build."""


def criterion_record(criterion: Criterion) -> CriterionRecord:
    settings = criterion.settings() if type(criterion) is MixedCriterion else None
    return {"name": _name(criterion), "settings": settings}


def restore_criterion(record: CriterionRecord, present: Criterion | None) -> Criterion | None:
    """Return the criterion of `record`: rebuilt if it is ours, else `present` if it is of that class."""
    if record["settings"] is not None:
        return MixedCriterion.from_settings(record["settings"])
    return present if present is not None and _name(present) == record["name"] else None


def _name(criterion: Criterion) -> str:
    return f"{type(criterion).__module__}:{type(criterion).__qualname__}"

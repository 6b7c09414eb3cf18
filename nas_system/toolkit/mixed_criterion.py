"""The standard criterion: squared error for the regression columns, cross-entropy for the yes-no columns.

Columns are the last axis of a target; a target that is a single number is one column. What a
column is and how it is scaled comes from the data set, or is found in its first items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_system.errors import ConfigError

ITEMS_EXAMINED = 1000
SMALLEST_SPREAD = 1e-150
"""A standard deviation below this, or above its inverse, has no square in double precision."""


class MixedCriterion(nn.Module):
    """Any mixture of regression and binary classification, with scaling of the regression columns.

    The network learns to return *scaled* values (mean 0, standard deviation 1) for regression
    columns and logits for classification columns; `postproc` turns both into answers.

    `dataset` may have `regression_flags` (1 = regression, 0 = classification, per column) and
    `scale = [mean, std]` (numbers or one value per column). What is missing is found in its first
    1,000 items: a column with nothing but 0 and 1 is classification. With None every column is
    regression and unscaled. Raises ConfigError for targets that cannot be analysed.
    """

    regression: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, dataset: Any = None) -> None:
        super().__init__()
        flags, scale = getattr(dataset, "regression_flags", None), getattr(dataset, "scale", None)
        targets = None
        if dataset is not None and (flags is None or (scale is None and bool(_vector(flags).any()))):
            targets = _first_targets(dataset)
        if flags is not None:
            regression = _flags(flags)
        elif targets is not None:
            regression = ~((targets == 0) | (targets == 1)).all(dim=0)
        else:
            regression = torch.ones(1, dtype=torch.bool)
        mean, std = _scale(scale, targets, regression)
        self._set(regression, mean, std)

    def forward(
        self, output: Tensor, target: Tensor, weights: Tensor | None = None, unscaled: bool = False
    ) -> Tensor:
        """Return the mean over all elements of weight x (squared error or cross-entropy), a scalar.

        `output` and `target` have one shape (B, ..., columns), or (B,). `weights` holds a number per
        item (B,) or per item and column (B, columns) and is not normalised. `unscaled` gives the
        squared error in the target's own units.
        """
        if output.shape != target.shape:
            raise ConfigError(
                f"the network returns shape {tuple(output.shape)} and the target has {tuple(target.shape)}; "
                "they must be equal (a single number is a target of shape (1,))"
            )
        if self._all_classification:
            losses = F.binary_cross_entropy_with_logits(output, target.to(output.dtype), reduction="none")
        else:
            # The statistics are float64: a large mean must not eat the digits of a small spread.
            scaled = ((target.to(self.mean.dtype) - self.mean) / self.std).to(output.dtype)
            error = output - scaled
            losses = (error * self.std if unscaled else error).square()
            if not self._all_regression:
                cross_entropy = F.binary_cross_entropy_with_logits(output, scaled, reduction="none")
                losses = torch.where(self.regression, losses, cross_entropy)
        return losses.mean() if weights is None else (losses * _spread(weights, losses)).mean()

    def postproc(self, pred: Tensor) -> Tensor:
        """Turn raw network output into values in the target's units, and probabilities."""
        values = (pred * self.std + self.mean).to(pred.dtype)
        return torch.where(self.regression, values, torch.sigmoid(pred))

    def settings(self) -> dict[str, list[Any]]:
        """Return the arguments of `from_settings`, as plain values."""
        return {
            "regression_flags": self.regression.int().tolist(),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    @classmethod
    def from_settings(cls, settings: dict[str, list[Any]]) -> MixedCriterion:
        """Rebuild a criterion from its `settings`, without its data set."""
        criterion = cls(None)
        mean, std = (torch.tensor(settings[key], dtype=torch.float64) for key in ("mean", "std"))
        criterion._set(torch.tensor(settings["regression_flags"], dtype=torch.bool), mean, std)
        return criterion

    def _set(self, regression: Tensor, mean: Tensor, std: Tensor) -> None:
        self.register_buffer("regression", regression)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        # Asked once here: asking a tensor on a GPU in every step would wait for the GPU.
        self._all_regression = bool(regression.all())
        self._all_classification = not bool(regression.any())


def class_check(criterion: Any, dataset: Any) -> Callable[[Any], None] | None:
    """Return what raises ConfigError, naming the item, for a batch with a class that is neither yes nor no.

    The cross-entropy would compute something of it. None where there is no yes-no column to check.
    """
    if type(criterion) is not MixedCriterion or bool(criterion.regression.all()):
        return None
    columns = (~criterion.regression).nonzero().flatten().cpu()

    def is_strange(target: Any) -> bool:
        target = torch.as_tensor(target)
        if len(columns) < len(criterion.regression):
            if not target.ndim or target.shape[-1] != len(criterion.regression):
                return False  # the criterion says what is wrong with the shape
            target = target[..., columns]
        return bool(((target < 0) | (target > 1)).any())

    def check(batch: Any) -> None:
        target = batch[-1] if isinstance(batch, tuple | list) else None
        if not isinstance(target, Tensor) or not is_strange(target):
            return
        number = next((number for number in range(len(dataset)) if is_strange(dataset[number][-1])), None)
        item = "an item" if number is None else f"item {number}"
        raise ConfigError(
            f"the target of {item} holds a class that is neither 0 nor 1 in a yes-no column "
            f"({', '.join(map(str, columns.tolist()))}, counted from 0); give each class a column of its "
            "own, or set regression_flags=1 there"
        )

    return check


def _first_targets(dataset: Any) -> Tensor:
    """Return the targets of the first items as rows of columns, float64."""
    advice = "set `regression_flags` and `scale = [mean, std]` on the dataset"
    count = min(len(dataset), ITEMS_EXAMINED)
    if count == 0:
        raise ConfigError("the dataset is empty: there is nothing to learn from")
    rows = [_target_of(dataset[i], i, advice) for i in range(count)]
    if len({row.shape for row in rows}) > 1:
        raise ConfigError(f"the targets of the first {count} items differ in shape; {advice}")
    targets = torch.stack(rows)
    targets = targets[:, None] if targets.ndim == 1 else targets.flatten(0, -2)
    broken = (~torch.isfinite(targets)).any(dim=0).nonzero().flatten().tolist()
    if broken:
        raise ConfigError(
            f"the first {count} targets hold NaN or infinity in column {broken[0]} (counted from 0)"
        )
    return targets


def _target_of(item: Any, index: int, advice: str) -> Tensor:
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise ConfigError(
            f"dataset[{index}] is not (input, target) or (input, weight, target); if that is meant, {advice}"
        )
    try:
        return torch.as_tensor(item[-1], dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"the target of dataset[{index}] cannot become a tensor ({error}); {advice}"
        ) from None


def _vector(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).detach().cpu().reshape(-1)


def _flags(flags: Any) -> Tensor:
    vector = _vector(flags)
    if not bool(((vector == 0) | (vector == 1)).all()):
        raise ConfigError(
            f"dataset.regression_flags={flags!r}: 1 for a regression column, 0 for a classification column"
        )
    return vector.bool()


def _scale(scale: Sequence[Any] | None, targets: Tensor | None, regression: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per column; 0 and 1 where nothing is scaled."""
    if scale is not None:
        if len(scale) != 2:
            raise ConfigError(f"dataset.scale must be [mean, std], not {scale!r}")
        mean, std = _vector(scale[0]), _vector(scale[1])
        if not bool((std > 0).all() and torch.isfinite(std).all() and torch.isfinite(mean).all()):
            raise ConfigError(f"dataset.scale={scale!r}: every std must be above 0, and all values finite")
    elif targets is not None:
        mean, std = targets.mean(dim=0), targets.std(dim=0, correction=0)
        # Of a constant column only the offset is known. Its std need not be exactly 0 in floats.
        std = torch.where(targets.amax(dim=0) == targets.amin(dim=0), 1.0, std)
    else:
        mean, std = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    try:
        regression, mean, std = torch.broadcast_tensors(regression, mean, std)
    except RuntimeError:
        raise ConfigError(
            f"the dataset names {len(regression)} regression_flags, {len(mean)} means and {len(std)} "
            "standard deviations; there must be one of each per target column"
        ) from None
    beyond = (regression & ~_can_be_squared(std)).nonzero().flatten().tolist()
    if beyond:
        column, at, spread = beyond[0], float(mean[beyond[0]]), float(std[beyond[0]])
        raise ConfigError(
            f"column {column} (counted from 0) of the targets spreads by about {spread:.0e} around {at:.0e}, "
            "and the square of that is no number; look for huge values, or give it in another unit, near 1"
        )
    return torch.where(regression, mean, 0.0), torch.where(regression, std, 1.0)


def _can_be_squared(std: Tensor) -> Tensor:
    return (std >= SMALLEST_SPREAD) & (std <= 1 / SMALLEST_SPREAD)


def _spread(weights: Tensor, losses: Tensor) -> Tensor:
    """Insert in weights (B,) or (B, columns) axes of length 1 in between, to fit losses (B, ..., columns)."""
    missing = (1,) * (losses.ndim - weights.ndim)
    return weights.to(losses.dtype).reshape(weights.shape[:1] + missing + weights.shape[1:])

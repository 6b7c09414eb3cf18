"""What a loader may hand to the engine, and how each kind is unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One batch as the loops use it: `model(*args)` is compared with `target`."""

    args: tuple[Any, ...]
    target: Tensor
    weight: Tensor | None
    n: int
    """Samples in the batch: epoch means are weighted by it."""


def unpack(batch: Any, device: torch.device) -> Batch:
    """Unpack by type: windows, (input, target), (input, weight, target), or {"X", "y"}.

    A list as input means several arguments: `net(*input)`. Raises TypeError for anything else.
    """
    if hasattr(batch, "args") and hasattr(batch, "target"):
        # Batches that already live on the device, as our window loader makes them.
        args, target, weight = batch.args, batch.target, batch.weight
    elif isinstance(batch, Mapping) and "X" in batch and "y" in batch:
        args, target, weight = (batch["X"],), batch["y"], batch.get("weight")
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        args, target, weight = _arguments(batch[0]), batch[1], None
    elif isinstance(batch, tuple | list) and len(batch) == 3:
        args, target, weight = _arguments(batch[0]), batch[2], batch[1]
    else:
        raise TypeError(
            f"cannot train on a batch of type {type(batch).__name__}; use (input, target), "
            "(input, weight, target), a mapping with X and y, or an object with args, target and weight"
        )
    return Batch(
        tuple(_move(argument, device) for argument in args),
        target.to(device, non_blocking=True),
        None if weight is None else weight.to(device, non_blocking=True),
        len(target),
    )


def _arguments(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _move(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if hasattr(value, "to") else value

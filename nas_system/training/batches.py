"""Kinds of batches that a loader may pass to the engine, and how each is unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

KINDS = (
    "(input, target), (input, weight, target), a mapping with X and y, a graph batch with num_graphs "
    "and y or edge_label, or an object with args, target and weight"
)


class Batch(NamedTuple):
    """One batch as the loops use it: `model(*args)` is compared with `target`."""

    args: tuple[Any, ...]
    target: Tensor
    weight: Tensor | None
    n: int
    """Samples in the batch, each with its target: epoch means are weighted by it."""


def unpack(batch: Any, device: torch.device) -> Batch:
    """Unpack by type: windows, (input, target), (input, weight, target), {"X", "y"}, or a graph batch.

    A list as input means several arguments: `net(*input)`. A graph batch is passed on whole.
    Raises TypeError for anything else.
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
    elif hasattr(batch, "num_graphs") and _graph_target(batch) is not None:
        return _graph_batch(batch, device)
    else:
        raise TypeError(f"cannot train on a batch of type {type(batch).__name__}; use {KINDS}")
    return Batch(
        tuple([_move(argument, device) for argument in args]),
        _move(target, device),
        None if weight is None else _move(weight, device),
        len(target),
    )


def unpack_arguments(batch: Any, device: torch.device) -> tuple[Any, ...]:
    """Return the arguments for the model. Needs no target: a tensor, (input,) or {"X"} is enough."""
    if isinstance(batch, Tensor):
        return (_move(batch, device),)
    if isinstance(batch, tuple | list) and len(batch) == 1:
        return tuple(_move(argument, device) for argument in _arguments(batch[0]))
    if isinstance(batch, Mapping) and "X" in batch:
        return (_move(batch["X"], device),)
    if hasattr(batch, "num_graphs"):
        return (_move(batch, device),)
    return unpack(batch, device).args


def _graph_batch(batch: Any, device: torch.device) -> Batch:
    graphs = _move(batch, device)
    target = _graph_target(graphs)
    # For pairs of nodes there are as many samples as labels, and graphs differ in their number.
    return Batch((graphs,), target, None, len(target))


def _graph_target(batch: Any) -> Any:
    """Return the labels of pairs of nodes, as PyTorch Geometric names them, else the graphs' targets."""
    labels = getattr(batch, "edge_label", None)
    return getattr(batch, "y", None) if labels is None else labels


def _arguments(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _move(value: Any, device: torch.device) -> Any:
    if (
        getattr(value, "device", None) == device
    ):  # the usual case, and cheaper than a call that changes nothing
        return value
    return value.to(device, non_blocking=True) if hasattr(value, "to") else value

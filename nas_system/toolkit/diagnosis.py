"""Why a training failed, in the words of its data: the item at fault is looked for when it is too late.

Nothing is examined before a training, which therefore costs and computes what it did: once a loss is NaN,
or torch refuses a batch, the data are read again, with the random state kept.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from nas_system.errors import ConfigError, Diverged, first_line
from nas_system.graphs.checks import is_graph
from nas_system.toolkit.watched_loader import WatchedLoader
from nas_system.training.engine import Engine
from nas_system.training.reproducibility import random_state_kept
from nas_system.training.running_mean import NoBatches

SEARCHED_S = 20.0
"""How long items are looked through."""
HUGE = math.sqrt(torch.finfo(torch.float32).max)
"""Beyond it a square is infinite in single precision."""
ONE_VALUE = "Expected more than 1 value per channel when training"
OUT_OF_BOUNDS = re.compile(r"Target (-?\d+) is out of bounds")
CLASS_ERRORS = ("is out of bounds", "Class values must be", "device-side assert")
REFUSALS = (AttributeError, ConfigError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
DTYPE_ERRORS = ("must have the same dtype", "expected scalar type", "Found dtype", "Input type")
GRAPH_PARTS = ("x", "edge_attr", "edge_label", "y")

Fault = Callable[[str, Any], str | None]
"""Returns what is wrong with a part of an item (its name, its value), or None."""


@contextmanager
def explained(
    engine: Engine, loaders: Sequence[WatchedLoader], advice: str, n_classes: int | None = None
) -> Iterator[None]:
    """Say of an error inside which loader and item it comes from, if the data are to blame.

    `advice` is what to do about a loss that becomes NaN with sound data. Raises ConfigError for data that
    cannot be trained on, Diverged for a loss that is not finite; other errors pass.
    """
    earlier = len(engine.history)
    try:
        yield
    except Diverged as error:
        is_first = len(engine.history) == earlier
        raise Diverged(_why_diverged(error, engine, loaders, advice, is_first), error.numbers) from error
    except NoBatches:
        empty = next((loader for loader in loaders if loader.is_empty), loaders[-1])
        raise ConfigError(empty.why_empty()) from None
    except REFUSALS as error:
        for loader in loaders:
            loader.check_graphs()
        message = _why_refused(error, loaders, n_classes) or _other_precision(error, engine, loaders)
        if message is None:
            raise
        raise ConfigError(message) from None


def _why_diverged(
    error: Diverged, engine: Engine, loaders: Sequence[WatchedLoader], advice: str, is_first: bool
) -> str:
    text = f"a loss became NaN or infinite in epoch {len(engine.history) + 1}"
    # An error that knows its epoch is of the score after it.
    suspects = reversed(loaders) if "epoch" in error.numbers else loaders
    for loader in suspects:
        found = find_fault(loader, _not_finite) or find_fault(loader, _huge)
        if found and is_first:
            return f"{text}; the learning rate is not to blame: {found}; fix it or leave it out"
        if found:
            # A network that hides NaN from itself has had an epoch with these data.
            return f"{text}; {found}; fix it or leave it out, or if the network expects it, {advice}"
    undefined = _undefined_metric(error, engine, loaders)
    if undefined is not None:
        return undefined
    if any(loader.reads_once for loader in loaders):
        return (
            f"{text}; look for NaN and huge values in the data, which cannot be read again here, or {advice}"
        )
    return f"{text}; {advice}"


def _undefined_metric(error: Diverged, engine: Engine, loaders: Sequence[WatchedLoader]) -> str | None:
    """Return the message about a metric that has no value although the loss has one."""
    metric, loader = engine.monitor, loaders[-1]
    if "epoch" not in error.numbers or metric in (None, *engine.objective.names) or loader.reads_once:
        return None
    metrics = engine.evaluate(loader)
    if not all(math.isfinite(metrics[name]) for name in engine.objective.names):
        return None
    return (
        f"{metric} has no value on the {loader.part} data, where the loss has one (roc_auc and ap need "
        "samples of both classes); choose another metric_for_best or other data"
    )


def _why_refused(error: Exception, loaders: Sequence[WatchedLoader], n_classes: int | None) -> str | None:
    text = first_line(error)
    if ONE_VALUE in text:
        return (
            "a training batch has one item, and batch normalization needs two to compute a variance: leave "
            "out a last batch of one with DataLoader(..., drop_last=True), or choose another batch_size"
        )
    if not any(sign in text for sign in CLASS_ERRORS):
        return None
    named = OUT_OF_BOUNDS.search(text)
    for loader in loaders:
        if n_classes is not None:
            found = find_fault(loader, lambda part, value: _class_beyond(part, value, n_classes))
        else:
            found = named and find_fault(loader, lambda part, value: _class_is(part, value, int(named[1])))
        if found:
            return found
    if "device-side assert" in text:
        return (
            "a CUDA kernel met an index that is out of range, most often a target that is no class of the "
            'network; device="cpu" says which'
        )
    if named is None:
        return None
    return f"a target is {named[1]}, which the network has no output for; classes count from 0"


def _other_precision(error: Exception, engine: Engine, loaders: Sequence[WatchedLoader]) -> str | None:
    """Return the message about data of another precision than the network's, if torch refused to mix them."""
    if not any(sign in first_line(error) for sign in DTYPE_ERRORS):
        return None
    own = next((p.dtype for p in engine.model.parameters() if p.is_floating_point()), torch.float32)
    for loader in loaders:
        found = find_fault(loader, lambda part, value: _other_kind(value, own))
        if found:
            return (
                f"{found}, and the network computes in {own}; torch does not mix them: convert the data with "
                f".to({own}) if no number is above {torch.finfo(own).max:.0e}, or else the network"
            )
    return None


# --- faults of values -----------------------------------------------------------------------


def _not_finite(part: str, value: Any) -> str | None:
    return _first_of(value, lambda numbers: ~torch.isfinite(numbers))


def _huge(part: str, value: Any) -> str | None:
    return _first_of(value, lambda numbers: numbers.abs() > HUGE)


def _class_beyond(part: str, value: Any, n_classes: int) -> str | None:
    if part != "target":
        return None
    found = _first_of(value, lambda numbers: (numbers < 0) | (numbers >= n_classes))
    return found and f"{found}, but {n_classes} classes are numbered from 0 to {n_classes - 1}"


def _class_is(part: str, value: Any, number: int) -> str | None:
    found = _first_of(value, lambda numbers: numbers == number) if part == "target" else None
    return found and f"{found}, which the network has no output for; classes count from 0"


def _other_kind(value: Any, own: torch.dtype) -> str | None:
    if isinstance(value, list | tuple | Mapping):
        values = value.values() if isinstance(value, Mapping) else value
        return next((found for one in values if (found := _other_kind(one, own))), None)
    if not isinstance(value, Tensor | np.ndarray):
        return None
    kind = torch.as_tensor(value).dtype
    return str(kind) if kind.is_floating_point and kind != own else None


def _first_of(value: Any, is_bad: Callable[[Tensor], Tensor]) -> str | None:
    """Return the first bad number in a part of an item, and its place; None if there is none."""
    if isinstance(value, list | tuple | Mapping):
        values = value.values() if isinstance(value, Mapping) else value
        return next((found for one in values if (found := _first_of(one, is_bad))), None)
    if not isinstance(value, Tensor | np.ndarray | np.number | float | int):
        return None
    numbers = torch.as_tensor(value).detach().cpu()
    if numbers.dtype == torch.bool or numbers.is_complex():
        return None
    places = is_bad(numbers).nonzero()
    if not len(places):
        return None
    place = places[0].tolist()
    at = f" at [{', '.join(map(str, place))}]" if numbers.numel() > 1 else ""
    return f"{float(numbers[tuple(place)]):g}{at}"


# --- items of loaders -----------------------------------------------------------------------


def find_fault(loader: WatchedLoader, fault: Fault) -> str | None:
    """Return the first item that `fault` finds something wrong with, and what; None if there is none.

    Items count from 0, in their data set and not in the order of batches.
    """
    if loader.reads_once:
        return None
    until = time.monotonic() + SEARCHED_S
    # A sampler may ask for items by other keys than numbers.
    with random_state_kept(cuda=False), suppress(IndexError, KeyError):
        for name, item in _items_of(loader.source):
            for part, value in _parts_of(item):
                found = fault(part, value)
                if found:
                    return f"the {part} of {loader.part} {name} is {found}"
            if time.monotonic() > until:
                break
    return None


def _items_of(source: Any) -> Iterator[tuple[str, Any]]:
    dataset: Any = getattr(source, "dataset", None)
    by_number = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if by_number and not isinstance(dataset, IterableDataset):
        for number, item in _numbered(dataset):
            yield f"{'graph' if is_graph(item) else 'item'} {number}", item
    else:
        for number, batch in enumerate(source):
            yield f"batch {number}", batch


def _numbered(dataset: Any) -> Iterator[tuple[int, Any]]:
    """Yield the items with their numbers in the whole data set, of which this may be a part."""
    is_part = isinstance(dataset, Subset)
    numbers: Iterable[int] = sorted(set(map(int, dataset.indices))) if is_part else range(len(dataset))
    whole = dataset.dataset if is_part else dataset
    return ((number, whole[number]) for number in numbers)


def _parts_of(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield input, weight and target of an item or a batch, as the engine reads them (see `unpack`)."""
    if hasattr(item, "args") and hasattr(item, "target"):
        yield from (("input", item.args), ("weight", item.weight), ("target", item.target))
    elif is_graph(item):
        yield from ((name, getattr(item, name, None)) for name in GRAPH_PARTS[:2])
        yield from (("target", getattr(item, name, None)) for name in GRAPH_PARTS[2:])
    elif isinstance(item, Mapping):
        names = {"X": "input", "y": "target"}
        yield from ((names.get(str(name), str(name)), value) for name, value in item.items())
    elif isinstance(item, tuple | list) and len(item) in (2, 3):
        names = ("input", "target") if len(item) == 2 else ("input", "weight", "target")
        yield from zip(names, item, strict=True)
    else:
        yield "value", item

"""Data sets of items: the split into training and validation, and the loaders that walk them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)

from nas_system.errors import ConfigError
from nas_system.toolkit.diagnosis import ONE_VALUE
from nas_system.training.batches import unpack_arguments
from nas_system.training.reproducibility import random_state_kept

# Any fixed number will do, but it must never change: a network whose training is continued would then
# see its validation items in training.
SPLIT_SEED = 618
SECONDS_BETWEEN_LINES = 10.0


def split_indices(length: int, train_prop: float, shuffle: bool) -> tuple[list[int], list[int]]:
    """Return the indices for training and for validation, always the same for the same arguments.

    With `shuffle` a random choice, without it the head and the tail. Both parts have at least one
    item. Raises ConfigError for fewer than two items or a proportion outside (0, 1).
    """
    if not 0 < train_prop < 1:
        raise ConfigError(f"train_prop={train_prop}: must lie between 0 and 1, both excluded")
    if length < 2:
        raise ConfigError(f"the dataset has {length} items; training and validation need one each")
    order = torch.arange(length)
    if shuffle:
        order = torch.randperm(length, generator=torch.Generator().manual_seed(SPLIT_SEED))
    cut = min(max(round(length * train_prop), 1), length - 1)
    return order[:cut].tolist(), order[cut:].tolist()


class ChosenItems(Subset):
    """Some items of a data set, fetched a whole batch at a time.

    That is where `switch_state` belongs: inside the process that makes the batch, before its first item.
    """

    def __getitems__(self, indices: list[int]) -> list[Any]:
        if hasattr(self.dataset, "switch_state"):
            self.dataset.switch_state()  # pyright: ignore[reportAttributeAccessIssue]
        return [self.dataset[self.indices[index]] for index in indices]


class LoggedLoader:
    """A loader that logs its progress every few seconds."""

    def __init__(
        self,
        loader: DataLoader,
        doing: str,
        log: Callable[[str], None],
        every_s: float = SECONDS_BETWEEN_LINES,
        check: Callable[[Any], None] | None = None,
    ) -> None:
        """`check` sees every batch before it is used, on the CPU, and raises what is wrong with it."""
        self.loader = loader
        self.doing = doing
        self.log = log
        self.every_s = every_s
        self.check = check

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        last = time.monotonic()
        for done, batch in enumerate(self.loader, start=1):
            if self.check is not None:
                self.check(batch)
            yield batch
            if time.monotonic() - last > self.every_s:
                last = time.monotonic()
                self.log(f"  {self.doing}: {done} of {len(self)} batches")


class MergedBatches(BatchSampler):
    """Batches of `batch_size` items, of which a last one of a single item joins the one before it."""

    def __len__(self) -> int:
        return max(1, super().__len__() - self._ends_in_one)

    def __iter__(self) -> Iterator[list[int]]:
        batches = super().__iter__()
        for _ in range(len(self) - 1):
            yield next(batches)
        yield list(chain(*batches))

    @property
    def _ends_in_one(self) -> bool:
        return len(self.sampler) % self.batch_size == 1  # pyright: ignore[reportArgumentType]


def refuses_one_item(net: nn.Module, dataset: Any, index: int, device: torch.device) -> bool:
    """Return whether batch normalization keeps the network from training on a batch of this item alone.

    A copy is tried: batch norm over an image, say, has many values of one item. The random state is kept.
    """
    if not any(isinstance(module, _BatchNorm) for module in net.modules()):
        return False
    with random_state_kept(cuda=device.type == "cuda"), torch.no_grad():
        batch = (getattr(dataset, "collate_fn", None) or default_collate)([dataset[index]])
        try:
            copy.deepcopy(net).train()(*unpack_arguments(batch, device))
        except (RuntimeError, TypeError, ValueError) as error:
            return ONE_VALUE in str(error)
    return False


def build_loader(
    dataset: Any,
    indices: Sequence[int],
    *,
    batch_size: int,
    device: torch.device,
    shuffle: bool = False,
    n_workers: int = 0,
    merges_last: bool = False,
) -> DataLoader:
    """Return a loader over the items at `indices`, with the data set's own `collate_fn` if it has one.

    Workers are started again in every epoch, so that they see what a hook changed in the data set.
    `merges_last`: a last batch of one item joins the batch before it.
    """
    items = ChosenItems(dataset, indices)
    batches: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle}
    if merges_last:
        sampler = RandomSampler(items) if shuffle else SequentialSampler(items)
        batches = {"batch_sampler": MergedBatches(sampler, batch_size, drop_last=False)}
    return DataLoader(
        items,
        **batches,
        num_workers=n_workers,
        collate_fn=getattr(dataset, "collate_fn", None),
        pin_memory=device.type == "cuda",
    )

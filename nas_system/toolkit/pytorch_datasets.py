"""Data sets of items: the split into training and validation, and the loaders that walk them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from nas_system.errors import ConfigError

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


class ChosenItems(Dataset):
    """Some items of a data set, fetched a whole batch at a time.

    That is where `switch_state` belongs: inside the process that makes the batch, before its first item.
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, positions: list[int]) -> list[Any]:
        if hasattr(self.dataset, "switch_state"):
            self.dataset.switch_state()
        return [self.dataset[self.indices[position]] for position in positions]


class LoggedLoader:
    """A loader that logs its progress every few seconds."""

    def __init__(
        self,
        loader: DataLoader,
        doing: str,
        log: Callable[[str], None],
        every_s: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self.loader = loader
        self.doing = doing
        self.log = log
        self.every_s = every_s

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        last = time.monotonic()
        for done, batch in enumerate(self.loader, start=1):
            yield batch
            if time.monotonic() - last > self.every_s:
                last = time.monotonic()
                self.log(f"  {self.doing}: {done} of {len(self)} batches")


def build_loader(
    dataset: Any,
    indices: Sequence[int],
    *,
    batch_size: int,
    device: torch.device,
    shuffle: bool = False,
    n_workers: int = 0,
) -> DataLoader:
    """Return a loader over the items at `indices`, with the data set's own `collate_fn` if it has one.

    Workers are started again in every epoch, so that they see what a hook changed in the data set.
    """
    return DataLoader(
        ChosenItems(dataset, indices),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=n_workers,
        collate_fn=getattr(dataset, "collate_fn", None),
        pin_memory=device.type == "cuda",
    )

"""Reads pickles of plain values, arrays and tensors without running anything that is in them.

A pickle is a program: unpickling a file runs it. Here it can name nothing but the few functions
that numpy and torch write numbers with, and each of them is replaced by one of ours that records shapes and
bytes. `load` makes a tensor of them when it is needed, so that a few items out of many are cheap.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_system.errors import ConfigError

DAMAGED = (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What reading a truncated or foreign file raises."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it is stored in the file: the bytes of its storage and its place in it."""

    storage: bytes
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self) -> Tensor:
        """Return the tensor. Raises UnpicklingError, RuntimeError or ValueError for bytes that hold none."""
        storage = torch.load(io.BytesIO(self.storage), map_location="cpu", weights_only=True)
        if not isinstance(storage, torch.storage.TypedStorage):
            raise ValueError(f"a tensor's storage is a {type(storage).__name__}")
        flat = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
        # Checks that shape and stride stay inside the storage; `set_` would enlarge it.
        return flat.as_strided(self.shape, self.stride, self.offset).clone()


def load_plain_pickle(path: Path) -> Any:
    """Return the value in `path`, with `StoredTensor` for tensors. Raises ConfigError, naming the file."""
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file).load()
    except DAMAGED as error:
        raise ConfigError(f"{path} cannot be read ({error}); get the file again") from None


def _rebuild_tensor(storage: bytes, offset: int, shape: Sequence[int], stride: Sequence[int], *_: Any):
    if not isinstance(storage, bytes):
        raise pickle.UnpicklingError("a tensor without storage")
    return StoredTensor(storage, int(offset), tuple(shape), tuple(stride))


def _storage_bytes(content: bytes) -> bytes:
    """Replace the function of torch that would unpickle `content` without any limit."""
    return content


def _encode(text: str, encoding: str) -> bytes:
    """Replace the function with which protocol 2 writes bytes."""
    return text.encode(encoding)


class _NumberType:
    """Replaces numpy.dtype: plain numbers only, so that no bytes are ever read as objects."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.order = state[1]

    def numbers(self, content: bytes) -> np.ndarray:
        if self.code[:1] not in "biuf" or self.order not in "<>=|":
            raise pickle.UnpicklingError(f"an array of {self.code!r}, which is no type of numbers")
        return np.frombuffer(content, np.dtype(self.order + self.code))


class StoredArray:
    """A numpy array as it is stored in the file."""

    def __init__(self, *_: Any) -> None:
        self.state: Sequence[Any] = ()

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.state = state

    def load(self) -> Tensor:
        """Return the array as a tensor. Raises UnpicklingError or ValueError for bytes that hold none."""
        _, shape, kind, is_fortran, content = self.state
        numbers = kind.numbers(content).reshape(shape, order="F" if is_fortran else "C")
        # Torch knows only the byte order of this machine.
        return torch.from_numpy(numbers.astype(numbers.dtype.newbyteorder("=")))


def _scalar(kind: _NumberType, content: bytes) -> int | float:
    return kind.numbers(content).item()


_ADMITTED = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): _storage_bytes,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _NumberType,
    # numpy writes the class itself, which is only ever passed to `_reconstruct`.
    ("numpy", "ndarray"): StoredArray,
    # The package was renamed with numpy 2.
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.multiarray", "_reconstruct"): StoredArray,
    ("numpy._core.multiarray", "_reconstruct"): StoredArray,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        admitted = _ADMITTED.get((module_name, global_name))
        if admitted is None:
            raise pickle.UnpicklingError(
                f"it names {module_name}.{global_name}, which is neither a plain value nor a tensor"
            )
        return admitted

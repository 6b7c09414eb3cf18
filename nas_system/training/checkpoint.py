"""Checkpoints: tensors and plain values only, written atomically, with a checksum.

Whoever wrote a file may be hostile: what is read here costs memory in proportion to the file's size, runs no
code of it, and ends in the content or a StateError.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from nas_system.errors import StateError, first_line
from nas_system.files import open_regular_file, write_atomic
from nas_system.training.preflight.memory import MIB, available_mb

SCHEMA_VERSION = 1

StateDict = dict[str, Any]
"""State as torch saves it: tensors and plain values by name, nested."""

LARGEST_PICKLE_BYTES = 64 * 2**20
"""Everything in a checkpoint but the numbers of its tensors. A thousand epochs of history take 0.2 MiB."""
_MOST_NESTED = 100
"""Tuples in tuples. Python's hash of a million of them overflows the stack of the process."""
_PLAIN_CLASSES = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch Size",
        "torch device",
        *("builtins set", "__builtin__ set", "builtins complex", "__builtin__ complex"),
        *(f"torch {name}" for name in ("float64", "float32", "float16", "bfloat16", "bool", "uint8")),
        *(f"torch {name}" for name in ("int8", "int16", "int32", "int64", "complex64", "complex128")),
        *(f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Bool", "Byte", "Char")),
        *(f"torch {kind}Storage" for kind in ("Short", "Int", "Long", "ComplexFloat", "ComplexDouble")),
    }
)
"""What `save_checkpoint` names. Of the rest of what torch loads, some makes terabytes of one number."""
_ATOMS = frozenset(
    {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
)
_EMPTY = frozenset({"EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_POPS = {"SETITEM": 2, "APPEND": 1, "BUILD": 1, "REDUCE": 1}
_MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE)
_UNREADABLE = (
    *(RuntimeError, EOFError, ValueError, OSError, LookupError, TypeError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, zipfile.BadZipFile),
)
"""What zipfile, pickle and torch raise for files that are no checkpoints."""


def save_checkpoint(path: Path, content: StateDict) -> str:
    """Write `content` next to `path`, then move it there; return its SHA-256.

    A full disk or a kill in the middle leaves the previous checkpoint as it was. Raises OSError.
    """
    data = checkpoint_bytes(content)
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()


def checkpoint_bytes(content: StateDict) -> bytes:
    """Return what `save_checkpoint` writes."""
    # Through memory: torch.save reports a full disk as a RuntimeError about positions in its archive.
    buffer = io.BytesIO()
    torch.save({"schema_version": SCHEMA_VERSION} | content, buffer)
    return buffer.getvalue()


def load_checkpoint(
    path: Path, device: torch.device | str = "cpu", *, sha256: str | None = None, follow_link: bool = True
) -> StateDict:
    """Read a checkpoint without running code from it.

    Raises StateError for a missing, damaged, foreign or newer file, saying which; OSError where this process
    can open no file at all.
    """
    try:
        with open_regular_file(path, follow_link=follow_link) as file:
            if sha256 is not None and _sha256_of(file) != sha256:
                raise StateError(
                    f"{path}: the file's SHA-256 is not {sha256!r:.70}; it was changed or damaged"
                )
            _check_archive(file, path)
            file.seek(0)
            content = torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise StateError(f"{path}: there is no checkpoint here") from None
    except pickle.UnpicklingError:
        # Without torch's own message, which explains how to run the code after all.
        raise StateError(f"{path}: refused, it holds more than tensors and plain values") from None
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise StateError(f"{path}: not a readable checkpoint ({reason:.200})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise StateError(f"{path}: not a checkpoint of this program (no schema_version)")
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path}: schema {version:.3g} is newer than this program's {SCHEMA_VERSION}; update it"
        )
    return content


def restore_model(build_model: Callable[[], nn.Module], content: StateDict, path: Path) -> nn.Module:
    """Build a model and give it the weights in `content`, read from `path`; it stays on the CPU.

    Raises StateError for weights of another model, and for a model larger than the file: what a
    configuration asks for is not allocated for weights that are not there.
    """
    try:
        with _no_more_parameters_than(path.stat().st_size):
            model = build_model()
    except (RuntimeError, MemoryError) as error:
        raise StateError(f"{path}: its model cannot be built ({first_line(error):.200})") from None
    weights, expected = content.get("model"), model.state_dict()
    fault = _fault_of_weights(weights, expected)
    if fault is not None:
        raise StateError(
            f"{path}: the weights are not those of the configuration next to them ({fault}); use the "
            "version (and the INFORMER2020_PATH) of the training, or train the run again"
        )
    model.load_state_dict(weights)  # pyright: ignore[reportArgumentType]
    return model


def _fault_of_weights(weights: object, expected: dict[str, Any]) -> str | None:
    """Return why `weights` cannot stand for the state dict `expected`; None if they can."""
    if not isinstance(weights, dict):
        return "it has none"
    for name in weights:
        if name not in expected:
            return f"the model has no {name!r:.60}"
    for name, tensor in expected.items():
        found = weights.get(name)
        if not isinstance(tensor, Tensor):
            continue
        if not isinstance(found, Tensor):
            return f"{name} is missing"
        if found.layout is not torch.strided or found.is_meta or found.is_quantized:
            return f"{name} is no plain tensor"
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            return f"{name} is {_spelled(found)}, not {_spelled(tensor)}"
    return None


def _spelled(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)!s:.60}"


@contextmanager
def _no_more_parameters_than(n_bytes: int) -> Iterator[None]:
    """Raise RuntimeError inside as soon as modules register parameters that `n_bytes` cannot hold."""
    seen: dict[int, nn.Parameter] = {}
    held = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal held
        if parameter is None or id(parameter) in seen:
            return
        seen[id(parameter)] = parameter
        held += parameter.numel() * parameter.element_size()
        # Weight normalization registers a weight, and then its direction and size in place of it.
        if held > 3 * n_bytes:
            raise RuntimeError(f"it is larger than the {n_bytes:,} bytes of this file")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _sha256_of(file: BinaryIO) -> str:
    return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()


# --- what torch.load does not look at ---------------------------------------------------------------


def _check_archive(file: BinaryIO, path: Path) -> None:
    """Raise StateError for damage, which torch would load as other weights, and for what would grow."""
    size = os.fstat(file.fileno()).st_size
    # Twice: as a part of the file, and as the tensor made of it.
    if 2 * size > available_mb(torch.device("cpu")) * MIB:
        raise ValueError(f"{size:,} bytes, for which there is no memory")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > size:
            raise StateError(f"{path}: refused, it is packed, as no checkpoint of this program is")
        names = [member.filename.lower() for member in members]
        pickles = [member for member in members if member.filename.lower().endswith("/data.pkl")]
        # Two readers of an ambiguous archive may take two different members: torch's is not zipfile.
        if archive.comment or len(set(names)) != len(names) or len(pickles) != 1:
            raise ValueError("no archive as torch writes it")
        if pickles[0].file_size > LARGEST_PICKLE_BYTES:
            raise ValueError(f"{pickles[0].file_size:,} bytes besides its tensors")
        damaged = archive.testzip()
        if damaged is not None:
            raise StateError(f"{path}: {damaged} in it was changed or damaged: its CRC-32 differs")
        _check_pickle(archive.read(pickles[0]))


def _check_pickle(content: bytes) -> None:
    """Follow a pickle without building anything. Raises UnpicklingError for more than plain values.

    On the stack and in the memo stands how deeply each value nests tuples.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    for opcode, value, _ in pickletools.genops(content):
        name, argument = opcode.name, cast(Any, value)
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _ATOMS or name in _EMPTY:
            stack.append(0)
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE" or name in _TUPLES:
            begin = marks.pop() if name == "TUPLE" else len(stack) - _TUPLES[name]
            depth = 1 + max(stack[begin:], default=0)
            if begin < 0 or depth > _MOST_NESTED:
                raise ValueError("its values are nested too deeply")
            stack[begin:] = [depth]
        elif name in ("SETITEMS", "APPENDS"):
            del stack[marks.pop() :]
        elif name == "GLOBAL" and argument in _PLAIN_CLASSES:
            stack.append(0)
        elif name == "BINPERSID":
            stack[-1] = 0
        elif name in _POPS:
            del stack[len(stack) - _POPS[name] :]
            if name == "REDUCE":
                stack[-1] = 0
        elif name not in ("PROTO", "STOP"):
            raise pickle.UnpicklingError(f"{name} {argument!s:.100}")

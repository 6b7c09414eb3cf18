"""Torch operators that torch's tracing exporter to ONNX lacks, or writes for one batch size only.

The tracing exporter keeps recurrent layers whole. The one after it (`dynamo=True`) unrolls a decoder of 96
steps into thousands of nodes, which took it longer than four minutes where this one needs seconds.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.onnx import symbolic_helper

OPSET = 18
"""The version of ONNX's operators that the graph is written in."""


@contextmanager
def added_operators() -> Iterator[None]:
    """Let `torch.onnx.export` know these operators for a while, and drop what it prints: advice to use the
    other exporter, shapes it cannot infer, the whole graph where it fails."""
    with warnings.catch_warnings(), _without_output():
        warnings.simplefilter("ignore")
        for name, write in OPERATORS.items():
            torch.onnx.register_custom_op_symbolic(name, write, OPSET)  # pyright: ignore
        try:
            yield
        finally:
            for name in OPERATORS:
                torch.onnx.unregister_custom_op_symbolic(name, OPSET)  # pyright: ignore


@contextmanager
def _without_output() -> Iterator[None]:
    """Drop what this process prints, also from C++, which knows file descriptors only."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, own in kept:
            os.dup2(own, number)
            os.close(own)
        os.close(nowhere)


def _transposed(g: Any, x: Any) -> Any:
    """`x.mT`"""
    *first, rows, columns = range(x.type().dim())
    return g.op("Transpose", x, perm_i=[*first, columns, rows])


def _unflattened(g: Any, x: Any, dim: Any, sizes: Any) -> Any:
    """`x.unflatten(dim, sizes)`; torch's own fixes the batch size where it has lost a later one."""
    rank = x.type().dim()
    dim = symbolic_helper._parse_arg(dim, "i") % rank
    new = [sizes]
    if symbolic_helper._is_packed_list(sizes):
        new = [
            symbolic_helper._unsqueeze_helper(g, size, [0]) for size in symbolic_helper._unpack_list(sizes)
        ]
    before = [_constant(g, [0] * dim)] if dim else []  # 0 keeps a size
    after = g.op("Slice", g.op("Shape", x), _constant(g, [dim + 1]), _constant(g, [rank]))
    return g.op("Reshape", x, g.op("Concat", *before, *new, after, axis_i=0))


def _unfolded(g: Any, x: Any, dim: Any, size: Any, step: Any) -> Any:
    """`x.unfold(-1, size, step)`; torch's own needs a length that is known beforehand."""
    last = x.type().dim() - 1
    dim, size, step = (symbolic_helper._parse_arg(value, "i") for value in (dim, size, step))
    if dim % (last + 1) != last:
        raise ValueError("unfold is written for the last dimension only")
    length = g.op("Gather", g.op("Shape", x), _constant(g, last), axis_i=0)
    end = g.op("Sub", length, _constant(g, size - 1))
    starts = g.op("Range", _constant(g, 0), end, _constant(g, step))
    places = g.op("Add", g.op("Unsqueeze", starts, _constant(g, [1])), _constant(g, list(range(size))))
    return g.op("Gather", x, places, axis_i=last)


def _constant(g: Any, value: int | list[int]) -> Any:
    return g.op("Constant", value_t=torch.tensor(value))


OPERATORS = {"aten::mT": _transposed, "aten::unflatten": _unflattened, "aten::unfold": _unfolded}

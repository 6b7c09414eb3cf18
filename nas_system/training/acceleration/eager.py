"""Optimizers without torch's compiler: saves about a second at the start of every training.

Every `torch.optim` object imports `torch._dynamo` at its first use, only to mark where a
*compiled* program would have to stop. An eager training compiles nothing. The marks are
private names of torch, so everything here falls back to torch's own way where they are
missing; a test checks that the shortcut still works with the torch that is pinned.
"""

from __future__ import annotations

import functools
import inspect
import types

import torch
from torch.optim import Optimizer


def skip_compiler_import() -> None:
    """Mark the bookkeeping methods of `torch.optim` as free of the compiler. Call before building one."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if inspect.isfunction(plain):
            vars(plain).setdefault("__dynamo_disable", plain)


def step_eagerly(optimizer: Optimizer) -> Optimizer:
    """Reduce the optimizer's `step` to torch's own update under no_grad."""
    plain = inspect.unwrap(type(optimizer).step)

    @functools.wraps(plain)
    @torch.no_grad()
    def step(self: Optimizer, closure: None = None) -> None:
        plain(self)

    optimizer.step = types.MethodType(step, optimizer)
    return optimizer

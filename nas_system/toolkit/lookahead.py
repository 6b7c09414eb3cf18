"""RAdam + Lookahead: an optimizer that warms itself up and averages its own path.

RAdam: Liu, Jiang, He, Chen, Liu, Gao, Han 2020, "On the Variance of the Adaptive Learning Rate
and Beyond", arXiv:1908.03265. Lookahead: Zhang, Lucas, Hinton, Ba 2019, "Lookahead Optimizer:
k steps forward, 1 step back", arXiv:1907.08610, algorithm 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import RAdam


class RAdamLookahead(RAdam):
    """RAdam whose weights are pulled back towards slow weights after every `sync_every` steps.

    The slow weights lie in the optimizer's own state, next to RAdam's moments. So `state_dict`,
    `load_state_dict` and a restart by `state.clear()` need nothing extra.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, *, sync_every: int = 5, slow_step: float = 0.5, **radam: Any
    ) -> None:
        super().__init__(params, lr=lr, **radam)
        lookahead = {"sync_every": sync_every, "slow_step": slow_step}
        self.defaults.update(lookahead)
        for group in self.param_groups:
            group.update({key: group.get(key, value) for key, value in lookahead.items()})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        # RAdam recognises a new parameter by its empty state, so the slow weights move in afterwards.
        starts = {p: p.clone() for _, p in moving if p not in self.state}
        inspect.unwrap(RAdam.step)(self)  # without the wrapper that imports torch's compiler
        for p, start in starts.items():
            self.state[p]["slow"] = start
        for group, p in moving:
            if int(self.state[p]["step"]) % group["sync_every"] == 0:
                p.copy_(self.state[p]["slow"].lerp_(p, group["slow_step"]))
        return loss

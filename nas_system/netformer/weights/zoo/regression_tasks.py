"""Random regression tasks: smooth functions that nobody has seen before."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

WAVES = 4
"""Plane waves that a target is the sum of."""


class Tasks(NamedTuple):
    """Rows of every task."""

    x: Tensor
    """(tasks, rows, inputs), uniform with variance 1."""
    y: Tensor
    """(tasks, rows), with mean 0 and variance 1 before the noise."""


def draw_inputs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform numbers with mean 0 and variance 1."""
    return (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3)


def draw_tasks(tasks: int, rows: int, inputs: int, noise: float, generator: torch.Generator) -> Tasks:
    """Sums of a few plane waves and a plane, with random directions, frequencies and phases.

    (Random features: Rahimi and Recht 2007, "Random Features for Large-Scale Kernel Machines".)
    """
    x = draw_inputs((tasks, rows, inputs), generator)
    frequency = torch.randn(tasks, inputs, WAVES, generator=generator) / math.sqrt(inputs)
    phase = torch.rand(tasks, 1, WAVES, generator=generator) * 2 * math.pi
    height = torch.randn(tasks, 1, WAVES, generator=generator)
    slope = torch.randn(tasks, 1, inputs, generator=generator)
    y = (torch.sin(x @ frequency + phase) * height).sum(-1) + 0.5 * (x * slope).sum(-1)
    y = (y - y.mean(1, keepdim=True)) / y.std(1, keepdim=True).clamp_min(1e-6)
    return Tasks(x, y + noise * torch.randn(y.shape, generator=generator))

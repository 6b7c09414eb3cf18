"""Trains thousands of tiny networks at once: one einsum per layer for all of them.

The one trainer besides the engine. Networks of ten neurons would spend their time in Python and in
kernels of a microsecond, one after the other; padded and side by side they are one model. No network
sees another one: the loss is a sum over networks, and Adam works number by number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nas_system.netformer.weights.functions import FUNCTIONS
from nas_system.netformer.weights.network import ACTIVATIONS
from nas_system.netformer.weights.zoo.generator import Layers


def train_layers(
    layers: Layers,
    x: Tensor,
    y: Tensor,
    steps: int,
    lr: float,
    *,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Layers:
    """Fit every network to its own rows, `x` (networks, rows, inputs) and `y` (networks, rows).

    Full batches, Adam, the rate falling to zero in half a cosine. `on_step` gets the number of
    finished steps and every network's mean squared error before the last of them.
    """
    weight = layers.weight.clone().requires_grad_(True)
    bias = layers.bias.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([weight, bias], lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    trained = layers._replace(weight=weight, bias=bias)
    for step in range(steps):
        error = (answers(trained, x) - y).square().mean(1)
        optimizer.zero_grad(set_to_none=True)
        error.sum().backward()
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step + 1, error.detach())
    has_bias = layers.mask.any(-1)
    return layers._replace(weight=weight.detach() * layers.mask, bias=bias.detach() * has_bias)


def answers(layers: Layers, x: Tensor) -> Tensor:
    """What every network answers to its rows; (networks, rows)."""
    weight = layers.weight * layers.mask
    bias = layers.bias * layers.mask.any(-1)
    kinds = layers.kind.unique().tolist()
    hidden = torch.nn.functional.pad(x, (0, weight.shape[-1] - x.shape[-1]))
    for layer in range(layers.kind.shape[1]):
        total = torch.einsum("nrp,ncp->nrc", hidden, weight[:, layer]) + bias[:, layer, None]
        value = torch.zeros_like(total)
        for kind in kinds:
            chosen = (layers.kind[:, layer] == kind)[:, None, None]
            value = torch.where(chosen, FUNCTIONS[ACTIVATIONS[kind]](total), value)
        hidden = torch.where((layer < layers.depth)[:, None, None], value, hidden)
    # Padded neurons have no outgoing edge, so what a sigmoid makes of their zero goes nowhere.
    return torch.einsum("nrp,np->nr", hidden, weight[:, -1, 0]) + bias[:, -1, :1]

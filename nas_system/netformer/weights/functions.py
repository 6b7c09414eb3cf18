"""Outputs of many networks at once, and their sensitivity to every neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_system.netformer.weights.network import ACTIVATIONS, Network
from nas_system.netformer.weights.tokens import (
    END,
    FIRST_ACTIVATION,
    INPUT,
    Tokens,
    stack_tokens,
    tokens_from_network,
)

FUNCTIONS = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "sin": torch.sin,
}

SENSITIVITY_RANGE = (0.1, 10.0)
"""Beyond it a neuron would vanish from the loss, or dominate it."""


class Graphs(NamedTuple):
    """Networks of equally many inputs as tables, so that all of them are evaluated together."""

    types: Tensor
    """Token type of every vertex, END (0) where there is none; shape (networks, vertices)."""
    weights: Tensor
    """Weight of the edge [child, parent], zero where there is none; shape (networks, vertices, vertices)."""
    inputs: int

    @property
    def outputs(self) -> Tensor:
        """Number of every network's last vertex; shape (networks,)."""
        steps = torch.arange(self.types.shape[1], device=self.types.device)
        return (steps * (self.types != END)).amax(1)


def graphs_from_tokens(tokens: Tokens, vertices: int) -> Graphs:
    """Convert token sequences to tables; differentiable in the weights."""
    kind, number, parent = tokens.structure.unbind(-1)
    count = len(kind)
    # Tokens without an edge write a zero to [0, 0], where no edge can be.
    edge = tokens.edges
    place = torch.where(edge, number * vertices + parent, 0)
    flat = torch.zeros(count, vertices * vertices, device=kind.device).scatter_add(
        1, place, torch.where(edge, tokens.weight, 0.0)
    )
    types = torch.zeros(count, vertices, dtype=torch.long, device=kind.device).scatter_reduce(
        1, number, kind, "amax"
    )
    types[:, 0] = INPUT  # the constant
    inputs = int((kind[0] == INPUT).sum())
    return Graphs(types, flat.view(count, vertices, vertices), inputs)


def graphs_from_networks(networks: Sequence[Network], vertices: int | None = None) -> Graphs:
    """Convert networks, which must have equally many inputs, to tables."""
    tokens = stack_tokens([tokens_from_network(network) for network in networks])
    return graphs_from_tokens(tokens, vertices or max(network.vertices for network in networks))


def evaluate(graphs: Graphs, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the values of all vertices, (networks, vertices, rows), and every neuron's weighted sums.

    The sums are one tensor of (networks, rows) per neuron.

    `x`: (rows, inputs), the same for all, or (networks, rows, inputs).
    """
    count, vertices = graphs.types.shape
    x = x.expand(count, *x.shape[-2:])
    values = [torch.ones_like(x[..., 0]), *x.unbind(-1)]
    sums = []
    kinds = [kind for kind in graphs.types.unique().tolist() if kind >= FIRST_ACTIVATION]
    for number in range(graphs.inputs + 1, vertices):
        before = torch.stack(values, dim=1)
        total = torch.bmm(graphs.weights[:, number : number + 1, :number], before).squeeze(1)
        sums.append(total)
        value = torch.zeros_like(total)
        for kind in kinds:
            chosen = (graphs.types[:, number] == kind)[:, None]
            value = torch.where(chosen, FUNCTIONS[ACTIVATIONS[kind - FIRST_ACTIVATION]](total), value)
        values.append(value)
    return torch.stack(values, dim=1), sums


def outputs_of(graphs: Graphs, x: Tensor) -> Tensor:
    """Return every network's outputs; shape (networks, rows)."""
    values, _ = evaluate(graphs, x)
    return values[torch.arange(len(values)), graphs.outputs]


def sensitivity(graphs: Graphs, x: Tensor) -> Tensor:
    """Return the mean over the rows of |dy/dp| for every neuron's weighted sum p; (networks, vertices).

    Tartaglione et al. 2021, "SeReNe: Sensitivity-based Regularization of Neurons for Structured
    Sparsity in Neural Networks", arXiv:2102.03773, equation 4, for a single output.
    Zero for the bias, inputs and padding.
    """
    with torch.enable_grad():
        weights = graphs.weights.detach().requires_grad_(True)
        values, sums = evaluate(graphs._replace(weights=weights), x)
        answers = values[torch.arange(len(values)), graphs.outputs]
        # Rows and networks are independent, so the gradient of the sum holds all of them.
        slopes = torch.autograd.grad(answers.sum(), sums, materialize_grads=True)
    found = torch.zeros(graphs.types.shape, dtype=x.dtype, device=x.device)
    found[:, graphs.inputs + 1 :] = torch.stack([slope.abs().mean(-1) for slope in slopes], dim=1)
    return found


def loss_weights(graphs: Graphs, x: Tensor) -> Tensor:
    """Return sensitivities with mean 1 over each network's neurons, clamped to SENSITIVITY_RANGE."""
    raw = sensitivity(graphs, x)
    neurons = graphs.types >= FIRST_ACTIVATION
    mean = (raw * neurons).sum(1, keepdim=True) / neurons.sum(1, keepdim=True)
    relative = raw / mean.clamp_min(torch.finfo(raw.dtype).tiny)
    return torch.where(neurons, relative.clamp(*SENSITIVITY_RANGE), 0.0)

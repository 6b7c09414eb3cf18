"""Networks as sequences of tokens, and exactly back.

One token per input and one per edge, neuron by neuron: the vertex's type, its number, its parent's
number, and the edge's weight. An end token completes the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nas_system.netformer.weights.network import ACTIVATIONS, InvalidNetwork, Network, Neuron

TOKEN_TYPES = ("end", "input", *ACTIVATIONS)
END, INPUT, FIRST_ACTIVATION = 0, 1, 2
LINEAR = TOKEN_TYPES.index("linear")


class Tokens(NamedTuple):
    """Token sequences, end token included, padded with end tokens."""

    structure: Tensor
    """Type, number and parent's number; integers of shape (..., length, 3)."""
    weight: Tensor
    """Weights of the edges, zero for tokens that are no edge; float32 of shape (..., length)."""

    @property
    def edges(self) -> Tensor:
        """Which tokens are edges; shape (..., length)."""
        return self.structure[..., 0] >= FIRST_ACTIVATION

    @property
    def lengths(self) -> Tensor:
        """Tokens of each sequence, its end token included."""
        return (self.structure[..., 0] != END).sum(-1) + 1

    def rows(self, chosen: Tensor) -> Tokens:
        """Return some sequences, no longer than the longest of them needs."""
        part = Tokens(self.structure[chosen], self.weight[chosen])
        longest = int(part.lengths.max())
        return Tokens(part.structure[:, :longest], part.weight[:, :longest])


def tokens_from_network(network: Network) -> Tokens:
    """Return the one sequence that stands for `network`."""
    structure = [(INPUT, number, 0) for number in range(1, network.inputs + 1)]
    weight = [0.0] * network.inputs
    for number, neuron in enumerate(network.neurons, start=network.inputs + 1):
        kind = FIRST_ACTIVATION + ACTIVATIONS.index(neuron.type)
        structure += [(kind, number, parent) for parent in neuron.parents]
        weight += neuron.weights
    structure.append((END, 0, 0))
    weight.append(0.0)
    return Tokens(torch.tensor(structure), torch.tensor(weight, dtype=torch.float32))


def network_from_tokens(tokens: Tokens) -> Network:
    """Return the network that a sequence stands for. Raises InvalidNetwork if it stands for none."""
    rows = tokens.structure.tolist()
    weights = tokens.weight.tolist()
    ends = [place for place, row in enumerate(rows) if row[0] == END]
    if not ends:
        raise InvalidNetwork("the sequence has no end token")
    inputs = 0
    while inputs < ends[0] and rows[inputs] == [INPUT, inputs + 1, 0]:
        inputs += 1
    neurons: list[Neuron] = []
    place = inputs
    while place < ends[0]:
        kind, number, _ = rows[place]
        last = place
        while last < ends[0] and rows[last][:2] == [kind, number]:
            last += 1
        if kind < FIRST_ACTIVATION or number != inputs + len(neurons) + 1:
            raise InvalidNetwork(f"token {place} is {TOKEN_TYPES[kind]} {number}, which cannot stand there")
        parents = tuple(row[2] for row in rows[place:last])
        neurons.append(Neuron(ACTIVATIONS[kind - FIRST_ACTIVATION], parents, tuple(weights[place:last])))
        place = last
    return Network(inputs, tuple(neurons))


def stack_tokens(sequences: Sequence[Tokens], length: int | None = None) -> Tokens:
    """Stack sequences, padded to `length` or to the longest."""
    length = length or max(len(tokens.weight) for tokens in sequences)
    structure = torch.zeros(len(sequences), length, 3, dtype=torch.long)
    weight = torch.zeros(len(sequences), length)
    for row, tokens in enumerate(sequences):
        structure[row, : len(tokens.weight)] = tokens.structure
        weight[row, : len(tokens.weight)] = tokens.weight
    return Tokens(structure, weight)

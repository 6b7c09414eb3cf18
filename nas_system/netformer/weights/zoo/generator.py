"""Random layered networks, as padded tables that are trained together."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nas_system.netformer.weights.network import ACTIVATIONS, BIAS, Network, Neuron
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig


class Layers(NamedTuple):
    """Untrained or trained layered networks, padded to the deepest and widest.

    Hidden layers come first, the output layer (one neuron) is the last. A layer reads the one before
    it, the first one the inputs, the last one the network's last hidden layer.
    """

    depth: Tensor
    """Hidden layers of every network; (networks,)."""
    kind: Tensor
    """Position in ACTIVATIONS of every hidden layer; (networks, layers)."""
    mask: Tensor
    """Which edges there are; (networks, layers + 1, children, parents)."""
    weight: Tensor
    """(networks, layers + 1, children, parents)."""
    bias: Tensor
    """(networks, layers + 1, children)."""


def draw_layers(config: ZooConfig, generator: torch.Generator) -> Layers:
    """Random sizes, activations and first weights."""
    count, layers = config.networks, config.max_depth
    depth = torch.randint(config.min_depth, config.max_depth + 1, (count,), generator=generator)
    width = torch.randint(config.min_width, config.max_width + 1, (count, layers), generator=generator)
    choice = torch.randint(len(config.activations), (count, layers), generator=generator)
    kind = torch.tensor([ACTIVATIONS.index(name) for name in config.activations])[choice]

    size = max(config.max_width, config.inputs)
    last = width.gather(1, depth[:, None] - 1)
    inputs = torch.full((count, 1), config.inputs)
    parents = torch.cat((inputs, width[:, :-1], last), dim=1)
    children = torch.cat((width, torch.ones_like(last)), dim=1)
    mask = _dense(children, parents, size)
    if config.density < 1:
        mask &= _thinned(children, parents, size, config.density, generator)
    used = torch.arange(layers) < depth[:, None]
    mask[:, :layers] &= used[..., None, None]
    draws = 1 if config.shared_initialisation else count
    weight = torch.randn(draws, layers + 1, size, size, generator=generator) / math.sqrt(config.max_width)
    bias = torch.randn(draws, layers + 1, size, generator=generator) / 2
    return Layers(depth, kind, mask, weight * mask, bias * mask.any(-1))


def _dense(children: Tensor, parents: Tensor, size: int) -> Tensor:
    place = torch.arange(size)
    return (place[:, None] < children[..., None, None]) & (place < parents[..., None, None])


def _thinned(
    children: Tensor, parents: Tensor, size: int, density: float, generator: torch.Generator
) -> Tensor:
    """Random edges, but one for every child and one for every parent in any case."""
    place = torch.arange(size)
    for_child = place == (place[:, None] % parents[..., None, None])
    for_parent = place[:, None] == (place % children[..., None, None])
    random = torch.rand(*children.shape, size, size, generator=generator) < density
    return random | for_child | for_parent


def networks_from_layers(layers: Layers) -> list[Network]:
    """The same networks, neuron by neuron, without the padding."""
    inputs = int(layers.mask[0, 0].any(0).sum())
    return [_network(inputs, *(part[row] for part in layers)) for row in range(len(layers.depth))]


def _network(inputs: int, depth: Tensor, kind: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Network:
    neurons: list[Neuron] = []
    first_parent = 1
    before = inputs
    for layer in [*range(int(depth)), len(mask) - 1]:
        is_output = layer == len(mask) - 1
        name = "linear" if is_output else ACTIVATIONS[int(kind[layer])]
        present, values, biases = mask[layer].tolist(), weight[layer].tolist(), bias[layer].tolist()
        children = sum(map(any, present))
        for child in range(children):
            parents = [place for place in range(before) if present[child][place]]
            neurons.append(
                Neuron(
                    name,
                    (BIAS, *(first_parent + place for place in parents)),
                    (biases[child], *(values[child][place] for place in parents)),
                )
            )
        first_parent += before
        before = children
    return Network(inputs, tuple(neurons))

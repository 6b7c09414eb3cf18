"""How close written networks are to the originals: structure, edges, weights, activations, function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nas_system.netformer.weights.functions import evaluate, graphs_from_networks
from nas_system.netformer.weights.network import Network


def compare(originals: Sequence[Network], written: Sequence[Network], x: Tensor) -> dict[str, float]:
    """All metrics over pairs of networks, evaluated at `x` (rows, inputs)."""
    return {
        "exact_structure": exact_structure(originals, written),
        "edge_accuracy": edge_accuracy(originals, written),
        "weight_r2": weight_r2(originals, written),
        "cosine_distance": cosine_distance(originals, written, x),
        "function_correlation": function_correlation(originals, written, x),
    }


def exact_structure(originals: Sequence[Network], written: Sequence[Network]) -> float:
    """Share of networks with every type, number and parent right."""
    return _mean([first.structure == second.structure for first, second in _pairs(originals, written)])


def edge_accuracy(originals: Sequence[Network], written: Sequence[Network]) -> float:
    """Edges that both networks have, as a share of those that one of them has; mean over networks."""
    return _mean(
        [
            len(first.edges.keys() & second.edges.keys()) / len(first.edges.keys() | second.edges.keys())
            for first, second in _pairs(originals, written)
        ]
    )


def weight_r2(originals: Sequence[Network], written: Sequence[Network]) -> float:
    """Share of the variance of all original weights that is explained; a missing edge weighs 0."""
    edges = [(first.edges, second.edges) for first, second in _pairs(originals, written)]
    truth = np.array([weight for first, _ in edges for weight in first.values()])
    guess = np.array([second.get(edge, 0.0) for first, second in edges for edge in first])
    return float(1 - np.square(truth - guess).sum() / np.square(truth - truth.mean()).sum())


def cosine_distance(originals: Sequence[Network], written: Sequence[Network], x: Tensor) -> float:
    """1 - cosine between the activations of all neurons but the output, over all rows; mean over networks.

    Neurons are compared by number; one that only one of the two networks has counts as zero in the other.
    """
    first, second = _hidden(originals, x), _hidden(written, x)
    vertices = max(first.shape[1], second.shape[1])
    flat = [_padded(part, vertices).flatten(1) for part in (first, second)]
    return float((1 - torch.cosine_similarity(*flat, dim=1)).mean())


def function_correlation(originals: Sequence[Network], written: Sequence[Network], x: Tensor) -> float:
    """Pearson's correlation of the two networks' outputs; mean over networks. Constant outputs count as 0."""
    first, second = _outputs(originals, x), _outputs(written, x)
    centred = [part - part.mean(1, keepdim=True) for part in (first, second)]
    return float(torch.cosine_similarity(*centred, dim=1).mean())


def _outputs(networks: Sequence[Network], x: Tensor) -> Tensor:
    graphs = graphs_from_networks(networks)
    values, _ = evaluate(graphs, x)
    return values[torch.arange(len(values)), graphs.outputs].double()


def _hidden(networks: Sequence[Network], x: Tensor) -> Tensor:
    """Activations of the neurons, the output's and those of bias and inputs set to zero or left out."""
    graphs = graphs_from_networks(networks)
    values = evaluate(graphs, x)[0].clone()
    values[torch.arange(len(values)), graphs.outputs] = 0.0
    return values[:, graphs.inputs + 1 :].double()


def _padded(values: Tensor, vertices: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, vertices - values.shape[1]))


def _pairs(originals: Sequence[Network], written: Sequence[Network]) -> list[tuple[Network, Network]]:
    return list(zip(originals, written, strict=True))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))

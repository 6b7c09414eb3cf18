"""Metrics on networks whose differences are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nas_system.netformer.weights.model.reconstruction import (
    compare,
    cosine_distance,
    edge_accuracy,
    exact_structure,
    function_correlation,
    weight_r2,
)
from nas_system.netformer.weights.network import Network, Neuron
from nas_system.netformer.weights.zoo.zoo_files import Zoo

X = torch.linspace(-2, 2, 9)[:, None]
BASE = Network(
    1,
    (
        Neuron("tanh", (0, 1), (0.5, 1.0)),
        Neuron("relu", (1,), (-1.0,)),
        Neuron("linear", (0, 2, 3), (0.1, 1.0, -2.0)),
    ),
)


def with_neuron(place: int, **changes: object) -> Network:
    neurons = list(BASE.neurons)
    neurons[place] = replace(neurons[place], **changes)  # pyright: ignore[reportArgumentType]
    return Network(1, tuple(neurons))


def test_a_network_is_its_own_best_copy(small_zoo: Zoo) -> None:
    networks = small_zoo.networks(torch.arange(30))
    assert compare(networks, networks, small_zoo.probes) == pytest.approx(
        {
            "exact_structure": 1,
            "edge_accuracy": 1,
            "weight_r2": 1,
            "cosine_distance": 0,
            "function_correlation": 1,
        },
        abs=1e-6,
    )


def test_exact_structure_asks_for_types_and_parents_but_not_for_weights() -> None:
    others = [
        with_neuron(0, weights=(9.0, 9.0)),
        with_neuron(0, type="relu"),
        with_neuron(0, parents=(1,), weights=(1.0,)),
    ]
    assert [exact_structure([BASE], [other]) for other in others] == [1, 0, 0]


def test_edges_are_counted_against_all_that_one_of_the_two_has() -> None:
    fewer = with_neuron(0, parents=(1,), weights=(1.0,))
    more = with_neuron(1, parents=(0, 1), weights=(1.0, 1.0))
    assert edge_accuracy([BASE, BASE], [fewer, more]) == pytest.approx((5 / 6 + 6 / 7) / 2)
    assert edge_accuracy([fewer], [more]) == pytest.approx(5 / 7)


def test_weight_r2_is_the_explained_share_of_the_variance() -> None:
    truth = np.array(list(BASE.edges.values()))
    guess = truth.copy()
    guess[1] += 0.5
    other = with_neuron(0, weights=(0.5, 1.5))
    assert weight_r2([BASE], [other]) == pytest.approx(1 - 0.25 / ((truth - truth.mean()) ** 2).sum())
    # A missing edge weighs nothing.
    fewer = with_neuron(0, parents=(1,), weights=(1.0,))
    assert weight_r2([BASE], [fewer]) == pytest.approx(1 - 0.25 / ((truth - truth.mean()) ** 2).sum())


def test_cosine_distance_leaves_the_last_layer_out() -> None:
    assert cosine_distance([BASE], [with_neuron(2, weights=(7.0, -3.0, 5.0))], X) == pytest.approx(
        0, abs=1e-9
    )
    assert cosine_distance([BASE], [with_neuron(1, weights=(1.0,))], X) > 0.1


def test_cosine_distance_is_that_of_all_hidden_activations() -> None:
    x = X[:, 0].double().numpy()
    first = np.concatenate([np.tanh(0.5 + x), np.maximum(-x, 0)])
    second = np.concatenate([np.tanh(0.5 + x), np.maximum(x, 0)])
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert cosine_distance([BASE], [with_neuron(1, weights=(1.0,))], X) == pytest.approx(1 - cosine, abs=1e-6)


def test_networks_of_different_size_are_compared_too() -> None:
    small = Network(1, (Neuron("tanh", (0, 1), (0.5, 1.0)), Neuron("linear", (2,), (1.0,))))
    x = X[:, 0].double().numpy()
    full = np.concatenate([np.tanh(0.5 + x), np.maximum(-x, 0)])
    part = np.concatenate([np.tanh(0.5 + x), np.zeros(9)])
    cosine = full @ part / np.linalg.norm(full) / np.linalg.norm(part)
    for pair in ((BASE, small), (small, BASE)):
        assert cosine_distance([pair[0]], [pair[1]], X) == pytest.approx(1 - cosine, abs=1e-6)


def test_function_correlation_is_pearsons_and_zero_for_a_constant() -> None:
    line = Network(1, (Neuron("linear", (0, 1), (3.0, 2.0)),))
    falling = Network(1, (Neuron("linear", (1,), (-0.1,)),))
    constant = Network(1, (Neuron("linear", (0, 1), (3.0, 0.0)),))
    bent = Network(1, (Neuron("tanh", (1,), (1.0,)), Neuron("linear", (2,), (1.0,))))
    x = X[:, 0].double().numpy()
    assert function_correlation([line], [falling], X) == pytest.approx(-1)
    assert function_correlation([line], [constant], X) == 0
    assert function_correlation([line], [bent], X) == pytest.approx(np.corrcoef(x, np.tanh(x))[0, 1])
    assert function_correlation([line, line], [line, falling], X) == pytest.approx(0, abs=1e-6)

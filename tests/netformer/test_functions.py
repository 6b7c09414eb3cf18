"""What networks compute, and how sensitive the output is to every neuron."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_system.netformer.weights.functions import (
    SENSITIVITY_RANGE,
    Graphs,
    evaluate,
    graphs_from_networks,
    graphs_from_tokens,
    loss_weights,
    outputs_of,
    sensitivity,
)
from nas_system.netformer.weights.network import Network, Neuron
from nas_system.netformer.weights.tokens import FIRST_ACTIVATION, Tokens
from nas_system.netformer.weights.zoo.generator import draw_layers
from nas_system.netformer.weights.zoo.regression_tasks import draw_inputs, draw_tasks
from nas_system.netformer.weights.zoo.tiny_trainer import answers
from nas_system.netformer.weights.zoo.zoo_building import build_zoo
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig
from nas_system.netformer.weights.zoo.zoo_files import Zoo

BY_HAND = {
    "linear": lambda p: p,
    "tanh": math.tanh,
    "relu": lambda p: max(p, 0.0),
    "sigmoid": lambda p: 1 / (1 + math.exp(-p)),
    "gelu": lambda p: p * (1 + math.erf(p / math.sqrt(2))) / 2,
    "sin": math.sin,
}


def answer_by_hand(network: Network, row: list[float]) -> float:
    values = [1.0, *row]
    for neuron in network.neurons:
        total = sum(
            weight * values[parent] for weight, parent in zip(neuron.weights, neuron.parents, strict=True)
        )
        values.append(BY_HAND[neuron.type](total))
    return values[-1]


@settings(max_examples=50)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_networks_compute_what_their_neurons_say(
    data: st.DataObject, seed: int, any_network: st.SearchStrategy[Network]
) -> None:
    rng = np.random.default_rng(seed)
    drawn = data.draw(
        st.lists(any_network.filter(lambda network: network.inputs == 2), min_size=1, max_size=3)
    )
    networks = [with_weights(network, rng) for network in drawn]
    x = torch.from_numpy(rng.normal(size=(4, 2)))
    graphs = in_doubles(graphs_from_networks(networks))
    expected = [[answer_by_hand(network, row) for row in x.tolist()] for network in networks]
    assert outputs_of(graphs, x).tolist() == pytest.approx(np.array(expected), rel=1e-6, abs=1e-6)


def with_weights(network: Network, rng: np.random.Generator) -> Network:
    """The same structure with weights of an ordinary size, exact in single precision."""
    neurons = [
        Neuron(
            neuron.type,
            neuron.parents,
            tuple(rng.normal(size=len(neuron.parents)).astype(np.float32).tolist()),
        )
        for neuron in network.neurons
    ]
    return Network(network.inputs, tuple(neurons))


def in_doubles(graphs: Graphs) -> Graphs:
    return graphs._replace(weights=graphs.weights.double())


def test_one_evaluation_serves_tables_and_padded_layers() -> None:
    """The trainer's padded layers, before and after they became tokens."""
    config = ZooConfig(networks=50, tasks=10, steps=0, density=0.6, max_depth=3, meta_features=False)
    zoo = build_zoo(config)
    generator = torch.Generator().manual_seed(config.seed)
    draw_tasks(config.tasks, config.rows, config.inputs, config.noise, generator)
    draw_inputs(tuple(zoo.probes.shape), generator)
    layers = draw_layers(config, generator)
    graphs = graphs_from_tokens(zoo.tokens, config.max_vertices)
    expected = answers(layers, zoo.probes.expand(50, -1, -1))
    torch.testing.assert_close(outputs_of(graphs, zoo.probes), expected, atol=1e-5, rtol=1e-5)


def test_other_networks_beside_it_change_nothing(small_zoo: Zoo) -> None:
    graphs = graphs_from_tokens(small_zoo.tokens, small_zoo.config.max_vertices)
    together = outputs_of(graphs, small_zoo.probes)
    for position in (0, 7, 199):
        alone = graphs_from_networks([small_zoo.network(position)])
        torch.testing.assert_close(outputs_of(alone, small_zoo.probes)[0], together[position])


def test_sensitivity_is_what_finite_differences_say(small_zoo: Zoo) -> None:
    graphs = in_doubles(graphs_from_tokens(small_zoo.tokens, small_zoo.config.max_vertices))
    x = small_zoo.probes.double()
    found = sensitivity(graphs, x)
    step = 1e-6
    for number in range(graphs.inputs + 1, graphs.types.shape[1]):
        # The constant's edge moves the weighted sum of one neuron in every row.
        moved = []
        for sign in (1, -1):
            weights = graphs.weights.clone()
            weights[:, number, 0] += sign * step
            moved.append(outputs_of(graphs._replace(weights=weights), x))
        slope = ((moved[0] - moved[1]) / (2 * step)).abs().mean(1)
        exists = graphs.types[:, number] >= FIRST_ACTIVATION
        # A row in which a ReLU's sum is within a step of its kink has no slope.
        torch.testing.assert_close(found[exists, number], slope[exists], atol=1e-3, rtol=1e-4)
        assert (found[~exists, number] == 0).all()


def test_the_mean_is_over_absolute_slopes() -> None:
    network = Network(
        1,
        (Neuron("relu", (1,), (1.0,)), Neuron("relu", (1,), (-1.0,)), Neuron("linear", (2, 3), (3.0, -5.0))),
    )
    found = sensitivity(graphs_from_networks([network]), torch.tensor([[1.0], [2.0], [4.0], [-1.0]]))
    assert found.tolist() == [[0, 0, 3 * 3 / 4, 5 * 1 / 4, 1]]


def test_every_network_weighs_the_same_in_the_loss(small_zoo: Zoo) -> None:
    graphs = graphs_from_tokens(small_zoo.tokens, small_zoo.config.max_vertices)
    weights = loss_weights(graphs, small_zoo.probes)
    raw = sensitivity(graphs, small_zoo.probes)
    neurons = graphs.types >= FIRST_ACTIVATION
    assert (weights[~neurons] == 0).all()
    assert SENSITIVITY_RANGE[0] <= weights[neurons].min() and weights[neurons].max() <= SENSITIVITY_RANGE[1]
    relative = raw / (raw.sum(1) / neurons.sum(1))[:, None]
    inside = (relative > SENSITIVITY_RANGE[0]) & (relative < SENSITIVITY_RANGE[1])
    assert inside.sum() > neurons.sum() / 2
    torch.testing.assert_close(weights[inside], relative[inside])


def test_a_network_that_is_constant_has_no_infinite_weight() -> None:
    network = Network(1, (Neuron("tanh", (1,), (1.0,)), Neuron("linear", (2,), (0.0,))))
    weights = loss_weights(graphs_from_networks([network]), torch.ones(3, 1))
    assert torch.isfinite(weights).all()


def test_tables_carry_the_gradient_of_every_edge_and_of_nothing_else(small_zoo: Zoo) -> None:
    tokens = small_zoo.tokens.rows(torch.arange(8))
    weight = tokens.weight.clone().requires_grad_(True)
    graphs = graphs_from_tokens(Tokens(tokens.structure, weight), small_zoo.config.max_vertices)
    (gradient,) = torch.autograd.grad(graphs.weights.sum(), weight)
    assert torch.equal(gradient, tokens.edges.float())


def test_a_network_of_its_own_rows_is_evaluated_on_them(small_zoo: Zoo) -> None:
    graphs = graphs_from_tokens(small_zoo.tokens.rows(torch.arange(3)), small_zoo.config.max_vertices)
    x = draw_inputs((3, 5, 2), torch.Generator().manual_seed(1))
    values, sums = evaluate(graphs, x)
    assert values.shape == (3, graphs.types.shape[1], 5)
    assert len(sums) == graphs.types.shape[1] - 3
    for row in range(3):
        one = outputs_of(Graphs(graphs.types[row : row + 1], graphs.weights[row : row + 1], 2), x[row])
        torch.testing.assert_close(outputs_of(graphs, x)[row], one[0])

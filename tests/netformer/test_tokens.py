"""Networks, their tokens, and the way back."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas_system.netformer.weights.network import InvalidNetwork, Network, Neuron
from nas_system.netformer.weights.tokens import (
    END,
    INPUT,
    TOKEN_TYPES,
    Tokens,
    network_from_tokens,
    stack_tokens,
    tokens_from_network,
)
from nas_system.netformer.weights.zoo.zoo_files import Zoo

LINEAR, TANH = TOKEN_TYPES.index("linear"), TOKEN_TYPES.index("tanh")

# Two inputs, a hidden tanh neuron, the output; it reads the second input directly.
SMALL = Network(
    2,
    (
        Neuron("tanh", (0, 1, 2), (0.5, -1.0, 2.0)),
        Neuron("linear", (2, 3), (0.25, -0.0)),
    ),
)


def bits(network: Network) -> list[bytes]:
    return [struct.pack("<d", weight) for neuron in network.neurons for weight in neuron.weights]


def test_a_network_is_written_as_inputs_edges_and_an_end() -> None:
    tokens = tokens_from_network(SMALL)
    assert tokens.structure.tolist() == [
        [INPUT, 1, 0],
        [INPUT, 2, 0],
        [TANH, 3, 0],
        [TANH, 3, 1],
        [TANH, 3, 2],
        [LINEAR, 4, 2],
        [LINEAR, 4, 3],
        [END, 0, 0],
    ]
    assert tokens.weight.tolist() == [0, 0, 0.5, -1, 2, 0.25, 0, 0]


@given(data=st.data(), filling=st.integers(0, 3))
def test_the_way_back_is_exact_to_the_bit(
    data: st.DataObject, filling: int, any_network: st.SearchStrategy[Network]
) -> None:
    network = data.draw(any_network)
    tokens = tokens_from_network(network)
    padded = stack_tokens([tokens], len(tokens.weight) + filling)
    again = network_from_tokens(Tokens(padded.structure[0], padded.weight[0]))
    assert again == network
    assert bits(again) == bits(network)


def test_every_network_of_a_zoo_comes_back_exactly(small_zoo: Zoo) -> None:
    for position in range(len(small_zoo)):
        network = small_zoo.network(position)
        tokens = tokens_from_network(network)
        length = len(tokens.weight)
        assert torch.equal(tokens.structure, small_zoo.tokens.structure[position, :length])
        assert torch.equal(tokens.weight, small_zoo.tokens.weight[position, :length])
        assert not small_zoo.tokens.structure[position, length:].any()


def test_rows_are_no_longer_than_they_must_be(small_zoo: Zoo) -> None:
    short = small_zoo.tokens.lengths.argsort()[:3]
    part = small_zoo.tokens.rows(short)
    assert (
        part.weight.shape[1] == int(small_zoo.tokens.lengths[short].max()) < small_zoo.tokens.weight.shape[1]
    )


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(INPUT, 1, 0), (LINEAR, 2, 1)], "no end token"),
        ([(END, 0, 0)], "at least one input"),
        ([(INPUT, 1, 0), (END, 0, 0)], "one neuron"),
        ([(INPUT, 2, 0), (LINEAR, 3, 1), (END, 0, 0)], "token 0 is input 2"),
        ([(INPUT, 1, 0), (LINEAR, 3, 1), (END, 0, 0)], "token 1 is linear 3"),
        ([(INPUT, 1, 0), (LINEAR, 2, 1), (INPUT, 2, 0), (END, 0, 0)], "token 2 is input 2"),
        ([(INPUT, 1, 0), (LINEAR, 2, 1), (TANH, 2, 1), (END, 0, 0)], "token 2 is tanh 2"),
        ([(INPUT, 1, 0), (LINEAR, 2, 2), (END, 0, 0)], "stand before it"),
        ([(INPUT, 1, 0), (LINEAR, 2, 1), (LINEAR, 2, 0), (END, 0, 0)], "must rise"),
        ([(INPUT, 1, 0), (LINEAR, 2, 1), (LINEAR, 2, 1), (END, 0, 0)], "must rise"),
        ([(INPUT, 1, 0), (LINEAR, 2, 0), (END, 0, 0)], "nothing but the constant"),
        ([(INPUT, 1, 0), (TANH, 2, 1), (END, 0, 0)], "regression needs linear"),
        ([(INPUT, 1, 0), (TANH, 2, 1), (LINEAR, 3, 1), (END, 0, 0)], "reads the output of neuron 2"),
    ],
)
def test_what_is_no_network_is_refused(rows: list[tuple[int, int, int]], complaint: str) -> None:
    with pytest.raises(InvalidNetwork, match=complaint):
        network_from_tokens(Tokens(torch.tensor(rows), torch.zeros(len(rows))))


def test_a_neuron_needs_a_known_type_and_a_weight_for_every_edge() -> None:
    with pytest.raises(InvalidNetwork, match="'softmax'; choose from: linear, tanh"):
        Network(1, (Neuron("softmax", (1,), (1.0,)),))
    with pytest.raises(InvalidNetwork, match="1 parents and 2 weights"):
        Network(1, (Neuron("linear", (1,), (1.0, 2.0)),))

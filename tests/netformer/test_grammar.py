"""Under the grammar every sequence is a network, and every network can be written."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas_system.errors import ConfigError
from nas_system.netformer.weights.model.model_config import ArchitectureConfig
from nas_system.netformer.weights.model.network_grammar import Grammar, Prefix, Token
from nas_system.netformer.weights.model.writer_fitting import untrained_writer
from nas_system.netformer.weights.network import InvalidNetwork, Network, Neuron
from nas_system.netformer.weights.tokens import (
    END,
    INPUT,
    TOKEN_TYPES,
    Tokens,
    network_from_tokens,
    tokens_from_network,
)
from nas_system.netformer.weights.zoo.zoo_files import Zoo

LINEAR, TANH = TOKEN_TYPES.index("linear"), TOKEN_TYPES.index("tanh")


def parsed(rows: list[Token]) -> Network:
    return network_from_tokens(Tokens(torch.tensor(rows), torch.zeros(len(rows))))


def all_sequences(grammar: Grammar, prefix: Prefix | None = None) -> list[list[Token]]:
    prefix = prefix or Prefix()
    found: list[list[Token]] = []
    for token in grammar.allowed(prefix):
        rests = [[]] if token[0] == END else all_sequences(grammar, grammar.advance(prefix, token))
        found += [[token, *rest] for rest in rests]
    return found


@pytest.mark.parametrize(("inputs", "vertices", "tokens"), [(1, 4, 6), (1, 5, 5), (2, 5, 6), (1, 3, 7)])
def test_the_grammar_allows_all_networks_and_nothing_else(inputs: int, vertices: int, tokens: int) -> None:
    """Against every sequence of edges there is, read by the parser, which knows nothing of the grammar."""
    grammar = Grammar(inputs, vertices, tokens, (LINEAR, TANH))
    allowed = [parsed(rows).structure for rows in all_sequences(grammar)]
    start = [(INPUT, number, 0) for number in range(1, inputs + 1)]
    edges = list(itertools.product((LINEAR, TANH), range(inputs + 1, vertices), range(vertices)))
    possible = set()
    for count in range(1, tokens - inputs):
        for chosen in itertools.product(edges, repeat=count):
            try:
                possible.add(parsed([*start, *chosen, (END, 0, 0)]).structure)
            except InvalidNetwork:
                continue
    assert len(allowed) == len(set(allowed))
    assert set(allowed) == possible


@given(
    seed=st.integers(0, 2**32),
    inputs=st.integers(1, 3),
    neurons=st.integers(1, 6),
    tokens=st.integers(2, 40),
)
def test_every_random_walk_ends_as_a_network(seed: int, inputs: int, neurons: int, tokens: int) -> None:
    grammar = Grammar(inputs, 1 + inputs + neurons, inputs + tokens)
    rng = random.Random(seed)
    prefix, rows = Prefix(), []
    while not rows or rows[-1][0] != END:
        choices = grammar.allowed(prefix)
        assert choices, f"a dead end after {rows}"
        rows.append(rng.choice(choices))
        if rows[-1][0] != END:
            prefix = grammar.advance(prefix, rows[-1])
    network = parsed(rows)
    assert len(rows) <= grammar.max_tokens
    assert network.vertices <= grammar.max_vertices
    assert network.inputs == inputs


@given(data=st.data())
def test_every_network_can_be_written(data: st.DataObject, any_network: st.SearchStrategy[Network]) -> None:
    assert_writable(data.draw(any_network))


def test_a_neuron_that_began_with_the_constant_may_read_the_last_unread_one() -> None:
    neurons = (
        Neuron("tanh", (1,), (1.0,)),
        Neuron("tanh", (0, 2), (1.0, 1.0)),
        Neuron("linear", (3,), (1.0,)),
    )
    assert_writable(Network(1, neurons))


def assert_writable(network: Network) -> None:
    rows = tokens_from_network(network).structure.tolist()
    # With exactly as much room as it needs.
    grammar = Grammar(network.inputs, network.vertices, len(rows))
    prefix = Prefix()
    for row in map(tuple, rows):
        assert row in grammar.allowed(prefix)
        if row[0] != END:
            prefix = grammar.advance(prefix, row)


def test_an_untrained_model_writes_valid_networks_only(small_zoo: Zoo) -> None:
    for seed in range(3):
        writer = untrained_writer(small_zoo, ArchitectureConfig(), seed)
        latent = torch.randn(40, 8, 8, generator=torch.Generator().manual_seed(seed)) * 3
        # `write` raises for anything that is no network.
        networks = writer.write(latent)
        assert len(networks) == 40
        assert {network.inputs for network in networks} == {small_zoo.config.inputs}
        assert all(network.vertices <= small_zoo.config.max_vertices for network in networks)


def test_without_the_grammar_an_untrained_model_writes_nonsense(small_zoo: Zoo) -> None:
    writer = untrained_writer(small_zoo, ArchitectureConfig(), 0)
    latent = torch.randn(40, 8, 8, generator=torch.Generator().manual_seed(0)) * 3
    written = writer.write_freely(latent)
    assert all(isinstance(item, InvalidNetwork) for item in written)


def test_scores_are_followed_where_the_grammar_allows_it(small_zoo: Zoo) -> None:
    target = small_zoo.tokens.structure[:20]
    config = small_zoo.config
    grammar = Grammar(config.inputs, config.max_vertices, config.max_tokens)
    sizes = (len(TOKEN_TYPES), config.max_vertices, config.max_vertices)

    def scores_of_target(structure: torch.Tensor) -> list[torch.Tensor]:
        place = structure.shape[1] - 1
        parts = target[:, place].unbind(-1)
        return [torch.eye(size)[part].log() for size, part in zip(sizes, parts, strict=True)]

    assert torch.equal(grammar.decode(scores_of_target, 20), target)


@pytest.mark.parametrize("limits", [(0, 5, 9), (2, 3, 9), (2, 9, 3)])
def test_a_grammar_without_room_is_refused(limits: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="no room"):
        Grammar(*limits)
    with pytest.raises(ConfigError, match="no output"):
        Grammar(2, 9, 20, (TANH,))

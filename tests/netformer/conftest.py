"""A small zoo without meta-features, made once; any valid network, for hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from nas_system.netformer.weights.network import ACTIVATIONS, BIAS, Network, Neuron
from nas_system.netformer.weights.zoo.zoo_building import build_zoo
from nas_system.netformer.weights.zoo.zoo_config import ZooConfig
from nas_system.netformer.weights.zoo.zoo_files import Zoo

# Minus zero, subnormal numbers and the largest ones included: all of them have to survive.
WEIGHTS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="session")
def small_zoo() -> Zoo:
    return build_zoo(ZooConfig(networks=200, tasks=20, steps=40, rows=30, meta_features=False))


@pytest.fixture(scope="session")
def any_network() -> st.SearchStrategy[Network]:
    return _networks()


@st.composite
def _networks(draw: st.DrawFn) -> Network:
    inputs = draw(st.integers(1, 3))
    count = draw(st.integers(1, 7))
    unread: set[int] = set()
    neurons = []
    for number in range(inputs + 1, inputs + 1 + count):
        parents = draw(st.sets(st.integers(BIAS, number - 1), min_size=1))
        is_last = number == inputs + count
        parents |= unread if is_last else set()
        if parents == {BIAS}:
            parents.add(draw(st.integers(1, number - 1)))
        unread = (unread - parents) | {number}
        kind = "linear" if is_last else draw(st.sampled_from(ACTIVATIONS))
        weights = draw(st.lists(WEIGHTS, min_size=len(parents), max_size=len(parents)))
        neurons.append(Neuron(kind, tuple(sorted(parents)), tuple(weights)))
    return Network(inputs, tuple(neurons))

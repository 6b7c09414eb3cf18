"""A small network as a graph of neurons, to be tokenised, generated and compared.

Vertex 0 is the constant 1 (its edges are the biases), then come the inputs, then the neurons in an
order in which every neuron stands after its parents. The last neuron is the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from nas_system.errors import ConfigError

ACTIVATIONS = ("linear", "tanh", "relu", "sigmoid", "gelu", "sin")
"""Activation functions of a neuron. Files hold positions in this list, so only append."""

BIAS = 0
"""Number of the vertex whose value is always 1."""


class InvalidNetwork(ConfigError):
    """Decoded tokens, or a file, do not describe a network."""


@dataclass(frozen=True)
class Neuron:
    """One vertex: its activation, and its edges by rising number of the parent."""

    type: str
    parents: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A function of `inputs` numbers to one. Raises InvalidNetwork for neurons that do not make one."""

    inputs: int
    neurons: tuple[Neuron, ...]

    def __post_init__(self) -> None:
        if self.inputs < 1 or not self.neurons:
            raise InvalidNetwork("a network needs at least one input and one neuron")
        childless = set(range(self.inputs + 1, self.vertices))
        for number, neuron in enumerate(self.neurons, start=self.inputs + 1):
            _check_neuron(number, neuron)
            childless -= set(neuron.parents)
        if childless != {self.output}:
            lost = ", ".join(map(str, sorted(childless - {self.output})))
            raise InvalidNetwork(f"nothing reads the output of neuron {lost}")
        if self.neurons[-1].type != "linear":
            raise InvalidNetwork(f"the output neuron is {self.neurons[-1].type}; a regression needs linear")

    @property
    def vertices(self) -> int:
        """Bias, inputs and neurons together."""
        return 1 + self.inputs + len(self.neurons)

    @property
    def output(self) -> int:
        """Number of the last vertex."""
        return self.vertices - 1

    @property
    def structure(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Types and parents of all neurons, without the weights."""
        return tuple((neuron.type, neuron.parents) for neuron in self.neurons)

    @property
    def edges(self) -> dict[tuple[int, int], float]:
        """Weight of every edge, by (child, parent)."""
        return {
            (number, parent): weight
            for number, neuron in enumerate(self.neurons, start=self.inputs + 1)
            for parent, weight in zip(neuron.parents, neuron.weights, strict=True)
        }

    def to_json(self) -> dict[str, object]:
        """Return plain values; floats are exact, as Python writes them."""
        return {"inputs": self.inputs, "neurons": [asdict(neuron) for neuron in self.neurons]}


def _check_neuron(number: int, neuron: Neuron) -> None:
    if neuron.type not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise InvalidNetwork(f"neuron {number} is of type {neuron.type!r}; choose from: {known}")
    if len(neuron.parents) != len(neuron.weights):
        raise InvalidNetwork(
            f"neuron {number} has {len(neuron.parents)} parents and {len(neuron.weights)} weights"
        )
    if not _rises(neuron.parents) or not all(BIAS <= parent < number for parent in neuron.parents):
        raise InvalidNetwork(f"the parents of neuron {number} must rise and stand before it")
    if not neuron.parents or neuron.parents[-1] == BIAS:
        raise InvalidNetwork(f"neuron {number} reads nothing but the constant")


def _rises(numbers: Sequence[int]) -> bool:
    return all(first < second for first, second in pairwise(numbers))

"""Which token may follow which: decoding under this grammar gives a valid network every time.

At every step the grammar knows how many tokens the shortest ending still needs, and allows only
what leaves room for it. So a sequence never ends in the middle of a neuron, and no neuron is left unread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.netformer.weights.network import BIAS
from nas_system.netformer.weights.tokens import END, FIRST_ACTIVATION, INPUT, LINEAR, TOKEN_TYPES

NEVER = 1 << 30
Token = tuple[int, int, int]


@dataclass(frozen=True)
class Prefix:
    """What the tokens so far amount to."""

    vertex: int = 0
    """The vertex that the last token belongs to."""
    kind: int = INPUT
    parent: int = BIAS
    unread: frozenset[int] = frozenset()
    """Earlier neurons that nothing reads."""
    length: int = 0


@dataclass(frozen=True)
class Grammar:
    """The sequences of all networks with exactly `inputs` inputs and at most so many vertices and tokens."""

    inputs: int
    max_vertices: int
    """Bias and inputs included."""
    max_tokens: int
    """The end token included."""
    types: tuple[int, ...] = tuple(range(FIRST_ACTIVATION, len(TOKEN_TYPES)))
    """Types of neurons that may be written; linear, the output's, is always one of them."""

    def __post_init__(self) -> None:
        if self.inputs < 1 or self.max_vertices < self.inputs + 2 or self.max_tokens < self.inputs + 2:
            raise ConfigError(f"{self}: there is no room for inputs, one neuron and the end token")
        if LINEAR not in self.types:
            raise ConfigError(f"{self}: without linear neurons there is no output")

    def allowed(self, prefix: Prefix) -> list[Token]:
        """Every token that may come next: (type, number, parent). Never empty before the end token."""
        if prefix.vertex < self.inputs:
            return [(INPUT, prefix.vertex + 1, 0)]
        found: list[Token] = []
        is_neuron = prefix.vertex > self.inputs
        if is_neuron:
            found += [
                (prefix.kind, prefix.vertex, parent) for parent in range(prefix.parent + 1, prefix.vertex)
            ]
        if not is_neuron or (prefix.parent != BIAS and prefix.vertex + 1 < self.max_vertices):
            new = prefix.vertex + 1
            found += [(kind, new, parent) for kind in self.types for parent in range(new)]
        left = self.max_tokens - prefix.length
        found = [token for token in found if self._shortest_ending(self.advance(prefix, token)) < left]
        if is_neuron and self._may_end(prefix):
            found.append((END, 0, 0))
        return found

    def advance(self, prefix: Prefix, token: Token) -> Prefix:
        """The prefix with one more token, which must be an allowed one and not the end."""
        kind, number, parent = token
        if kind == INPUT:
            return replace(prefix, vertex=number, length=prefix.length + 1)
        unread = prefix.unread
        if number > prefix.vertex > self.inputs:
            unread = unread | {prefix.vertex}
        return Prefix(number, kind, parent, unread - {parent}, prefix.length + 1)

    def _may_end(self, prefix: Prefix) -> bool:
        return prefix.kind == LINEAR and prefix.parent != BIAS and not prefix.unread

    def _shortest_ending(self, prefix: Prefix) -> int:
        """Tokens, the end token included, that the shortest way to a valid network takes; or NEVER."""
        return min(self._ending_here(prefix), self._ending_with_another_neuron(prefix))

    def _ending_here(self, prefix: Prefix) -> int:
        """The present neuron becomes the output and reads all that is unread."""
        if prefix.kind != LINEAR or any(number <= prefix.parent for number in prefix.unread):
            return NEVER
        if prefix.parent == BIAS and not prefix.unread:
            return 2  # any parent, then the end
        return len(prefix.unread) + 1

    def _ending_with_another_neuron(self, prefix: Prefix) -> int:
        """One more neuron is the output; it reads the present one and all that is unread."""
        if prefix.vertex + 1 >= self.max_vertices:
            return NEVER
        if prefix.parent != BIAS:
            return len(prefix.unread) + 2
        # The present neuron reads only the constant so far; if it can, it takes one of the unread.
        return len(prefix.unread) + (2 if prefix.unread else 3)

    def decode(self, next_scores: Callable[[Tensor], Sequence[Tensor]], batch: int) -> Tensor:
        """Write `batch` sequences, each time the best allowed token; shape (batch, max_tokens, 3).

        `next_scores` takes the structure so far, (batch, length, 3), and gives the log-probabilities of
        type, number and parent at its last place, which is still empty; (batch, choices) each.
        """
        result = torch.zeros(batch, self.max_tokens, 3, dtype=torch.long)
        prefixes: dict[int, Prefix] = dict.fromkeys(range(batch), Prefix())
        for place in range(self.max_tokens):
            scores = [part.double().cpu().numpy() for part in next_scores(result[:, : place + 1])]
            for row, prefix in list(prefixes.items()):
                choices = np.array(self.allowed(prefix))
                total = sum(table[row, choices[:, part]] for part, table in enumerate(scores))
                token = tuple(choices[int(np.argmax(total))].tolist())
                result[row, place] = torch.tensor(token)
                if token[0] == END:
                    del prefixes[row]
                else:
                    prefixes[row] = self.advance(prefix, token)
            if not prefixes:
                break
        return result

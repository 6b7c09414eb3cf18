"""Random draws that are the same on every platform and with every release of numpy.

Made of the raw bits of PCG64, which numpy promises never to change; it may change what its `Generator`
makes of them (NEP 19). All arithmetic is on integers.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

_BLOCK = 4096


class Draws:
    """A stream of draws from one seed; `stream` numbers independent ones."""

    def __init__(self, seed: int, stream: int = 0) -> None:
        self._bits = np.random.PCG64([seed, stream])
        self._block: list[int] = []

    def below(self, end: int) -> int:
        """Draw one of 0, ..., end - 1, all equally likely (up to 2^-64 * end)."""
        if not self._block:
            self._block = self._bits.random_raw(_BLOCK).tolist()[::-1]
        return self._block.pop() * end >> 64

    def weighted(self, weights: Sequence[int]) -> int:
        """Draw a position in `weights` with a probability in proportion to its weight."""
        sums = list(accumulate(weights))
        draw = self.below(sums[-1])
        return next(place for place, total in enumerate(sums) if draw < total)

    def shuffle(self, items: MutableSequence[Any]) -> None:
        """Put `items` in random order (Fisher and Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

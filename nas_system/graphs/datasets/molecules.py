"""Molecule-like graphs: rings joined by chains, atoms and bonds of a few types.

Only the shape reveals where the rings are and how large: types of atoms and bonds are drawn independently of
it, and every ring is a plain cycle, so that from a node one sees the same few neighbours in any of
them. In real molecules the types give a hint (six aromatic bonds are a ring of six).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_system.graphs.datasets.draws import Draws

RING_SIZES = (3, 4, 5, 6, 7, 8)
ATOMS = ("C", "N", "O", "F", "S", "Cl", "P", "Br", "I")
BONDS = ("single", "double", "triple", "aromatic")

# How often, in arbitrary units: carbon is common and iodine is not.
ATOM_WEIGHTS = (60, 12, 12, 4, 4, 3, 2, 2, 1)
BOND_WEIGHTS = (60, 25, 5, 10)
RING_COUNT_WEIGHTS = (0, 0, 1, 3, 1)
"""Of molecules with 0, 1, 2, 3, 4 rings."""
LINK_WEIGHTS = (0, 3, 3, 1)
"""Of chains with 0, 1, 2, 3 atoms between two rings."""
BRANCH_WEIGHTS = (0, 1, 2, 3, 2, 1)
"""Of side chains with 0, 1, ..., 5 atoms."""
MAX_NEIGHBOURS = 3
ATOM_RANGE = (17, 27)
"""Side chains are added up to a number of atoms drawn from here, if the rings have not taken more."""


@dataclass(frozen=True)
class Molecule:
    """Atom types by number, bonds (i, j, type) with i < j once each, and the sizes of the rings."""

    atoms: tuple[int, ...]
    bonds: tuple[tuple[int, int, int], ...]
    rings: tuple[int, ...]


def draw_molecule(draws: Draws, ring_weights: Sequence[int], ring_sizes: Sequence[int] = ()) -> Molecule:
    """Draw a molecule whose rings are `ring_sizes`, and as many more as are drawn by `ring_weights`."""
    count = draws.weighted(RING_COUNT_WEIGHTS)
    rings = list(ring_sizes)
    while len(rings) < count:
        rings.append(RING_SIZES[draws.weighted(ring_weights)])
    draws.shuffle(rings)
    skeleton = _Skeleton(draws)
    for size in rings:
        skeleton.add_ring(size)
    skeleton.add_branches()
    return skeleton.finish(tuple(sorted(rings)))


class _Skeleton:
    """Grows a molecule without types."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self.neighbours: list[int] = []
        self.bonds: list[tuple[int, int]] = []

    def add_ring(self, size: int) -> None:
        start = len(self.neighbours)
        anchor = self._chain_from_anywhere(self.draws.weighted(LINK_WEIGHTS)) if start else None
        first = len(self.neighbours)
        self.neighbours += [0] * size
        for step in range(size):
            self._bond(first + step, first + (step + 1) % size)
        if anchor is not None:
            self._bond(anchor, first)

    def add_branches(self) -> None:
        """Add side chains up to a drawn number of atoms, so that it reveals little about the rings."""
        fewest, most = ATOM_RANGE
        wanted = fewest + self.draws.below(most - fewest + 1)
        while len(self.neighbours) < wanted:
            length = self.draws.weighted(BRANCH_WEIGHTS)
            self._chain_from_anywhere(min(length, wanted - len(self.neighbours)))

    def finish(self, rings: tuple[int, ...]) -> Molecule:
        """Draw types for atoms and bonds, and numbers that reveal nothing about the order of growth."""
        draws = self.draws
        numbers = list(range(len(self.neighbours)))
        draws.shuffle(numbers)
        pairs = sorted(tuple(sorted((numbers[i], numbers[j]))) for i, j in self.bonds)
        atoms = tuple(draws.weighted(ATOM_WEIGHTS) for _ in numbers)
        bonds = tuple((i, j, draws.weighted(BOND_WEIGHTS)) for i, j in pairs)
        return Molecule(atoms, bonds, rings)

    def _chain_from_anywhere(self, length: int) -> int:
        """Grow a chain from an atom with room for one more bond, and return its last atom."""
        free = [atom for atom, count in enumerate(self.neighbours) if count < MAX_NEIGHBOURS]
        end = free[self.draws.below(len(free))]
        for _ in range(length):
            self.neighbours.append(0)
            self._bond(end, len(self.neighbours) - 1)
            end = len(self.neighbours) - 1
        return end

    def _bond(self, i: int, j: int) -> None:
        self.neighbours[i] += 1
        self.neighbours[j] += 1
        self.bonds.append((i, j))

"""Where the atoms of a structural formula stand: distances on paper follow distances along bonds.

Kamada and Kawai 1989, "An Algorithm for Drawing General Undirected Graphs", Information Processing
Letters 31, with the majorisation of Gansner, Koren and North 2004, "Graph Drawing by Stress
Majorization". What is wished for is what chemists draw: atoms of one ring on a regular polygon, chains
that zigzag at 120 degrees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bonds = Sequence[tuple[int, int]]
Points = NDArray[np.float64]

_LARGEST_RING = 12
_ZIGZAG = 3**0.5 / 2
"""Progress of each bond along a chain with angles of 120 degrees."""
_STIFF = 8.0
"""How much more bonds and rings count than other distances."""
_STARTS = 12
_STEPS = 150
_TOO_CLOSE = 0.75
"""Atoms nearer than this, in bonds, all but touch."""


def molecule_layout(n_atoms: int, bonds: Bonds) -> Points:
    """A place for every atom, (n, 2), a bond being about 1 long and the molecule longest from left to right.

    Parts that no bond joins stand side by side. The same bonds give the same places.
    """
    neighbours = _neighbours(n_atoms, bonds)
    places = np.zeros((n_atoms, 2))
    right = 0.0
    for part in _components(neighbours):
        number = {atom: index for index, atom in enumerate(part)}
        inside = [(number[a], number[b]) for a, b in bonds if a in number and a != b]
        own = _lay_out(len(part), inside)
        own[:, 0] += right - own[:, 0].min()
        right = own[:, 0].max() + 1.5
        places[part] = own
    return places - places.mean(axis=0) if n_atoms else places


def rings(n_atoms: int, bonds: Bonds) -> list[tuple[int, ...]]:
    """The shortest ring through each bond that has one, every ring once, atoms in their order."""
    neighbours = _neighbours(n_atoms, bonds)
    found: dict[frozenset[int], tuple[int, ...]] = {}
    for one, other in bonds:
        way = _way_around(neighbours, one, other)
        if way is not None and 3 <= len(way) <= _LARGEST_RING:
            found.setdefault(frozenset(way), way)
    return sorted(found.values(), key=lambda ring: (len(ring), ring))


def bond_sides(places: Points, bonds: Bonds, kinds: Sequence[str]) -> list[int]:
    """For every bond on which side its ring lies: 1 left of it, -1 right, 0 without a ring.

    Of two rings that share a bond it is the one with more bonds of its kind (in indole the benzene ring
    keeps its six aromatic lines), then the smaller one.
    """
    kind_of = {frozenset(bond): kind for bond, kind in zip(bonds, kinds, strict=True)}
    edges = {
        ring: [frozenset(pair) for pair in zip(ring, (*ring[1:], ring[0]), strict=True)]
        for ring in rings(len(places), bonds)
    }
    sides = []
    for one, other in bonds:
        bond = frozenset((one, other))
        like = {
            ring: sum(kind_of[edge] == kind_of[bond] for edge in pairs)
            for ring, pairs in edges.items()
            if bond in pairs
        }
        if not like:
            sides.append(0)
            continue
        ring = max(like, key=lambda ring: (like[ring], -len(ring)))
        along = places[other] - places[one]
        inward = places[list(ring)].mean(axis=0) - (places[one] + places[other]) / 2
        sides.append(1 if along[0] * inward[1] - along[1] * inward[0] >= 0 else -1)
    return sides


def crossings(places: Points, bonds: Bonds) -> int:
    """How many pairs of bonds without a common atom cross on paper."""
    ends = np.array([bond for bond in bonds if bond[0] != bond[1]], dtype=int).reshape(-1, 2)
    start, end = places[ends[:, 0]], places[ends[:, 1]]

    def side(points: Points) -> Points:
        """On which side of bond i point j lies, (bonds, bonds)."""
        along, away = (end - start)[:, None], points[None] - start[:, None]
        return np.sign(along[..., 0] * away[..., 1] - along[..., 1] * away[..., 0])

    apart = side(start) * side(end) < 0
    shared = (ends[:, None, :, None] == ends[None, :, None, :]).any(axis=(2, 3))
    return int((apart & apart.T & ~shared).sum()) // 2


def _lay_out(n: int, bonds: Bonds) -> Points:
    """The best of several descents; which is best, a person would say in this order of faults."""
    if n == 1:
        return np.zeros((1, 2))
    wished, weights = _wishes(n, bonds)
    generator = np.random.default_rng(0)
    candidates = []
    for attempt in range(_STARTS):
        start = _principal_axes(wished)
        if attempt:
            start = start + generator.normal(scale=0.25 * attempt, size=start.shape)
        places = _descend(start, wished, weights)
        distance = _distances(places)[np.triu_indices(n, 1)]
        stress = float((weights * (_distances(places) - wished) ** 2).sum())
        faults = crossings(places, bonds), int((distance < _TOO_CLOSE).sum()), round(stress, 6), attempt
        candidates.append((faults, places))
        if faults[:2] == (0, 0) and attempt >= _STARTS // 3:
            break
    return _lying(min(candidates, key=lambda candidate: candidate[0])[1])


def _wishes(n: int, bonds: Bonds) -> tuple[Points, Points]:
    """Wished distances and their weights, (n, n)."""
    neighbours = _neighbours(n, bonds)
    hops = np.stack([_hops(neighbours, atom) for atom in range(n)]).astype(float)
    wished = np.where(hops <= 1, hops, _ZIGZAG * hops)
    stiff = hops == 1
    # Small rings last: of two that share a pair of atoms the smaller one is the stiffer figure.
    for ring in reversed(rings(n, bonds)):
        size, members = len(ring), np.array(ring)
        apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        wished[np.ix_(members, members)] = np.sin(np.pi * apart / size) / np.sin(np.pi / size)
        stiff[np.ix_(members, members)] = True
    np.fill_diagonal(stiff, False)
    np.fill_diagonal(wished, 1.0)
    weights = wished**-2.0 * np.where(stiff, _STIFF, 1.0)
    np.fill_diagonal(weights, 0.0)
    np.fill_diagonal(wished, 0.0)
    return wished, weights


def _descend(places: Points, wished: Points, weights: Points) -> Points:
    """Majorisation: every step solves a quadratic that lies above the stress and touches it here."""
    inverse = np.linalg.pinv(np.diag(weights.sum(axis=1)) - weights)
    for _ in range(_STEPS):
        distance = np.maximum(_distances(places), 1e-9)
        pull = weights * wished / distance
        moved = inverse @ ((np.diag(pull.sum(axis=1)) - pull) @ places)
        if np.abs(moved - places).max() < 1e-4:
            return moved
        places = moved
    return places


def _principal_axes(wished: Points) -> Points:
    """Classical scaling (Torgerson 1952): the flat figure whose distances are closest to the wished ones."""
    n = len(wished)
    centering = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centering @ wished**2 @ centering)
    places = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 1e-4))
    # Atoms that classical scaling puts on one spot would never part; the golden angle parts any two.
    angles = np.arange(n) * 2.399963
    return places + 0.01 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _lying(places: Points) -> Points:
    """Turned so that it is longest from left to right, the first atom never right of or above the middle."""
    centered = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    turned = centered @ axes.T
    return turned * np.where(turned[0] > 1e-9, -1.0, 1.0)


def _distances(places: Points) -> Points:
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def _neighbours(n: int, bonds: Bonds) -> list[list[int]]:
    neighbours: list[set[int]] = [set() for _ in range(n)]
    for one, other in bonds:
        if one != other:
            neighbours[one].add(other)
            neighbours[other].add(one)
    return [sorted(atoms) for atoms in neighbours]


def _components(neighbours: list[list[int]]) -> list[list[int]]:
    parts, seen = [], set()
    for atom in range(len(neighbours)):
        if atom not in seen:
            part = [int(other) for other in np.flatnonzero(_hops(neighbours, atom) >= 0)]
            seen.update(part)
            parts.append(part)
    return parts


def _hops(neighbours: list[list[int]], start: int) -> NDArray[Any]:
    """Bonds from one atom to every other, (n,); -1 where there is no way."""
    hops = np.full(len(neighbours), -1)
    hops[start] = 0
    queue = deque([start])
    while queue:
        atom = queue.popleft()
        for other in neighbours[atom]:
            if hops[other] < 0:
                hops[other] = hops[atom] + 1
                queue.append(other)
    return hops


def _way_around(neighbours: list[list[int]], one: int, other: int) -> tuple[int, ...] | None:
    """The shortest way between the ends of a bond that does not use it."""
    before: dict[int, int] = {one: one}
    queue = deque([one])
    while queue and other not in before:
        atom = queue.popleft()
        for step in neighbours[atom]:
            if step not in before and {atom, step} != {one, other}:
                before[step] = atom
                queue.append(step)
    if other not in before or one == other:
        return None
    way = [other]
    while way[-1] != one:
        way.append(before[way[-1]])
    return tuple(way)

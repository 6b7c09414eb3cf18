"""Which atoms an atom of a molecule attends to: the structural formula, coloured by attention weight.

Distances on paper follow distances along bonds, so that rings look like rings (Kamada and Kawai 1989,
"An Algorithm for Drawing General Undirected Graphs", Information Processing Letters 31).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_system.visualization.canvas import GREY, INK, VERMILION, caption, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

Points = NDArray[np.floating]
"""One place (2,) or several (n, 2), in lengths of a bond."""

BONDS = ("single", "double", "triple", "aromatic")
"""Bonds that have a line of their own; any other is a dotted line with its name in the legend."""
_COLORS = "GnBu"
"""Pale for nothing, like the paper, and evenly darker; told apart by every common kind of colour vision."""
_WIDTH, _HEIGHT = 8.0, 6.0
_LEFT, _BOTTOM, _TOP, _RIGHT = 0.3, 0.8, 0.65, 1.25
_LEGEND_ROW, _LEGEND_RADIUS = 0.3, 0.11
"""Inches."""
_RADIUS = 0.3
"""Of an atom, in lengths of a bond."""
_GAP = 0.14
"""Between the lines of a double bond, in lengths of a bond."""
_DARK = 0.6
"""Above this part of the colour scale a label is white."""
_STYLES: dict[str, tuple[tuple[float, str], ...]] = {
    "single": ((0.0, "solid"),),
    "double": ((-0.5, "solid"), (0.5, "solid")),
    "triple": ((-1.0, "solid"), (0.0, "solid"), (1.0, "solid")),
    "aromatic": ((0.0, "solid"), (1.0, "dashed")),
}
"""Lines of a bond: their offset from its axis in gaps, towards the ring, and how they are drawn."""
_OTHER = ((0.0, "dotted"),)
_ELEMENTS = {
    "C": "carbon", "N": "nitrogen", "O": "oxygen", "F": "fluorine", "S": "sulfur", "Cl": "chlorine",
    "P": "phosphorus", "Br": "bromine", "I": "iodine", "H": "hydrogen", "B": "boron", "Si": "silicon",
}  # fmt: skip


@dataclass(frozen=True)
class MoleculeDrawing:
    """A molecule as plain arrays."""

    atoms: Sequence[str]
    """The label of every atom: C, N, ..."""
    bonds: Sequence[tuple[int, int]]
    """Pairs of atoms, each bond once."""
    bond_types: Sequence[str]
    """For every bond one of `BONDS`, or any other word."""
    attention: NDArray[np.floating]
    """How much atom `center` attends to each atom, (n,)."""
    center: int
    """The atom whose attention is shown."""


def molecule_picture(molecule: MoleculeDrawing, path: str | Path, *, title: str = "") -> None:
    """Draw the molecule into a PNG file; the same molecule gives the same picture.

    Raises ValueError for arrays that do not fit each other, OSError if `path` cannot be written.
    """

    def paint(figure: Figure) -> None:
        paint_molecule(figure, molecule, title)

    draw(Path(path), (_WIDTH, _HEIGHT), paint)


def paint_molecule(figure: Figure, molecule: MoleculeDrawing, title: str = "") -> Axes:
    """Fill `figure` with the picture and return the axes of the molecule."""
    _check(molecule)
    width, height = (float(inches) for inches in figure.get_size_inches())
    heading = "What an atom attends to" + (f": attention of {title}" if title else "")
    center = f"{molecule.atoms[molecule.center]} number {molecule.center}"
    even = f"uniform attention is {1 / len(molecule.atoms):.3f}"
    note = f"Attention from {center} (outlined in orange) to every atom of its graph; {even}."
    figure.text(_LEFT / width, 1 - 0.3 / height, caption(heading, 90), fontweight="bold", fontsize=10)
    figure.text(_LEFT / width, 1 - 0.5 / height, caption(note, 120), color=GREY, fontsize=8)
    box = (
        _LEFT / width,
        _BOTTOM / height,
        1 - (_LEFT + _RIGHT) / width,
        1 - (_BOTTOM + _TOP) / height,
    )
    axes = figure.add_axes(box)
    axes.set_axis_off()
    places, ring_centers = _layout(len(molecule.atoms), molecule.bonds)
    _frame(axes, places, box[2] * width / (box[3] * height))
    for bond, kind in zip(molecule.bonds, molecule.bond_types, strict=True):
        start, end = places[list(bond)]
        ring_center = ring_centers.get(frozenset(bond))
        _paint_bond(axes, start, end, kind, ring_center, gid=f"bond {bond[0]}-{bond[1]} {kind}")
    _paint_atoms(axes, molecule, places)
    _paint_legend(figure, molecule)
    return axes


def _check(molecule: MoleculeDrawing) -> None:
    n = len(molecule.atoms)
    if np.shape(molecule.attention) != (n,):
        raise ValueError(f"attention of shape {np.shape(molecule.attention)} does not fit {n} atoms")
    if len(molecule.bonds) != len(molecule.bond_types):
        raise ValueError(f"{len(molecule.bonds)} bonds do not fit {len(molecule.bond_types)} bond types")
    if not 0 <= molecule.center < n:
        raise ValueError(f"center={molecule.center}: there are atoms 0 to {n - 1}")
    stray = [bond for bond in molecule.bonds if not all(0 <= atom < n for atom in bond)]
    if stray:
        raise ValueError(f"bond {stray[0]} joins atoms that are not there: there are atoms 0 to {n - 1}")


def _layout(n_atoms: int, bonds: Sequence[tuple[int, int]]) -> tuple[Points, dict[frozenset[int], Points]]:
    """Return the place of every atom, (n, 2), and for every bond of a ring the center of its ring.

    A bond is about 1 long, the molecule longest from left to right. Of two rings that share a bond the
    larger counts.
    """
    import networkx as nx

    graph = nx.Graph(bonds)
    graph.add_nodes_from(range(n_atoms))
    hops = np.asarray(nx.floyd_warshall_numpy(graph, range(n_atoms)))
    # Parts without a bond between them are kept apart.
    hops[np.isinf(hops)] = hops[np.isfinite(hops)].max() + 2
    wanted = {atom: dict(enumerate(row)) for atom, row in enumerate(hops)}
    # Started without crossings, half as many molecules end with one as when started on a circle.
    start = nx.planar_layout(graph) if nx.is_planar(graph) else None
    found = nx.kamada_kawai_layout(graph, dist=wanted, pos=start)
    places = np.array([found[atom] for atom in range(n_atoms)])
    lengths = [np.linalg.norm(places[one] - places[other]) for one, other in bonds]
    places = (places - places.mean(axis=0)) / (np.mean(lengths) if lengths else 1.0)
    places = places @ np.linalg.svd(places)[2].T
    centers = {}
    for ring in sorted(nx.minimum_cycle_basis(graph), key=len):
        for bond in graph.subgraph(ring).edges:
            centers[frozenset(bond)] = places[ring].mean(axis=0)
    return places, centers


def _frame(axes: Axes, places: Points, aspect: float) -> None:
    """Give both axes one scale, with the molecule in the middle and room for the atoms at its border."""
    low, high = places.min(axis=0) - 2 * _RADIUS, places.max(axis=0) + 2 * _RADIUS
    middle, span = (low + high) / 2, high - low
    # Never closer than this: a molecule of two atoms is not drawn as two moons.
    height = max(span[1], span[0] / aspect, 5.5)
    axes.set_xlim(middle[0] - height * aspect / 2, middle[0] + height * aspect / 2)
    axes.set_ylim(middle[1] - height / 2, middle[1] + height / 2)
    axes.set_aspect("equal")


def _paint_bond(
    axes: Axes, start: Points, end: Points, kind: str, ring_center: Points | None, gid: str, gap: float = _GAP
) -> None:
    from matplotlib.collections import LineCollection

    along = end - start
    across = np.array([-along[1], along[0]]) / (float(np.hypot(*along)) or 1.0)
    if ring_center is not None and across @ (ring_center - start) < 0:
        across = -across
    segments, styles = [], []
    for offset, style in _STYLES.get(kind, _OTHER):
        # The dashed line inside a ring is shorter, so that it does not cross its neighbours.
        inset = 0.1 * along if style == "dashed" else 0.0
        segments.append((start + across * offset * gap + inset, end + across * offset * gap - inset))
        styles.append(style)
    lines = LineCollection(segments, colors=INK, linewidths=1.4, linestyles=styles, zorder=1)
    lines.set_gid(gid)
    axes.add_collection(lines, autolim=False)


def _paint_atoms(axes: Axes, molecule: MoleculeDrawing, places: Points) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    weights = np.asarray(molecule.attention, dtype=float)
    # At least twice uniform attention: weights that are nearly uniform are not drawn as structure.
    darkest = max(float(weights.max()), 2 / len(weights))
    scale = ScalarMappable(Normalize(0.0, darkest), _COLORS)
    for number, (label, place, weight) in enumerate(zip(molecule.atoms, places, weights, strict=True)):
        ink = "white" if weight / darkest > _DARK else INK
        circle = _paint_atom(axes, place, label, _RADIUS, scale.to_rgba(weight), ink)
        circle.set_gid(f"atom {number}")
        if number == molecule.center:
            circle.set(edgecolor=VERMILION, linewidth=2.8)
    bar = axes.inset_axes((1.02, 0.08, 0.022, 0.84))
    colors = axes.figure.colorbar(scale, cax=bar, label=f"attention of atom {molecule.center}")
    colors.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.axhline(1 / len(weights), color=INK, linewidth=1)


def _paint_atom(
    axes: Axes, place: Points, label: str, radius: float, fill: str | Points, ink: str, fontsize: float = 9
) -> Circle:
    from matplotlib.patches import Circle

    x, y = float(place[0]), float(place[1])
    circle = Circle((x, y), radius, facecolor=fill, edgecolor=INK, linewidth=0.9, zorder=2)
    axes.add_patch(circle)
    text = axes.text(
        x, y, caption(label, 4), ha="center", va="center", fontsize=fontsize, color=ink, zorder=3
    )
    text.set_fontweight("bold")
    return circle


def _paint_legend(figure: Figure, molecule: MoleculeDrawing) -> None:
    """Draw two rows below: the elements with their counts, and what the lines mean."""
    width, height = (float(inches) for inches in figure.get_size_inches())
    axes = figure.add_axes((0, 0, 1, 2.2 * _LEGEND_ROW / height), label="legend")
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, 2.2 * _LEGEND_ROW)
    atoms, bonds = Counter(molecule.atoms), Counter(molecule.bond_types)
    step = min(1.4, (width - 2 * _LEFT) / max(len(atoms), len(bonds)))
    for column, (label, count) in enumerate(atoms.most_common()):
        x, y = _LEFT + _LEGEND_RADIUS + column * step, 1.65 * _LEGEND_ROW
        _paint_atom(axes, np.array([x, y]), label, _LEGEND_RADIUS, "white", INK, fontsize=7)
        name = _ELEMENTS.get(label, "") if step > 1.2 else ""  # else "phosphorus" does not fit
        axes.text(x + 0.17, y, caption(f"{name} ×{count}".strip(), 20), va="center", fontsize=8)
    order = [kind for kind in BONDS if kind in bonds] + sorted(set(bonds) - set(BONDS))
    for column, kind in enumerate(order):
        x, y = _LEFT + column * max(step, 1.2), 0.65 * _LEGEND_ROW
        start, end = np.array([x, y]), np.array([x + 0.38, y])
        _paint_bond(axes, start, end, kind, None, gap=0.06, gid=f"legend {kind}")
        axes.text(x + 0.47, y, caption(f"{kind} ×{bonds[kind]}", 20), va="center", fontsize=8)

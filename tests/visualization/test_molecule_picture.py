"""Pictures of molecules: every atom and bond is there, nothing overlaps, dark atoms are attended to."""

from __future__ import annotations

import math
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from nas_system.visualization import MoleculeDrawing, molecule_picture
from nas_system.visualization.canvas import VERMILION
from nas_system.visualization.molecule import paint_molecule

pytest.importorskip("networkx", reason="needs the extra graphs")
pytest.importorskip("scipy", reason="needs the extra graphs")

BENZENE = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]
# Indole, nitrogen 6 in a five-membered ring, with an acid at carbon 7.
INDOLE = [*BENZENE, (4, 6), (6, 7), (7, 8), (8, 5), (7, 9), (9, 10), (9, 11)]
KINDS = ["aromatic"] * 6 + ["single", "double", "single", "single", "single", "triple", "coordinate"]


def drawing(**fields: Any) -> MoleculeDrawing:
    attention = np.full(12, 0.03)
    attention[7] = 1 - attention[:-1].sum()
    values: dict[str, Any] = {
        "atoms": ["C"] * 6 + ["N", "C", "C", "C", "O", "O"],
        "bonds": INDOLE,
        "bond_types": KINDS,
        "attention": attention,
        "center": 6,
    }
    return MoleculeDrawing(**values | fields)


def painted(molecule: MoleculeDrawing, title: str = "") -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, 6))
    axes = paint_molecule(figure, molecule, title)
    return figure, axes


def atom(axes: Any, number: int) -> Circle:
    (circle,) = [patch for patch in axes.patches if patch.get_gid() == f"atom {number}"]
    return circle


def lines_of(axes: Any, gid: str) -> LineCollection:
    (lines,) = [collection for collection in axes.collections if collection.get_gid() == gid]
    return lines


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def places_of(n_atoms: int, bonds: list[tuple[int, int]]) -> np.ndarray:
    """The centers of the drawn atoms, (n, 2)."""
    molecule = drawing(
        atoms=["C"] * n_atoms,
        bonds=bonds,
        bond_types=["single"] * len(bonds),
        attention=np.full(n_atoms, 1 / n_atoms),
        center=0,
    )
    _, axes = painted(molecule)
    return np.array([atom(axes, number).center for number in range(n_atoms)])


CHAIN = [(number, number + 1) for number in range(11)]
COMPLETE = list(combinations(range(5), 2))
"""Five atoms with all bonds: cannot be drawn without crossings."""


@pytest.mark.parametrize(
    ("n_atoms", "bonds"),
    [(12, INDOLE), (6, BENZENE), (12, CHAIN), (5, COMPLETE), (5, CHAIN[:2]), (3, []), (1, [])],
    ids=["indole", "ring", "chain", "complete", "parts", "no-bonds", "one-atom"],
)
def test_atoms_do_not_overlap_and_stay_in_the_picture(n_atoms: int, bonds: list[tuple[int, int]]) -> None:
    places = places_of(n_atoms, bonds)
    assert np.isfinite(places).all()
    distances = [math.dist(one, other) for one, other in combinations(places, 2)]
    assert min(distances, default=1.0) > 0.6, "an atom has a radius of 0.3"
    assert np.array_equal(places, places_of(n_atoms, bonds))
    assert max((math.dist(places[a], places[b]) for a, b in bonds), default=1.0) < 1.5


def test_a_molecule_is_longest_from_left_to_right() -> None:
    for n_atoms, bonds in ((12, INDOLE), (12, CHAIN)):
        width, height = np.ptp(places_of(n_atoms, bonds), axis=0)
        assert width > 1.5 * height


def test_parts_without_a_bond_between_them_stand_apart() -> None:
    places = places_of(5, CHAIN[:2])
    between = [math.dist(places[a], places[b]) for a, b in combinations(range(5), 2) if b > 2]
    assert min(between) > 1.5


def test_every_atom_is_a_labelled_circle_and_every_bond_ends_at_its_atoms() -> None:
    _, axes = painted(drawing())
    centers = [atom(axes, number).center for number in range(12)]
    labels = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert [labels[center] for center in centers] == list(drawing().atoms)
    for (one, other), kind in zip(INDOLE, KINDS, strict=True):
        ends = np.array(lines_of(axes, f"bond {one}-{other} {kind}").get_segments())
        reach = np.linalg.norm(ends - np.array([centers[one], centers[other]]), axis=-1)
        assert reach.max() < 0.3, "a bond begins and ends inside the circles of its atoms"


def test_bonds_are_told_apart_by_their_lines() -> None:
    _, axes = painted(drawing())

    def look(gid: str) -> list[bool]:
        """For every line of a bond whether it is dashed or dotted."""
        lines = lines_of(axes, gid)
        assert len(lines.get_segments()) == len(lines.get_linestyles())
        return [dashes is not None for _, dashes in lines.get_linestyles()]

    assert look("bond 4-6 single") == [False]
    assert look("bond 6-7 double") == [False, False]
    assert look("bond 9-10 triple") == [False, False, False]
    assert look("bond 0-1 aromatic") == [False, True]
    assert look("bond 9-11 coordinate") == [True]


def test_the_dashed_line_of_an_aromatic_ring_is_inside_it() -> None:
    _, axes = painted(drawing())
    center = np.mean([atom(axes, number).center for number in range(6)], axis=0)
    for one, other in BENZENE:
        full, dashed = lines_of(axes, f"bond {one}-{other} aromatic").get_segments()
        assert math.dist(dashed.mean(axis=0), center) < math.dist(full.mean(axis=0), center) - 0.1


def test_the_most_attended_atom_is_darkest_and_the_center_is_outlined() -> None:
    figure, axes = painted(drawing())
    brightness = [sum(atom(axes, number).get_facecolor()[:3]) for number in range(12)]
    assert min(range(12), key=brightness.__getitem__) == 7
    assert len({round(value, 6) for number, value in enumerate(brightness) if number != 7}) == 1
    red = [number for number in range(12) if atom(axes, number).get_edgecolor() == to_rgba(VERMILION)]
    assert red == [6]
    bars = [one for one in axes.child_axes if one.get_ylabel() == "attention of atom 6"]
    assert len(bars) == 1
    assert bars[0].get_ylim() == (0.0, pytest.approx(drawing().attention.max()))
    texts = [text.get_text() for text in figure.texts]
    assert any("from N number 6" in text and "0.083" in text for text in texts)


def test_uniform_attention_is_neither_dark_nor_pale() -> None:
    _, axes = painted(drawing(attention=np.full(12, 1 / 12)))
    assert 1.2 < sum(atom(axes, 0).get_facecolor()[:3]) < 2.7
    assert axes.child_axes[0].get_ylim()[1] == pytest.approx(2 / 12)


def test_the_legend_counts_atoms_and_bonds() -> None:
    figure, _ = painted(drawing())
    (legend,) = [axes for axes in figure.axes if axes.get_label() == "legend"]
    texts = [text.get_text() for text in legend.texts]
    assert texts == [
        "C", "carbon ×9", "O", "oxygen ×2", "N", "nitrogen ×1",
        "single ×4", "double ×1", "triple ×1", "aromatic ×6", "coordinate ×1",
    ]  # fmt: skip
    assert len(legend.collections) == 5


def test_the_same_molecule_gives_the_same_file(tmp_path: Path) -> None:
    hostile = "$\\frac{$ \x1b[31m<b>\x00 \u202e"
    for number in (1, 2):
        molecule_picture(drawing(atoms=[hostile] * 12), tmp_path / f"{number}.png", title=hostile)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    with Image.open(tmp_path / "1.png") as image:
        assert image.format == "PNG"
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape == (900, 1200, 3)
    border = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    assert (border == 255).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": np.ones(3)}, r"attention of shape \(3,\) does not fit 12 atoms"),
        ({"bond_types": ["single"]}, "13 bonds do not fit 1 bond types"),
        ({"center": 12}, "center=12: there are atoms 0 to 11"),
        ({"bonds": [(0, 99)] * 13}, r"bond \(0, 99\) joins atoms that are not there"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        molecule_picture(drawing(**fields), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()

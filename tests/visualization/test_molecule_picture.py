"""Pictures of molecules: rings look like rings, bonds like bonds, and dark is what was looked at."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
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
from nas_system.visualization.molecule_layout import bond_sides, crossings, molecule_layout, rings

BENZENE = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]
# Indole, nitrogen 6 beside a five-membered ring, with an acid at carbon 7.
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


@pytest.mark.parametrize("size", [3, 4, 5, 6, 8])
def test_a_ring_is_a_regular_polygon_with_sides_of_one(size: int) -> None:
    bonds = [(atom, (atom + 1) % size) for atom in range(size)]
    places = molecule_layout(size, bonds)
    sides = [math.dist(places[a], places[b]) for a, b in bonds]
    assert sides == pytest.approx([1.0] * size, abs=0.02)
    radius = np.linalg.norm(places - places.mean(axis=0), axis=1)
    assert radius == pytest.approx(np.full(size, 0.5 / math.sin(math.pi / size)), abs=0.02)
    assert crossings(places, bonds) == 0


def test_a_chain_zigzags_at_120_degrees_from_left_to_right() -> None:
    places = molecule_layout(6, [(atom, atom + 1) for atom in range(5)])
    assert (np.diff(places[:, 0]) > 0).all()
    steps = np.diff(places, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    turns = [math.degrees(math.acos(one @ following)) for one, following in pairwise(steps)]
    # A chain of bonds turns by 60 degrees, which leaves an angle of 120.
    assert turns == pytest.approx([60] * 4, abs=12)


def test_a_molecule_of_several_rings_is_laid_flat_without_crossings_and_lies_down() -> None:
    places = molecule_layout(12, INDOLE)
    assert crossings(places, INDOLE) == 0
    lengths = [math.dist(places[a], places[b]) for a, b in INDOLE]
    assert min(lengths) > 0.85 and max(lengths) < 1.15
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(12, 1)]
    assert apart.min() > 0.85
    assert np.ptp(places[:, 0]) > 1.5 * np.ptp(places[:, 1])


def test_a_crossing_is_a_crossing() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert crossings(square, [(0, 2), (1, 3)]) == 1
    assert crossings(square, [(0, 1), (2, 3), (1, 2)]) == 0


def test_rings_are_found_and_a_bond_knows_the_side_of_its_ring() -> None:
    assert [len(ring) for ring in rings(12, INDOLE)] == [5, 6]
    places = molecule_layout(12, INDOLE)
    sides = bond_sides(places, INDOLE, KINDS)
    assert sides[6:] == [*sides[6:10], 0, 0, 0]
    assert 0 not in sides[:10]
    center = places[:6].mean(axis=0)
    # The bond that both rings share, 4-5, is aromatic: its inside is that of the benzene ring.
    for (one, other), side in zip(BENZENE, sides[:6], strict=True):
        along, inward = places[other] - places[one], center - places[one]
        assert side == np.sign(along[0] * inward[1] - along[1] * inward[0])


def test_places_are_the_same_at_every_call_also_where_several_starts_are_tried() -> None:
    # A cube cannot be drawn with edges of one length and no crossing, so no start is good enough.
    cube = [(a, a ^ bit) for a in range(8) for bit in (1, 2, 4) if a < a ^ bit]
    assert crossings(molecule_layout(8, cube), cube) > 0
    assert np.array_equal(molecule_layout(8, cube), molecule_layout(8, cube))


def test_parts_without_a_bond_between_them_stand_side_by_side() -> None:
    places = molecule_layout(5, [(0, 1), (1, 2)])
    assert places[:3, 0].max() + 1.4 < places[3, 0] < places[4, 0] - 1.4
    assert molecule_layout(1, []).tolist() == [[0.0, 0.0]]


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
        """For every line of a bond whether it is broken."""
        lines = lines_of(axes, gid)
        assert len(lines.get_segments()) == len(lines.get_linestyles())
        return [dashes is not None for _, dashes in lines.get_linestyles()]

    assert look("bond 4-6 single") == [False]
    assert look("bond 6-7 double") == [False, False]
    assert look("bond 9-10 triple") == [False, False, False]
    assert look("bond 0-1 aromatic") == [False, True]
    assert look("bond 9-11 coordinate") == [True]


def test_the_broken_line_of_an_aromatic_ring_is_inside_it() -> None:
    _, axes = painted(drawing())
    center = np.mean([atom(axes, number).center for number in range(6)], axis=0)
    for one, other in BENZENE:
        full, broken = lines_of(axes, f"bond {one}-{other} aromatic").get_segments()
        assert math.dist(broken.mean(axis=0), center) < math.dist(full.mean(axis=0), center) - 0.1


def test_what_is_looked_at_is_darkest_and_the_one_that_looks_is_outlined() -> None:
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


def test_an_even_look_is_neither_dark_nor_pale() -> None:
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
    ("fields", "told"),
    [
        ({"attention": np.ones(3)}, r"attention of shape \(3,\) does not fit 12 atoms"),
        ({"bond_types": ["single"]}, "13 bonds do not fit 1 bond types"),
        ({"center": 12}, "center=12: there are atoms 0 to 11"),
        ({"bonds": [(0, 99)] * 13}, r"bond \(0, 99\) joins atoms that are not there"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        molecule_picture(drawing(**fields), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()

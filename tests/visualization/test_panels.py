"""Ticks drawn as few artists look as matplotlib draws them, and panels show values where they belong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from nas_system.visualization.canvas import draw
from nas_system.visualization.panels import Panel, draw_axes_ticks, draw_frames, draw_lines, range_of


def pixels(path: Path, paint: Callable[[Figure], None]) -> NDArray[np.int16]:
    draw(path, (7.0, 4.0), paint)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int16)


def axes_of(figure: Figure, low: float, high: float, scale: str) -> Axes:
    axes = figure.add_axes((0.15, 0.2, 0.7, 0.7))
    axes.set_xlabel("epoch")
    axes.set_ylabel("MSE")
    axes.plot([0, 10], [low, high])
    axes.set_yscale(scale)
    axes.set_xlim(-0.3, 10.3)
    axes.set_ylim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    return axes


@pytest.mark.parametrize(
    ("low", "high", "scale"), [(0.1, 0.9, "linear"), (-1234.0, 99.0, "linear"), (3e-3, 40.0, "log")]
)
def test_the_ticks_are_where_matplotlib_draws_them_and_look_alike(
    low: float, high: float, scale: str, tmp_path: Path
) -> None:
    def ours(figure: Figure) -> None:
        draw_axes_ticks(figure, axes_of(figure, low, high, scale))

    def theirs(figure: Figure) -> None:
        axes_of(figure, low, high, scale)

    own = pixels(tmp_path / "own.png", theirs)
    drawn = pixels(tmp_path / "drawn.png", ours)
    blank = pixels(tmp_path / "blank.png", lambda figure: None)
    everything = (own != blank).any(axis=-1).sum()
    # A label may be half a pixel off.
    assert (np.abs(own - drawn).max(axis=-1) > 100).sum() < 0.02 * everything
    assert (np.abs(own - drawn).max(axis=-1) > 200).sum() < 0.01 * everything


def test_a_panel_places_values_between_its_sides() -> None:
    panel = Panel(left=1.0, bottom=2.0, width=4.0, height=1.0, x=(-10.0, 10.0), y=(0.0, 5.0))
    found = panel.place([-10, 10, 0, 0], [0, 5, 2.5, np.nan])
    assert np.array_equal(found[:3], [[1, 2], [5, 3], [3, 2.5]])
    assert np.isnan(found[3, 1])
    assert np.array_equal(panel.place([-10, 10], 5.0), [[1, 3], [5, 3]])


def test_the_range_of_a_panel_holds_all_that_can_be_drawn() -> None:
    low, high = range_of(np.array([1.0, np.nan, 3.0]), np.array([np.inf, 2.0, -1.0]))
    assert (low, high) == (pytest.approx(-1.2), pytest.approx(3.2))
    assert range_of(np.array([np.nan])) == (-1.0, 1.0)
    for value in (0.0, 5.0, -1e12):
        low, high = range_of(np.full(3, value))
        assert low < value < high


def test_what_the_labels_have_in_common_stands_above_them_once() -> None:
    figure = Figure()
    panel = Panel(left=1.0, bottom=1.0, width=2.0, height=2.0, x=(0.0, 10.0), y=(0.0, 3e7))
    draw_frames(figure, [panel], MaxNLocator(4), MaxNLocator(3), labelled=1)
    texts = {text.get_text(): text.get_position() for text in figure.texts}
    assert list(texts) == ["0.0", "2.5", "5.0", "7.5", "10.0", "0", "1", "2", "3", "1e7"]
    assert texts["1e7"][1] > panel.bottom + panel.height
    assert texts["10.0"] == (pytest.approx(3.0), pytest.approx(1.0 - 7 / 72))


def test_only_the_last_panels_have_labels_below_them() -> None:
    figure = Figure()
    panels = [Panel(left=left, bottom=1.0, width=1.0, height=1.0, x=(0, 9), y=(10, 90)) for left in (1, 3, 5)]
    draw_frames(figure, panels, MaxNLocator(3), MaxNLocator(3), labelled=2)
    below = [text.get_position()[0] for text in figure.texts if text.get_text() == "3"]
    assert below == [pytest.approx(3 + 1 / 3), pytest.approx(5 + 1 / 3)]


def test_a_line_has_a_gap_where_a_value_is_missing(tmp_path: Path) -> None:
    def columns(*values: float) -> int:
        points = np.stack((np.linspace(1, 6, len(values)), np.asarray(values)), axis=-1)
        picture = pixels(tmp_path / "line.png", lambda figure: draw_lines(figure, [points], color="red"))
        return int((picture[:, :, 1] < 200).any(axis=0).sum())

    whole, broken = columns(1, 2, 1, 2, 1), columns(1, 2, np.nan, 2, 1)
    assert whole == pytest.approx(5 * 150, abs=6)
    assert broken == pytest.approx(2.5 * 150, abs=12)

"""Pictures of attention: what is dark is what was looked at, at the place where the axis says."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas_system.visualization import AttentionMap, attention_picture
from nas_system.visualization.attention import _labelled

HOSTILE = "$\\frac{$ \x1b[31m<b>\x00 \u202e"


def attention_map(weights: NDArray[Any], name: str = "decoder to encoder") -> AttentionMap:
    return AttentionMap(name=name, mean=weights, n_windows=256, example=weights, example_window=12)


def random_map(horizon: int, keys: int, **fields: Any) -> AttentionMap:
    weights = np.random.default_rng(0).random((horizon, keys)) ** 4
    return attention_map(weights / weights.sum(axis=1, keepdims=True), **fields)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert round(image.info["dpi"][0]) == 150
        return np.asarray(image.convert("RGB"))


def upper_map(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels inside the axes of the first panel: 0.75 to 6.65 inches across, 0.85 to 2.75 down."""
    return picture[128:410, 115:995]


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("horizon", "keys", "seq_len"),
    [(24, 96, 96), (24, 48, 96), (24, 120, 96), (1, 1, 1), (1, 5, 4), (2, 49, 97), (720, 1440, 720)],
    ids=["steps", "groups", "with horizon", "smallest", "one ahead", "uneven groups", "large"],
)
def test_maps_of_every_size_fit(horizon: int, keys: int, seq_len: int, tmp_path: Path) -> None:
    path = tmp_path / "attention.png"
    attention_picture([random_map(horizon, keys)], path, seq_len=seq_len, title="run_0001")
    picture = pixels(path)
    assert picture.shape == (870, 1200, 3)
    border = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    assert (border == 255).all()
    assert upper_map(picture).std() > 1


@pytest.mark.parametrize("keys", [96, 48, 120])
def test_what_was_looked_at_is_dark_and_stands_where_the_axis_says(keys: int, tmp_path: Path) -> None:
    """All forecast steps look at step -24, but the last quarter looks at step -72."""
    path = tmp_path / "attention.png"
    group = 2 if keys == 48 else 1
    weights = np.zeros((24, keys))
    weights[:18, (96 - 24) // group] = 1
    weights[18:, (96 - 72) // group] = 1
    attention_picture([attention_map(weights)], path, seq_len=96)
    brightness = upper_map(pixels(path)).astype(float).sum(axis=-1)
    rows, columns = brightness.shape
    span = max(keys, 96)  # steps on the axis; where they include the horizon a line ends the look-back
    brightness = brightness[:, : int(columns * 95 / span)]

    def darkest(part: NDArray[Any]) -> float:
        """Where, in steps from the left edge of the map, this part is darkest."""
        dark = part.mean(axis=0)
        return float(np.flatnonzero(dark < dark.min() + 30).mean()) / columns * span

    assert darkest(brightness[: int(rows * 0.7)]) == pytest.approx(96 - 24 + group / 2, abs=0.5)
    assert darkest(brightness[int(rows * 0.8) :]) == pytest.approx(96 - 72 + group / 2, abs=0.5)


def test_steps_are_counted_downwards_and_backwards(tmp_path: Path) -> None:
    """The labelled steps 1, 2, 4, 6, ...: the two close ticks are at the top, and at the right."""
    path = tmp_path / "attention.png"
    attention_picture([random_map(8, 20)], path, seq_len=20)
    picture = pixels(path)

    def ticks(strip: NDArray[np.uint8], cells: int) -> list[int]:
        """The cells of the map at which a strip of pixels along its edge has a tick."""
        grey = np.flatnonzero((strip < 160).all(axis=-1))
        return sorted({int(place * cells / len(strip)) for place in grey})

    assert ticks(picture[128:411, 109], 8) == [0, 1, 3, 5, 7]
    assert ticks(picture[415, 114:998], 20) == [20 - step for step in (20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 1)]


def test_an_even_look_is_neither_dark_nor_pale(tmp_path: Path) -> None:
    path = tmp_path / "attention.png"
    attention_picture([attention_map(np.full((24, 96), 1 / 96))], path, seq_len=96)
    inside = upper_map(pixels(path)).reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert 300 < int(inside[0].astype(int).sum()) < 600


def test_several_maps_stand_below_each_other(tmp_path: Path) -> None:
    maps = [random_map(24, 96, name="first"), random_map(24, 48, name="second")]
    attention_picture(maps, tmp_path / "attention.png", seq_len=96)
    assert pixels(tmp_path / "attention.png").shape == (1605, 1200, 3)


def test_hostile_names_are_drawn_and_the_same_input_gives_the_same_picture(tmp_path: Path) -> None:
    for number in (1, 2):
        maps = [random_map(6, 24, name=HOSTILE)]
        path = tmp_path / f"{number}.png"
        attention_picture(maps, path, seq_len=24, title=HOSTILE, example_label=HOSTILE)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_a_mean_and_an_example_of_different_sizes_are_refused(tmp_path: Path) -> None:
    mixed = AttentionMap("x", np.ones((2, 3)), 1, np.ones((2, 4)), 0)
    with pytest.raises(AssertionError):
        attention_picture([mixed], tmp_path / "x.png", seq_len=4)


@pytest.mark.parametrize(
    ("steps", "labels"),
    [
        (0, []),
        (1, [1]),
        (4, [1, 2, 3, 4]),
        (25, [1, 3, 6, 9, 12, 15, 18, 21, 24]),
        (96, [1, 12, 24, 36, 48, 60, 72, 84, 96]),
        (336, [1, 48, 96, 144, 192, 240, 288, 336]),
        (720, [1, 96, 192, 288, 384, 480, 576, 672]),
    ],
)
def test_labels_are_the_first_step_and_parts_or_multiples_of_a_day(steps: int, labels: list[int]) -> None:
    assert _labelled(steps, 10) == labels

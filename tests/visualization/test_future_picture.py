"""The picture of a forecast: any horizon, any number of targets, and dates that can be read."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas_system.visualization import future_forecast
from nas_system.visualization.canvas import GREY, VERMILION
from nas_system.visualization.future import SHADES

Pixels = NDArray[np.uint8]
HOSTILE = "$\\frac{$ \x1b[31m<b>\x00 \u202e"


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw(
    path: Path, *, rows: int = 200, pred_len: int = 24, columns: tuple[str, ...] = ("OT",), **more: Any
) -> None:
    """A random walk that goes on; hourly unless `unit` says otherwise."""
    unit = more.pop("unit", "h")
    start = np.datetime64(more.pop("start", "2018-06-01"), unit)
    dates = (start + np.arange(rows + pred_len)).astype("datetime64[s]")
    values = np.random.default_rng(0).normal(size=(rows + pred_len, len(columns))).cumsum(axis=0)
    values = values * more.pop("scale", 1.0)
    more.setdefault("title", "x")
    future_forecast(
        dates[:rows],
        values[:rows],
        dates[rows:],
        values[rows:],
        path,
        columns=columns,
        **more,
    )


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert round(image.info["dpi"][0]) == 150
        return np.asarray(image.convert("RGB"))


def places(picture: Pixels, color: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels of exactly this colour; smoothed edges have others."""
    rows, columns = np.nonzero((picture == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1))
    return rows, columns


def assert_nothing_is_cut_off(picture: Pixels) -> None:
    border = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    assert (border == 255).all()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"pred_len": 1},
        {"pred_len": 720, "rows": 96},
        {"rows": 1},
        {"unit": "M", "start": "2001-01", "pred_len": 12},
        {"unit": "Y", "start": "1900", "rows": 60, "pred_len": 5},
        {"unit": "s", "start": "2018-12-31T23:59:30", "pred_len": 10},
        {"unit": "m", "start": "2018-12-31T23:00", "pred_len": 96},
        {"scale": 0.0},
        {"scale": 1e12},
        {"scale": 1e-12},
        {"columns": ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")},
        {"columns": tuple(f"a column with a long name {n}" for n in range(30))},
        {"columns": (HOSTILE, HOSTILE), "title": HOSTILE},
    ],
    ids=lambda given: ", ".join(f"{name} {value}" for name, value in given.items())[:30].encode(
        "unicode_escape"
    ),
)
def test_every_forecast_can_be_drawn(given: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "forecast.png"
    draw(path, **given)
    picture = pixels(path)
    assert picture.shape[1] == 1200
    assert 400 < picture.shape[0] < 2000
    for color in (GREY, VERMILION):
        assert len(places(picture, color)[0]) > 60
    assert_nothing_is_cut_off(picture)


def test_the_forecast_stands_after_the_past(tmp_path: Path) -> None:
    draw(tmp_path / "f.png")
    picture = pixels(tmp_path / "f.png")[120:]  # below the legend
    _, columns = places(picture, VERMILION)
    # Three horizons of past, one of forecast.
    width = 1200 - 120 - 52
    assert columns.min() == pytest.approx(120 + 0.75 * width, abs=0.04 * width)
    assert columns.max() == pytest.approx(120 + width, abs=0.04 * width)


def test_every_target_has_a_panel_and_too_many_are_counted(tmp_path: Path) -> None:
    heights = []
    for number in (1, 3, 8, 12):
        draw(tmp_path / "f.png", columns=tuple(f"c{n}" for n in range(number)))
        picture = pixels(tmp_path / "f.png")
        heights.append(len(picture))
        forecast = np.unique(places(picture[110:], VERMILION)[0])
        # Rows of pixels without the forecast's colour part one panel from the next.
        panels = 1 + np.count_nonzero(np.diff(forecast) > 20)
        assert panels == min(number, 8)
    assert heights == sorted(heights)
    assert heights[2] == heights[3]


def test_repeating_the_last_value_is_drawn_at_the_last_value(tmp_path: Path) -> None:
    """A past that falls from the height of the forecast to the bottom: the dashes go on there."""
    dates = np.arange("2018-06-01", "2018-06-05", dtype="datetime64[h]")
    past, forecast = np.linspace(100, 0, 72)[:, None], np.full((24, 1), 100.0)
    future_forecast(dates[:72], past, dates[72:], forecast, tmp_path / "f.png", columns=["OT"])
    picture = pixels(tmp_path / "f.png")[120:-60]
    rows, columns = places(picture, GREY)
    beneath = rows[(columns > 940) & (columns < 1140)]
    assert len(beneath) > 60
    assert beneath.max() - beneath.min() < 6
    assert beneath.min() > 0.9 * len(picture)


def walk_with_bands(path: Path, *levels: int) -> Pixels:
    """A flat forecast after a flat past; the band of a level reaches a hundredth of it up and down."""
    dates = np.arange("2018-06-01", "2018-06-05", dtype="datetime64[h]")
    past, forecast = np.zeros((72, 1)), np.zeros((24, 1))
    bands = {level: (forecast - level / 100, forecast + level / 100) for level in levels}
    future_forecast(dates[:72], past, dates[72:], forecast, path, columns=["OT"], title="x", intervals=bands)
    return pixels(path)


def test_intervals_are_nested_bands_around_the_forecast_with_their_levels_in_the_legend(
    tmp_path: Path,
) -> None:
    picture = walk_with_bands(tmp_path / "f.png", 80, 40)
    heights = []
    for shade in SHADES[:2]:
        # In the legend.
        assert len(places(picture[:110], shade)[0]) > 100
        rows, columns = places(picture[110:], shade)
        assert columns.min() > 0.7 * picture.shape[1]
        heights.append(rows.max() - rows.min())
    # The wider band is what is left of it around the narrower one, twice as high.
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.05)
    assert len(places(picture, VERMILION)[0]) > 60
    assert_nothing_is_cut_off(picture)


def test_without_intervals_there_are_no_bands(tmp_path: Path) -> None:
    picture = walk_with_bands(tmp_path / "f.png")
    assert all(len(places(picture, shade)[0]) == 0 for shade in SHADES)


def test_more_levels_than_shades_can_be_drawn(tmp_path: Path) -> None:
    assert_nothing_is_cut_off(walk_with_bands(tmp_path / "f.png", 50, 60, 70, 80, 90))


def test_forecast_and_past_must_have_the_same_columns(tmp_path: Path) -> None:
    dates = np.arange("2018-06-01", "2018-06-11", dtype="datetime64[D]")
    with pytest.raises(AssertionError):
        future_forecast(dates, np.ones((10, 2)), dates, np.ones((10, 1)), tmp_path / "x.png", columns=["OT"])


def test_the_same_input_gives_the_same_picture_whole_or_not_at_all(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        draw(tmp_path / name)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png"]
    with pytest.raises(OSError, match="nowhere"):
        draw(tmp_path / "nowhere" / "forecast.png")


def test_drawing_needs_no_torch_and_no_display(tmp_path: Path, project_root: Path) -> None:
    code = (
        "import sys, numpy as np, nas_system.visualization as v\n"
        "assert 'matplotlib' not in sys.modules\n"
        "dates = np.arange('2018-06-01', '2018-06-11', dtype='datetime64[D]')\n"
        "v.future_forecast(dates[:8], np.ones((8, 1)), dates[8:], np.ones((2, 1)), 'x.png', columns=['OT'])\n"
        "assert not {'matplotlib.pyplot', 'torch', 'tkinter', 'pandas'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    environment.pop("MPLBACKEND", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "x.png").is_file()

"""The pictures: valid, of a sane size, with what they must show in the colours they promise."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import run_info
from numpy.typing import NDArray
from PIL import Image

from nas_system.nas_agent.agent_state import RunInfo
from nas_system.visualization import Seeds, forecast_examples, learning_curve, search_progress
from nas_system.visualization.canvas import BLUE, GREY, INK, ORANGE, VERMILION, spread

Pixels = NDArray[np.uint8]

HOSTILE = "$\\frac{$ \x1b[31m<b>\x00 \u202e"
BASELINES = [{"name": "last-value", "val_mse": 0.0696}, {"name": "nlinear-336", "val_mse": 0.049}]


def curve(*scores: float | None) -> dict[str, Any]:
    epochs = [{"epoch": n, "train_mse": 0.1 - n / 1000, "val_mse": score} for n, score in enumerate(scores)]
    return {"best_epoch": None, "epochs": epochs}


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert round(image.info["dpi"][0]) == 150
        return np.asarray(image.convert("RGB"))


def count(picture: Pixels, color: str) -> int:
    """Pixels of exactly this colour; smoothed edges have others."""
    return len(rows_of(picture, color))


def rows_of(picture: Pixels, color: str) -> NDArray[np.intp]:
    """The rows, from the top, of all pixels of exactly this colour."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.nonzero((picture == wanted).all(axis=-1))[0]


def differences_right_of_the_label(one: Path, other: Path) -> int:
    """How many pixels differ in two pictures whose axes have different labels, as they must have."""
    differ = (pixels(one) != pixels(other)).any(axis=-1)
    left = differ.shape[1] // 25
    assert differ[:, :left].any()
    return int(differ[:, left:].sum())


def content_touches_the_border(picture: Pixels) -> bool:
    border = np.concatenate((picture[0], picture[-1], picture[:, 0], picture[:, -1]))
    return bool((border != 255).any())


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- learning curve ---------------------------------------------------------------------------


def test_a_learning_curve_has_both_curves_and_its_best_epoch(tmp_path: Path) -> None:
    path = tmp_path / "learning_curve.png"
    learning_curve(curve(0.08, 0.06, 0.07), path, title="run_0001")
    picture = pixels(path)
    assert picture.shape == (600, 1050, 3)
    assert min(count(picture, color) for color in (BLUE, ORANGE, VERMILION)) > 50
    assert not content_touches_the_border(picture)


def test_curves_of_the_absolute_error_are_drawn_alike_below_their_own_name(tmp_path: Path) -> None:
    squared, absolute = tmp_path / "squared.png", tmp_path / "absolute.png"
    scores = curve(0.08, 0.06, 0.07)
    epochs = [{name.replace("mse", "mae"): value for name, value in e.items()} for e in scores["epochs"]]
    baselines = [{"name": row["name"], "val_mae": row["val_mse"]} for row in BASELINES]
    learning_curve(scores, squared, title="x", baselines=BASELINES)
    learning_curve({**scores, "epochs": epochs}, absolute, title="x", baselines=baselines)
    assert differences_right_of_the_label(squared, absolute) == 0


def test_baseline_rows_are_lines_across_the_learning_curve(tmp_path: Path) -> None:
    bare, compared = tmp_path / "bare.png", tmp_path / "compared.png"
    learning_curve(curve(0.08, 0.06, 0.07), bare, title="run_0001")
    learning_curve(curve(0.08, 0.06, 0.07), compared, title="run_0001", baselines=BASELINES)
    # Two dashed lines over two thirds of 1,050 pixels.
    assert count(pixels(compared), GREY) > count(pixels(bare), GREY) + 600


@pytest.mark.parametrize(
    "history",
    [
        {},
        {"epochs": []},
        curve(None, None),
        curve(0.05),
        curve(0.05, None, 0.04),
        curve(0.0, 0.0),
        curve(1e-9, 1e12, 5.0),
        {"epochs": [3, {"val_mse": "x", "epoch": -1}, {"val_mse": float("nan")}, {"val_mse": 10**400}]},
        curve(*np.geomspace(5, 0.01, 300).tolist()),
    ],
    ids=["empty", "no epochs", "no scores", "one", "gap", "zero", "wide", "invalid", "long"],
)
def test_every_history_has_a_learning_curve(history: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    learning_curve(history, path, title="run_0001", baselines=[{"name": "x", "val_mse": None}, *BASELINES])
    assert pixels(path).std() > 1


@pytest.mark.parametrize(("direction", "best"), [("minimize", 0.2), ("maximize", 0.8)])
def test_the_best_epoch_is_the_lowest_or_the_highest_by_the_direction_of_the_history(
    direction: str, best: float, tmp_path: Path
) -> None:
    path = tmp_path / "curve.png"
    epochs = [{"epoch": n, "val_accuracy": score} for n, score in enumerate((0.5, 0.2, 0.8, 0.6))]
    history = {"metric": "val_accuracy", "direction": direction, "epochs": epochs}
    learning_curve(history, path, title="run_0001")
    # The ring: below the title, whose text has its colour, too.
    ring = rows_of(pixels(path)[70:], VERMILION) + 70
    top, bottom = 600 * 0.10, 600 * 0.86
    margin = 0.08 / 1.16
    height = margin + (1 - 2 * margin) * (best - 0.2) / 0.6
    assert ring.mean() == pytest.approx(bottom - height * (bottom - top), abs=8)


# --- forecasts --------------------------------------------------------------------------------


def windows(count: int, seq_len: int, pred_len: int) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(0)
    past = generator.normal(size=(count, seq_len)).cumsum(axis=1)
    truth = past[:, -1:] + generator.normal(size=(count, pred_len)).cumsum(axis=1)
    return past, truth, truth + generator.normal(size=truth.shape) / 5


@pytest.mark.parametrize(
    ("count_", "seq_len", "pred_len"), [(6, 96, 24), (1, 4, 1), (2, 336, 720), (5, 96, 24), (12, 48, 8)]
)
def test_forecasts_of_any_number_and_length_fit(
    count_: int, seq_len: int, pred_len: int, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.png"
    names = [f"2018-02-{n:02d} 00:00" for n in range(1, 13)]
    forecast_examples(*windows(count_, seq_len, pred_len), path, column="OT", title="run_0001", labels=names)
    picture = pixels(path)
    assert 400 < picture.shape[0] < 1400
    assert 900 < picture.shape[1] < 1600
    assert min(count(picture, color) for color in (VERMILION, INK, GREY)) > 100
    assert not content_touches_the_border(picture)


def test_forecasts_must_have_the_shape_of_the_truth(tmp_path: Path) -> None:
    past, truth, forecast = windows(2, 8, 4)
    with pytest.raises(AssertionError):
        forecast_examples(past, truth, forecast[:, :3], tmp_path / "x.png", column="OT")


# --- search progress --------------------------------------------------------------------------


def test_the_progress_shows_runs_failures_acceptance_and_baselines(tmp_path: Path) -> None:
    runs = [
        run_info(0, 0.08, accepted=True),
        run_info(1, None, status="OOM_GPU"),
        run_info(2, 0.055, accepted=True, family="linear"),
        run_info(3, 0.06),
    ]
    full, bare, calm = (tmp_path / f"{name}.png" for name in ("full", "bare", "calm"))
    search_progress(runs, BASELINES, full)
    search_progress(runs, [], bare)
    search_progress([one for one in runs if one.status == "OK"], [], calm)
    picture = pixels(full)
    assert picture.shape == (675, 1200, 3)
    assert count(pixels(full), GREY) > count(pixels(bare), GREY) + 600
    # The cross stands on the upper edge of the axes, under the title.
    edge = slice(45, 80)
    assert count(pixels(bare)[edge], INK) > count(pixels(calm)[edge], INK)
    assert not content_touches_the_border(picture)


@pytest.mark.parametrize(("direction", "best"), [("minimize", 0.5), ("maximize", 0.9)])
def test_the_best_so_far_is_a_running_minimum_or_maximum(direction: Any, best: float, tmp_path: Path) -> None:
    path, failed = tmp_path / "progress.png", tmp_path / "failed.png"
    runs = [run_info(0, 0.7), run_info(1, 0.5), run_info(2, 0.9), run_info(3, 0.6)]
    baselines = [{"name": "x", "val_accuracy": 0.55}, {"name": "y", "val_mse": 0.1}]
    options: Any = {"metric": "val_accuracy", "direction": direction}
    search_progress(runs, baselines, path, **options)
    picture = pixels(path)
    left, right, bottom, top = (round(edge) for edge in (1200 * 0.09, 1200 * 0.79, 675 * 0.835, 675 * 0.09))
    axes = picture[top + 4 : bottom - 4, left + 4 : right - 4]
    # Behind the last run nothing of this colour is drawn but the line.
    end = rows_of(axes[:, -20:], INK).mean() / len(axes)
    assert (end > 0.8) if best == 0.5 else (end < 0.2)
    search_progress([*runs, run_info(4, None, status="FAILED")], baselines, failed, **options)
    with_cross = pixels(failed)
    edges = {"minimize": slice(top - 8, top + 8), "maximize": slice(bottom - 8, bottom + 8)}
    added = {name: count(with_cross[rows], INK) - count(picture[rows], INK) for name, rows in edges.items()}
    assert added[direction] > 5 and max(added, key=lambda name: added[name]) == direction


def test_a_search_by_the_absolute_error_is_drawn_alike_below_its_own_name(tmp_path: Path) -> None:
    squared, absolute = tmp_path / "squared.png", tmp_path / "absolute.png"
    scores = (0.07, 0.06, None, 0.05)
    baselines = [{"name": row["name"], "val_mae": row["val_mse"]} for row in BASELINES]
    kinds: list[dict[str, Any]] = [
        {"status": "FAILED"} if score is None else {"accepted": True} for score in scores
    ]
    search_progress(
        [run_info(n, s, **kind) for n, (s, kind) in enumerate(zip(scores, kinds, strict=True))],
        BASELINES,
        squared,
    )
    on_graphs = [
        RunInfo(run_id=f"run_{n:04d}", family="informer", val_mae=s, **kind)
        for n, (s, kind) in enumerate(zip(scores, kinds, strict=True))
    ]
    search_progress(on_graphs, baselines, absolute, metric="val_mae")
    assert differences_right_of_the_label(squared, absolute) == 0


@pytest.mark.parametrize("number", [0, 1, 2, 1000])
def test_every_number_of_runs_can_be_drawn(number: int, tmp_path: Path) -> None:
    families = [f"family_with_a_long_name_{n}" for n in range(12)]
    runs = [
        run_info(n, None, status="FAILED")
        if n % 9 == 4
        else run_info(n, 0.05 + n % 13, family=families[n % 12])
        for n in range(number)
    ]
    search_progress(runs, BASELINES, tmp_path / "progress.png")
    assert pixels(tmp_path / "progress.png").std() > 1


def test_seeds_intervals_and_ties_are_drawn(tmp_path: Path) -> None:
    runs = [run_info(0, 0.06), run_info(1, 0.05), run_info(2, 0.052)]
    plain, seeded, moved = (tmp_path / f"{name}.png" for name in ("plain", "seeded", "moved"))
    search_progress(runs, BASELINES, plain)
    intervals = {"run_0001": (0.049, 0.053), "run_0009": (0.0, 1.0)}
    scores = {"run_0001": (0.050, 0.052), "run_0002": (0.052,)}
    search_progress(runs, BASELINES, seeded, seeds=Seeds(scores, intervals, {"run_0001", "run_0002"}))
    # Two rings, and one in the legend.
    assert count(pixels(seeded), VERMILION) > count(pixels(plain), VERMILION) + 100
    assert not content_touches_the_border(pixels(seeded))
    search_progress(runs, BASELINES, moved, seeds=Seeds({"run_0001": (0.050, 0.056)}))
    # The best mean is then that of another run, and higher: the line ends above where it did.
    ends = [rows_of(pixels(path)[60:540, 930:940], INK).mean() for path in (plain, moved)]
    assert ends[1] < ends[0]


def test_a_search_of_failures_only_can_be_drawn(tmp_path: Path) -> None:
    search_progress([run_info(0, None, status="FAILED")], [], tmp_path / "progress.png")
    assert count(pixels(tmp_path / "progress.png"), INK) > 20


# --- all of them ------------------------------------------------------------------------------

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "learning_curve": lambda path: learning_curve(
        curve(0.08, 0.06), path, title=HOSTILE, baselines=[{"name": HOSTILE, "val_mse": 0.05}]
    ),
    "forecast_examples": lambda path: forecast_examples(
        *windows(2, 8, 4), path, column=HOSTILE, title=HOSTILE, labels=[HOSTILE, HOSTILE], unit=HOSTILE
    ),
    "search_progress": lambda path: search_progress(
        [run_info(0, 0.05, family=HOSTILE)], [{"name": HOSTILE, "val_mse": 0.06}], path, title=HOSTILE
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_hostile_names_are_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    DRAWINGS[name](tmp_path / "picture.png")
    assert pixels(tmp_path / "picture.png").std() > 1


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_input_gives_the_same_picture(name: str, tmp_path: Path) -> None:
    for number in (1, 2):
        DRAWINGS[name](tmp_path / f"{number}.png")
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_replaced_whole_or_not_at_all(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    DRAWINGS[name](path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="nowhere"):
        DRAWINGS[name](tmp_path / "nowhere" / "picture.png")


def test_drawing_leaves_no_trace_in_the_program(tmp_path: Path, project_root: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nbackend: tkagg\n")
    code = (
        "import sys, nas_system.visualization as v\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib\n"
        "before = dict(matplotlib.rcParams.copy())\n"
        "v.learning_curve({'epochs': [{'epoch': 0, 'val_mse': 0.1}]}, 'x.png', title='x')\n"
        "assert dict(matplotlib.rcParams.copy()) == before and before['font.size'] == 40\n"
        "assert not {'matplotlib.pyplot', 'torch', 'tkinter'} & set(sys.modules)\n"
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
    learning_curve({"epochs": [{"epoch": 0, "val_mse": 0.1}]}, tmp_path / "plain.png", title="x")
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_labels_are_spread_as_little_as_needed() -> None:
    assert spread([0.1, 0.5, 0.9], gap=0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], gap=0.1) == pytest.approx([0.45, 0.55])
    generator = np.random.default_rng(0)
    for size in range(1, 8):
        heights = np.sort(generator.random(size))
        placed = np.array(spread(heights.tolist(), gap=0.1))
        assert (np.diff(placed) >= 0.1 - 1e-12).all()
        # The nearest of all allowed placements: no allowed step away from it comes closer.
        distance = ((placed - heights) ** 2).sum()
        for _ in range(200):
            other = placed + generator.normal(scale=0.02, size=size)
            if (np.diff(other) >= 0.1).all():
                assert ((other - heights) ** 2).sum() >= distance - 1e-12

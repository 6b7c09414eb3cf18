"""Pictures that are drawn after the training, from what it kept: the same ones, from anything it may keep."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_system.files import read_object, write_json
from nas_system.processes.run_files import RunPaths, undrawn_runs
from nas_system.visualization import AttentionMap, MoleculeDrawing, drawings
from nas_system.visualization.drawings import Drawing

HISTORY = {"epochs": [{"epoch": n, "train_mse": 1 / (n + 1), "val_mse": 1.2 / (n + 1)} for n in range(4)]}
RANDOM = np.random.default_rng(0)
WINDOWS = RANDOM.normal(size=(2, 24)), RANDOM.normal(size=(2, 6)), RANDOM.normal(size=(2, 6))
MAP = AttentionMap("layer 1", np.full((6, 24), 1 / 24), 2, np.full((6, 24), 1 / 24, dtype=np.float32), 1)
MOLECULE = MoleculeDrawing(["C", "O"], [(0, 1)], ["double"], np.array([0.25, 0.75]), 0)
DRAWINGS = {
    "forecasts": drawings.forecasts(*WINDOWS, column="load", labels=["2024-01-01", "2024-01-02"]),
    "attention": drawings.attention([MAP], seq_len=24, example_label="forecast from 2024-01-02"),
    "classes": drawings.confusions(np.array([0, 1, 1]), np.array([0, 1, 0]), names=("no link", "link")),
    "numbers": drawings.predicted_numbers(np.array([[0.5], [1.0]]), np.array([[0.4], [1.2]])),
    "molecule": drawings.molecule(MOLECULE),
}


def a_run(runs_dir: Path, number: int, kept: Any, history: Any = HISTORY) -> RunPaths:
    """Make the folder of a finished run that keeps `kept` for its pictures."""
    paths = RunPaths(runs_dir / f"run_{number:04d}")
    paths.folder.mkdir(parents=True)
    paths.history.write_text(json.dumps(history))
    write_json(paths.exit, {})
    paths.pictures.write_text(kept if isinstance(kept, str) else json.dumps(kept))
    return paths


def draw_all(runs_dir: Path) -> str:
    """Draw what waits, by the program; return what it says."""
    command = [sys.executable, "-m", "nas_system.draw_pictures", str(runs_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("kind", DRAWINGS)
def test_a_picture_from_a_file_is_the_same_to_the_byte(kind: str, tmp_path: Path) -> None:
    drawing = DRAWINGS[kind]
    again = Drawing.from_json(json.loads(json.dumps(drawing.to_json())))
    pictures = []
    for number, one in enumerate((drawing, again)):
        folder = tmp_path / str(number)
        folder.mkdir()
        one.draw(folder, "run_0000")
        pictures.append((folder / one.file).read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")


def test_all_that_waits_is_drawn_once(tmp_path: Path) -> None:
    kept = {"title": "run_0000", "baselines": [], "drawings": [DRAWINGS["forecasts"].to_json()]}
    run = a_run(tmp_path, 0, kept)
    repeat = a_run(run.folder / "repeats", 1, kept)
    repeat.folder.rename(run.folder / "repeats/seed_43")
    repeat = RunPaths(run.folder / "repeats/seed_43")
    unfinished = a_run(tmp_path, 2, kept)
    unfinished.exit.unlink()
    assert list(undrawn_runs(tmp_path)) == [run, repeat]
    assert draw_all(tmp_path) == ""
    for paths in (run, repeat):
        assert paths.learning_curve.exists() and paths.predictions.exists() and not paths.pictures.exists()
    assert unfinished.pictures.exists() and not unfinished.learning_curve.exists()


BAD_ARRAY = {"dtype": "float64", "shape": [10**9, 10**9], "base64": "AAAA"}
TWO = {"dtype": "float64", "shape": [1, 2], "base64": "AAAAAAAA8D8AAAAAAADwPw=="}
FLAT = {**TWO, "shape": [2]}


def made_up(kind: str, file: str, **values: Any) -> dict[str, Any]:
    return {"kind": kind, "file": file, "values": values}


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        ({}, "not a picture"),
        ([], "not a picture"),
        (made_up("forecasts", "../../outside.png"), "not a picture"),
        (made_up("forecasts", "learning_curve.png"), "not a picture"),
        (made_up("forecasts", "predictions.png", past=BAD_ARRAY), "buffer"),
        (made_up("forecasts", "predictions.png", past=TWO, truth=TWO, forecast=7), "forecast is not"),
        (made_up("forecasts", "predictions.png", past={**TWO, "dtype": "object"}), "not an array"),
        (made_up("attention", "attention.png", maps=[{}] * 10**5, seq_len=1), "too many"),
        (made_up("molecule", "attention.png", atoms=["C"] * 10**5, attention=FLAT, bonds=[]), "too many"),
        (drawings.confusions(np.array([2**40]), np.array([0])).to_json(), "too many"),
    ],
)
def test_a_made_up_picture_is_refused(drawing: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        Drawing.from_json(drawing).draw(tmp_path, "run_0000")
    assert list(tmp_path.iterdir()) == []


def test_a_made_up_file_costs_its_own_run_the_pictures_and_no_other(tmp_path: Path) -> None:
    good = {"title": "run_0003", "baselines": [], "drawings": []}
    bad = [
        a_run(tmp_path, 0, "no JSON"),
        a_run(tmp_path, 1, "[" * 10**6),
        a_run(tmp_path, 2, {"title": 7, "baselines": [7], "drawings": [{"kind": "forecasts"}]}),
    ]
    odd = a_run(tmp_path, 3, good, {"epochs": [7, {"epoch": "x", "val_mse": math.inf, "train_mse": "y"}, {}]})
    link = a_run(tmp_path, 4, good)
    link.pictures.unlink()
    link.pictures.symlink_to(odd.history)
    last = a_run(tmp_path, 5, good)
    complaints = draw_all(tmp_path)
    assert complaints.count("Traceback") >= 4
    # The learning curve needs the history alone.
    for paths in (*bad, odd, last):
        assert paths.learning_curve.exists() and not paths.pictures.exists()
    assert not os.path.lexists(link.pictures)
    assert read_object(odd.history)  # the link went, not what it led to


def test_a_training_that_goes_on_is_drawn_when_it_has_ended(tmp_path: Path) -> None:
    kept = {"title": "run_0000", "baselines": [], "drawings": []}
    interrupted, pruned, over, repeated, done = (a_run(tmp_path, number, kept) for number in range(5))
    repeat = a_run(repeated.folder / "repeats", 0, kept)
    repeat.folder.rename(repeated.folder / "repeats" / "seed_43")
    repeat = RunPaths(repeated.folder / "repeats" / "seed_43")
    for paths in (interrupted, pruned, over, repeat):
        write_json(paths.metrics, {"reason": "stopped"})
    write_json(done.metrics, {"reason": "completed"})
    write_json(pruned.pruned, {})
    write_json(over.verdict, {})
    draw_all(tmp_path)
    assert [p.learning_curve.exists() for p in (pruned, over, repeated, done)] == [True] * 4
    for paths in (interrupted, repeat):
        assert paths.pictures.exists() and not paths.learning_curve.exists()
    write_json(interrupted.metrics, {"reason": "completed"})
    write_json(repeated.verdict, {})
    draw_all(tmp_path)
    assert interrupted.learning_curve.exists() and repeat.learning_curve.exists()

"""The score of every single window, by the public doors: what a training, `nas score`, `nas describe` leave.

Everything trains for real, with tiny models.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import write_hourly

from nas_system.nas_agent.window_errors import read_baseline_errors, read_errors, write_errors

Cli = Callable[..., subprocess.CompletedProcess[str]]

SERIES = """
task: {dataset: series.csv, targets: [load, heat], pred_len: 4}
model: {family: linear}
data: {features: MS, seq_len: 24, batch_size: 32}
training: {lr: 0.01, max_epochs: 3, patience: 3}
"""
GRAPHS = """
task: {name: %s%s}
model: {family: graph_transformer, hidden_dim: 8, num_layers: 1, heads: 2}
training: {max_epochs: 2}
"""
FEW = ", train_graphs: 40, val_graphs: 20, test_graphs: 10"
TASKS = {
    "series": (SERIES, "mse"),
    "zinc_synth": (GRAPHS % ("zinc_synth", FEW), "mae"),
    "ring_synth": (GRAPHS % ("ring_synth", FEW), "accuracy"),
    "link_synth": (GRAPHS % ("link_synth", ", networks: 20"), "accuracy"),
}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def train(run_cli: Cli, folder: Path, text: str, *flags: str) -> Path:
    write_hourly(folder / "series.csv", 500, load=lambda i: 10 + i % 24 + (i * 37) % 11, heat=lambda i: i % 7)
    (folder / "config.yaml").write_text(text)
    done = run_cli("nas_system.train", "--config", "config.yaml", "--tag", "run_0000", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs/run_0000"


def score(run_cli: Cli, run: Path, *flags: str | Path) -> dict[str, Any]:
    done = run_cli("nas_system.score", "--run", run, *flags, cwd=run.parents[1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", TASKS)
def test_the_mean_over_windows_is_the_score_of_a_training_and_of_every_recomputation(
    kind: str, run_cli: Cli, tmp_path: Path
) -> None:
    text, metric = TASKS[kind]
    run = train(run_cli, tmp_path, text)
    claimed = read(run / "metrics.json")
    errors = read_errors(run / "val_errors.npy", score=claimed[f"val_{metric}"])
    assert errors is not None
    assert errors.mean(dtype=np.float64) == pytest.approx(claimed["val_score"], abs=1e-6)

    (run / "val_errors.npy").unlink()
    score(run_cli, run, "--part", "val")
    assert not (run / "val_errors.npy").exists(), "it writes nothing unless it is asked to"
    again = score(run_cli, run, "--part", "val", "--windows")["runs"][0]
    recomputed = read_errors(run / "val_errors.npy")
    assert recomputed == pytest.approx(errors, rel=1e-4, abs=1e-6)
    assert recomputed.mean(dtype=np.float64) == pytest.approx(again[f"val_{metric}"], abs=1e-6)

    sealed = score(run_cli, run)
    kept = read_errors(run / "hold_out_errors.npy", score=sealed[f"hold_out_{metric}"])
    assert kept is not None
    assert kept.mean(dtype=np.float64) == pytest.approx(sealed[f"hold_out_{metric}"], abs=1e-6)
    if kind != "link_synth":  # several pairs of nodes in a graph
        assert len(errors) == again["samples"]
        assert len(kept) == sealed["windows" if kind == "series" else "graphs"]


def test_windows_are_in_the_order_of_time_with_one_value_for_all_targets(
    run_cli: Cli, tmp_path: Path
) -> None:
    """An error in a few rows shows in the windows that forecast them, and in no other one."""
    run = train(run_cli, tmp_path, SERIES)
    before = read_errors(run / "val_errors.npy")
    assert before is not None
    rows = (tmp_path / "series.csv").read_text().splitlines()
    # The last row of the validation part is forecast by its last window alone, and read by none.
    val_end = _end_of_validation(run_cli, tmp_path)
    date, load, heat = rows[val_end].split(",")
    rows[val_end] = f"{date},{load},{float(heat) + 1000}"
    (tmp_path / "series.csv").write_text("\n".join(rows) + "\n")
    score(run_cli, run, "--part", "val", "--windows")
    after = read_errors(run / "val_errors.npy", count=len(before))
    assert after is not None
    changed = np.flatnonzero(~np.isclose(after, before, rtol=1e-3))
    assert changed.tolist() == [len(before) - 1]


def _end_of_validation(run_cli: Cli, folder: Path) -> int:
    """The line of the last validation row in series.csv, whose first line is the header."""
    flags = ("--dataset", "series.csv", "--target", "load,heat", "--pred-len", "4", "--out", "facts.json")
    done = run_cli("nas_system.describe", *flags, cwd=folder, env={"NAS_STATS_SECONDS": "0"})
    assert done.returncode == 0, done.stderr
    return read(folder / "facts.json")["measured"]["split"]["val"][1]


def test_a_training_s_own_word_is_replaced(run_cli: Cli, tmp_path: Path) -> None:
    run = train(run_cli, tmp_path, SERIES)
    honest = read_errors(run / "val_errors.npy")
    assert honest is not None
    write_errors(run / "val_errors.npy", honest * 0)
    score(run_cli, run, "--part", "val", "--windows")
    assert read_errors(run / "val_errors.npy") == pytest.approx(honest, rel=1e-4)
    (tmp_path / "precious").write_text("precious")
    (run / "val_errors.npy").unlink()
    (run / "val_errors.npy").symlink_to(tmp_path / "precious")
    score(run_cli, run, "--part", "val", "--windows")
    assert read_errors(run / "val_errors.npy") == pytest.approx(honest, rel=1e-4)
    assert (tmp_path / "precious").read_text() == "precious"


def test_windows_are_for_the_validation_part(run_cli: Cli, tmp_path: Path) -> None:
    done = run_cli("nas_system.score", "--run", "nowhere", "--windows", cwd=tmp_path)
    assert done.returncode == 2
    assert "--windows is for --part val" in done.stderr


def test_weights_that_cannot_be_scored_leave_the_file_as_it_is(run_cli: Cli, tmp_path: Path) -> None:
    run = train(run_cli, tmp_path, SERIES)
    before = (run / "val_errors.npy").read_bytes()
    (run / "best_model.pth").write_bytes(b"no weights")
    assert "problem" in score(run_cli, run, "--part", "val", "--windows")["runs"][0]
    assert (run / "val_errors.npy").read_bytes() == before


def test_the_baselines_windows_lie_next_to_the_facts(run_cli: Cli, tmp_path: Path) -> None:
    write_hourly(
        tmp_path / "series.csv", 500, load=lambda i: 10 + i % 24 + (i * 37) % 11, heat=lambda i: i % 7
    )
    flags = (
        "--dataset",
        "series.csv",
        "--target",
        "load,heat",
        "--pred-len",
        "4",
        "--out",
        "runs/facts.json",
    )
    (tmp_path / "runs").mkdir()
    done = run_cli("nas_system.describe", *flags, cwd=tmp_path, env={"NAS_STATS_SECONDS": "600"})
    assert done.returncode == 0, done.stderr
    facts = read(tmp_path / "runs/facts.json")
    scores = {row["name"]: row["val_mse"] for row in facts["baselines"]}
    errors = read_baseline_errors(tmp_path / "runs/baseline_errors.npz", scores)
    assert set(errors) == set(scores)
    assert {len(values) for values in errors.values()} == {facts["sizes"]["val"]}
    # Repeating the last value, written out.
    table = np.loadtxt(tmp_path / "series.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    first, end = facts["measured"]["split"]["val"]
    std = table[: facts["measured"]["split"]["train"][1]].std(axis=0)
    expected = [
        (((table[row : row + 4] - table[row - 1]) / std) ** 2).mean() for row in range(first, end - 3)
    ]
    assert errors["last-value"] == pytest.approx(np.array(expected), rel=1e-5)


def test_a_baseline_scored_on_some_windows_leaves_the_others_open(run_cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("statsforecast")
    write_hourly(tmp_path / "series.csv", 3000, load=lambda i: 10 + i % 24 + (i * 37) % 11)
    flags = ("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--out", "facts.json")
    done = run_cli("nas_system.describe", *flags, cwd=tmp_path, env={"NAS_STATS_SECONDS": "600"})
    assert done.returncode == 0, done.stderr
    facts = read(tmp_path / "facts.json")
    rows = {row["name"]: row for row in facts["baselines"] if row.get("windows")}
    assert rows, "no row was scored on a part"
    errors = read_baseline_errors(
        tmp_path / "baseline_errors.npz", {name: row["val_mse"] for name, row in rows.items()}
    )
    for name, row in rows.items():
        scored, of = map(int, row["windows"].split(" of "))
        assert (len(errors[name]), np.isfinite(errors[name]).sum()) == (of, scored)

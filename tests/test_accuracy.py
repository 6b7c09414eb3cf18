"""Errors in the units of the data, by the public doors: every training and every baseline has them.

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

Cli = Callable[..., subprocess.CompletedProcess[str]]

CONFIG = """
task: {dataset: series.csv, targets: [load], pred_len: 4}
model: {family: linear}
data: {seq_len: 24, batch_size: 32}
training: {lr: 0.01, max_epochs: 2, patience: 3}
"""


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def folder(run_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A described series with a training, whose best epoch is scored on the hold-out rows."""
    folder = tmp_path_factory.mktemp("series")
    write_hourly(folder / "series.csv", 500, load=lambda i: 1000 + 50 * (i % 24) + (i * 37) % 110)
    (folder / "config.yaml").write_text(CONFIG)
    task = ("--dataset", "series.csv", "--target", "load", "--pred-len", "4", "--out", "facts.json")
    for module, *arguments in (
        ("nas_system.describe", *task),
        ("nas_system.train", "--config", "config.yaml", "--tag", "run_0000", "--pictures", "none"),
        ("nas_system.score", "--run", "runs/run_0000", "--facts", "facts.json"),
    ):
        done = run_cli(module, *arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def spread_of_training_rows(folder: Path) -> float:
    values = np.loadtxt(folder / "series.csv", delimiter=",", skiprows=1, usecols=1)
    return values[: read(folder / "facts.json")["measured"]["split"]["train"][1]].std()


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_training_s_errors_are_its_scores_in_the_units_of_the_data(folder: Path, part: str) -> None:
    metrics, std = read(folder / "runs/run_0000/metrics.json"), spread_of_training_rows(folder)
    found = metrics["accuracy"][part]
    assert std > 100
    assert found["rmse"] == pytest.approx(metrics[f"{part}_mse"] ** 0.5 * std, rel=1e-4)
    assert found["mae"] == pytest.approx(metrics[f"{part}_mae"] * std, rel=1e-4)
    assert len(found["per_step"]["mae"]) == len(found["per_step"]["rmse"]) == 4
    assert np.mean(found["per_step"]["mae"]) == pytest.approx(found["mae"], rel=1e-4)
    assert np.mean(np.square(found["per_step"]["rmse"])) == pytest.approx(found["rmse"] ** 2, rel=1e-4)
    # About a thousand each, with errors of a few dozen.
    assert found["smape"] == pytest.approx(100 * found["mae"] / 1600, rel=0.2)


def test_runs_and_baselines_share_what_mase_divides_by_on_every_part(folder: Path) -> None:
    run, hold_out = read(folder / "runs/run_0000/metrics.json"), read(folder / "runs/run_0000/sealed.json")
    rows = [run, hold_out, *read(folder / "facts.json")["baselines"], *hold_out["baselines"]]
    figures = [found for row in rows for found in row["accuracy"].values()]
    assert len(figures) == 2 + 1 + 3 * (len(hold_out["baselines"]))
    values = np.loadtxt(folder / "series.csv", delimiter=",", skiprows=1, usecols=1)
    train = values[: read(folder / "facts.json")["measured"]["split"]["train"][1]]
    day = np.abs(train[24:] - train[:-24]).mean()
    assert [found["mae"] / found["mase"] for found in figures] == pytest.approx([day] * len(figures))
    std = spread_of_training_rows(folder)
    assert hold_out["accuracy"]["hold_out"]["rmse"] == pytest.approx(
        hold_out["hold_out_mse"] ** 0.5 * std, rel=1e-4
    )


def test_a_task_on_graphs_has_none(run_cli: Cli, tmp_path: Path) -> None:
    few = "train_graphs: 40, val_graphs: 20, test_graphs: 10"
    model = "{family: graph_transformer, hidden_dim: 8, num_layers: 1, heads: 2}"
    (tmp_path / "config.yaml").write_text(
        f"task: {{name: ring_synth, {few}}}\nmodel: {model}\ntraining: {{max_epochs: 1}}\n"
    )
    flags = ("--config", "config.yaml", "--tag", "run_0000", "--pictures", "none")
    done = run_cli("nas_system.train", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = read(tmp_path / "runs/run_0000/metrics.json")
    assert "accuracy" not in metrics and metrics["test_accuracy"] is not None

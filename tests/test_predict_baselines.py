"""Forecasts by the baselines of a search, named as its leaderboard names them."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_system.data.baselines.nlinear import RIDGE
from nas_system.space import task_adapter

Cli = Callable[..., subprocess.CompletedProcess[str]]
ROWS, PRED_LEN = 180, 9
FIRST = np.datetime64("2021-03-01")
SHAPE = np.array([[0.0, 3, 1, 7, 2, 5, 4], [5, 1, 0, 2, 9, 3, 3]]).T
NAMES = ["last-value", "drift", "seasonal-7", "nlinear-49", "ets", "theta", "lightgbm", "arima"]


def weekly(rows: int = ROWS) -> np.ndarray:
    """(rows, 2): a week each, a slow trend, and a little noise."""
    steps = np.arange(rows)
    noise = np.random.default_rng(4).normal(size=(rows, 2))
    return np.round([400, 30] + [20, 2] * SHAPE[steps % 7] + 0.1 * steps[:, None] + 0.3 * noise, 3)


def write(path: Path, values: np.ndarray, columns: str = "load,heat", step: int = 1) -> Path:
    days = FIRST + step * np.arange(len(values))
    lines = [f"{day},{','.join(map(str, row))}" for day, row in zip(days, values, strict=True)]
    path.write_text("\n".join([f"date,{columns}", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, run_cli: Cli) -> Path:
    """The folder of a search that has its task info and no run yet."""
    folder = tmp_path_factory.mktemp("weekly")
    (folder / "runs").mkdir()
    write(folder / "own.csv", weekly())
    flags = ("--dataset", folder / "own.csv", "--target", "heat,load", "--pred-len", str(PRED_LEN))
    out = ("--out", folder / "runs/task_facts.json")
    done = run_cli("nas_system.describe", *flags, *out, cwd=folder, env={"NAS_STATS_SECONDS": "600"})
    assert done.returncode == 0, done.stderr
    return folder


def rows_of(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """The header, the time stamps and the values of a forecast."""
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    return header, [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=float)


def straight(rows: np.ndarray) -> np.ndarray:
    slope = (rows[-1] - rows[0]) / (len(rows) - 1)
    return rows[-1] + slope * np.arange(1, PRED_LEN + 1)[:, None]


def nlinear(rows: np.ndarray, look_back: int) -> np.ndarray:
    """Least squares over stacked windows of all rows, the penalty as rows of the data."""
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    scaled, inputs, outputs = (rows - mean) / std, [], []
    for column in scaled.T:
        for start in range(len(column) - look_back - PRED_LEN + 1):
            past = column[start : start + look_back]
            inputs.append([*(past[:-1] - past[-1]), 1.0])
            outputs.append(column[start + look_back : start + look_back + PRED_LEN] - past[-1])
    penalty = np.sqrt(RIDGE) * np.eye(look_back)[:-1]
    nothing = np.zeros((look_back - 1, PRED_LEN))
    weights = np.linalg.lstsq(np.vstack([inputs, penalty]), np.vstack([outputs, nothing]))[0]
    last = scaled[-1]
    features = np.vstack([scaled[-look_back:-1] - last, np.ones(2)])
    return (last[:, None] + features.T @ weights).T * std + mean


def by_statsforecast(name: str, rows: np.ndarray) -> np.ndarray:
    from statsforecast.models import AutoARIMA, AutoETS, DynamicOptimizedTheta

    model = {"ets": AutoETS, "theta": DynamicOptimizedTheta}.get(name)
    build = (
        (lambda: model(season_length=7)) if model else lambda: AutoARIMA(season_length=7, approximation=True)
    )
    return np.stack([build().fit(column).predict(PRED_LEN)["mean"] for column in rows.T], axis=1)


INDEPENDENT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "last-value": lambda rows: np.tile(rows[-1], (PRED_LEN, 1)),
    "drift": straight,
    "seasonal-7": lambda rows: np.vstack([rows[-7:], rows[-7:]])[:PRED_LEN],
    "nlinear-49": lambda rows: nlinear(rows, 49),
    **{name: lambda rows, name=name: by_statsforecast(name, rows) for name in ("ets", "theta", "arima")},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_leaderboard_forecasts_the_future(
    name: str, described: Path, run_cli: Cli, tmp_path: Path
) -> None:
    facts = json.loads((described / "runs/task_facts.json").read_text())
    assert [row["name"] for row in facts["baselines"]] == NAMES
    out, plot = tmp_path / "f.csv", tmp_path / "f.png"
    flags = ("--run", name, "--out", out, "--plot", plot, "--intervals", "none")
    done = run_cli("nas_system.predict", *flags, cwd=described)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    header, dates, found = rows_of(out)
    assert header == ["date", "heat", "load"]
    assert dates == [str(FIRST + ROWS + step) for step in range(PRED_LEN)]
    rows = weekly()[:, ::-1]
    if name in INDEPENDENT:
        np.testing.assert_allclose(found, INDEPENDENT[name](rows), rtol=1e-4)
    truth = weekly(ROWS + PRED_LEN)[-PRED_LEN:, ::-1]
    assert (np.abs(found - truth).max(axis=0) < 0.5 * rows.std(axis=0)).all() == (
        name not in ("last-value", "drift")
    )
    first = done.stdout.splitlines()[0]
    score = next(row["val_mse"] for row in facts["baselines"] if row["name"] == name)
    assert first.startswith(f"{name} (baseline, val_mse {score:.5f}) ")
    assert first.endswith("180 rows of own.csv, up to 2021-08-27")
    assert plot.read_bytes().startswith(b"\x89PNG") and f"wrote {plot}" in done.stdout


def test_another_file_is_forecast_from_its_own_rows(described: Path, run_cli: Cli, tmp_path: Path) -> None:
    new = write(tmp_path / "new.csv", 1000 - weekly(60)[:, :1].repeat(3, axis=1), "x,load,heat")
    given = ("--workspace", described, "--csv", new)
    done = run_cli("nas_system.predict", "--run", "seasonal-7", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "read the last 7 of 60 rows of new.csv" in done.stdout
    header, dates, found = rows_of(tmp_path / "forecast.csv")
    assert (header, dates[0]) == (["date", "heat", "load"], str(FIRST + 60))
    np.testing.assert_allclose(found[:7, 0], 1000 - weekly(60)[-7:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("nlinear-49", {}, "new.csv: 60 rows are too few for nlinear-49, which needs 107"),
        ("drift", {"step": 2}, "new.csv: the step between rows is 2D, but that of the search is D"),
        ("drift", {"columns": "load,wind"}, "new.csv: there is no column 'heat'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    name: str, spoil: dict[str, Any], words: str, described: Path, run_cli: Cli, tmp_path: Path
) -> None:
    new = write(tmp_path / "new.csv", weekly(60), **spoil)
    done = run_cli("nas_system.predict", "--run", name, "--csv", new, "--workspace", described, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and words in done.stderr
    assert not (tmp_path / "forecast.csv").exists()


def test_an_unknown_name_lists_the_rows_there_are(described: Path, run_cli: Cli) -> None:
    for name in ("nlinear-336", "thetta", "run_0000"):
        done = run_cli("nas_system.predict", "--run", name, cwd=described)
        assert done.returncode == 2
        assert f"no run and no baseline {name!r}" in done.stderr and ", ".join(NAMES) in done.stderr


def test_a_run_of_the_name_wins_and_another_folder_does_not(
    described: Path, run_cli: Cli, tmp_path: Path
) -> None:
    shutil.copytree(described, tmp_path / "copy")
    (tmp_path / "copy/drift").mkdir()
    baseline = run_cli("nas_system.predict", "--run", "drift", cwd=tmp_path / "copy")
    assert baseline.returncode == 0 and baseline.stdout.startswith("drift (baseline, "), baseline.stderr
    (tmp_path / "copy/drift/config_used.py").write_text("config = {}\n")
    run = run_cli("nas_system.predict", "--run", "drift", cwd=tmp_path / "copy")
    assert run.returncode == 2 and "best_model.pth" in run.stderr, run.stderr


def test_a_row_of_an_extra_that_is_not_installed_says_what_to_install(described: Path, run_cli: Cli) -> None:
    hidden = "import sys\nsys.modules['statsforecast'] = None\n"
    hidden += "from nas_system.predict import main\nsys.exit(main())\n"
    (described / "without.py").write_text(hidden)
    done = run_cli("without", "--run", "theta", cwd=described)
    assert (done.returncode, done.stdout) == (2, "")
    expected = 'error: theta needs statsforecast, which is not installed: pip install -e ".[stats]"\n'
    assert done.stderr == expected


def test_a_search_over_graphs_has_nothing_to_forecast(described: Path, run_cli: Cli, tmp_path: Path) -> None:
    facts = json.loads((described / "runs/task_facts.json").read_text())
    facts["task"] = task_adapter.validate_python({"name": "ring_synth"}).model_dump(mode="json")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/task_facts.json").write_text(json.dumps(facts))
    done = run_cli("nas_system.predict", "--run", "drift", cwd=tmp_path)
    assert done.returncode == 2
    assert "is about ring_synth, so there is nothing to forecast" in done.stderr


BASE = """
model: {family: linear}
data: {features: S, seq_len: 12, batch_size: 512}
training: {lr: 0.00001, max_epochs: 1, patience: 1}
"""


def test_a_search_that_a_baseline_leads_says_so_and_how_to_use_it(run_cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "own.csv", weekly())
    (tmp_path / "base.yaml").write_text(BASE)
    flags = ("--dataset", "own.csv", "--target", "load", "--pred-len", "7", "--base-config", "base.yaml")
    limits = ("--repeat-base", "0", "--max-runs", "1", "--proposer", "random_search")
    done = run_cli("nas_agent_graph.run", *flags, *limits, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, says, command = done.stdout.splitlines()
    path = tmp_path / "runs/task_facts.json"
    facts = json.loads(path.read_text())
    best = min(facts["baselines"], key=lambda row: row["val_mse"])
    assert says.startswith(f"A baseline leads, no run: {best['name']} has val_mse {best['val_mse']:.5f}")
    assert ", the best run run_0000 " in says and says.endswith(". Forecast with it:")
    words = shlex.split(command)
    assert words == ["nas", "predict", "--run", best["name"]]
    forecast = run_cli("nas_system.predict", *words[2:], cwd=tmp_path)
    assert forecast.returncode == 0 and forecast.stdout.startswith(f"{best['name']} (baseline, ")
    by_name = run_cli("nas_system.predict", "--run", "run_0000", cwd=tmp_path)
    assert by_name.returncode == 0 and by_name.stdout.startswith("run_0000 (linear, epoch "), by_name.stderr

    # The same search, had its baselines been worse.
    facts["baselines"] = [row | {"val_mse": 100.0, "windows": "3 of 21"} for row in facts["baselines"][:1]]
    path.write_text(json.dumps(facts))
    again = run_cli("nas_agent_graph.run", *limits, cwd=tmp_path)
    assert again.returncode == 0 and "A baseline leads" not in again.stdout
    assert "Scored on some of the windows only: last-value (3 of 21)" in again.stdout
    assert again.stdout.splitlines()[-1].startswith("go on: ")

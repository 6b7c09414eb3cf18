"""`nas predict --backtest`: what a search hands over at earlier dates, by rows before them alone."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_agent_graph.analysis.standings import candidates_of
from nas_agent_graph.handover.earlier_choice import evidence_of, windows_known_at
from nas_agent_graph.handover.refits import ends_of
from nas_agent_graph.text.backtest import backtest_lines
from nas_system.data.csv_file import parse_csv
from nas_system.data.series import Series
from nas_system.nas_agent.backtest import read_backtest
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.recommended import read_recommended
from nas_system.nas_agent.run_manager import load_task_info
from nas_system.tasks.baseline_forecaster import load_baseline
from nas_system.tasks.saved_forecaster import load_forecaster

pytestmark = pytest.mark.timeout(400)

Cli = Callable[..., subprocess.CompletedProcess[str]]

ROWS, STEPS = 600, 12
TRAIN_END, VAL_END = 300, 540
DATES = (ROWS - 2 * STEPS, ROWS - STEPS)
FLAGS = (
    *("--dataset", "series.csv", "--target", "load", "--pred-len", str(STEPS), "--split", "0.5,0.4,0.05"),
    *("--origins", "1", "--base-config", "base.json", "--max-runs", "1", "--repeat-base", "0"),
    *("--repeats", "0", "--device", "cpu", "--threads", "1"),
)
BASE = {
    "model": {"family": "linear", "linear_start": "ridge"},
    "data": {"seq_len": 48, "batch_size": 64, "features": "S"},
    "training": {"max_epochs": 2, "lr": 0.0001},
}
PREDICT = (sys.executable, "-m", "nas_agent_graph.cli", "predict")


def values_until(poisoned_from: int = ROWS) -> np.ndarray:
    steps, noise = np.arange(ROWS), np.random.default_rng(5).normal(size=ROWS)
    values = 50 + 8 * np.sin(2 * np.pi * steps / 24) + 4 * np.sin(2 * np.pi * steps / 8) + noise
    values[poisoned_from:] += 1e4 * np.random.default_rng(6).normal(size=ROWS - poisoned_from)
    return np.round(values, 4)


def search(workspace: Path, values: np.ndarray, run_cli: Cli) -> Path:
    dates = np.datetime64("2024-01-01T00:00", "m") + 60 * np.arange(len(values))
    with open(workspace / "series.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("date", "load"))
        writer.writerows((str(date), f"{value:.4f}") for date, value in zip(dates, values, strict=True))
    (workspace / "base.json").write_text(json.dumps(BASE))
    done = run_cli("nas_agent_graph.run", *FLAGS, cwd=workspace, timeout_s=380)
    assert done.returncode == 0, done.stderr
    assert read_recommended(workspace).refits["hold_out"].keys() == {"run_0000"}, "a run has to be refitted"
    return workspace


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, run_cli: Cli) -> Path:
    return search(tmp_path_factory.mktemp("searched"), values_until(), run_cli)


@pytest.fixture(scope="module")
def tested(searched: Path, run_cli: Cli) -> tuple[Path, str]:
    """The workspace after a backtest of two dates, and what that said."""
    done = run_cli("nas_agent_graph.cli", "predict", "--backtest", "2", cwd=searched, timeout_s=380)
    assert (done.returncode, done.stderr) == (0, "")
    return searched, done.stdout


def series_of(workspace: Path) -> Series:
    return parse_csv((workspace / "series.csv").read_bytes(), "series.csv")


def first_rows(series: Series, rows: int) -> Series:
    return Series(series.values[:rows], series.columns, series.dates[:rows], series.freq)


def forecast_of(member: Any, known: Series, workspace: Path) -> Any:
    """Return what a member forecasts after the last known row: a run by the mean over its seeds."""
    if member["kind"] == "baseline":
        return load_baseline(member["name"], workspace / "runs/task_facts.json").forecast(known).values
    folders = [workspace / training["folder"] for training in member["trainings"]]
    return np.mean([load_forecaster(folder, "cpu").forecast(known).values for folder in folders], axis=0)


def backtest_of(workspace: Path) -> dict[str, Any]:
    return json.loads((workspace / "runs/backtest.json").read_text())


def rows_of(workspace: Path) -> list[dict[str, str]]:
    with open(workspace / "backtest.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights_in(workspace: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in workspace.glob("runs/run_*/backtests/*/best_model.pth")}


def test_every_date_is_forecast_by_a_refit_on_the_rows_before_it(tested: tuple[Path, str]) -> None:
    workspace, _ = tested
    origins = backtest_of(workspace)["origins"]
    assert [origin["row"] for origin in origins] == list(DATES)
    for origin in origins:
        trained = [one for member in origin["forecaster"]["members"] for one in member["trainings"]]
        assert trained
        for training in trained:
            metadata = load_forecaster(workspace / training["folder"], "cpu").metadata
            assert metadata.trained_until == origin["row"]
            assert metadata.scaler["mean"][0] == pytest.approx(values_until()[: origin["row"]].mean())


def test_the_scores_are_those_of_its_forecasts_and_of_the_baselines(tested: tuple[Path, str]) -> None:
    workspace, said = tested
    series, values = series_of(workspace), values_until()
    std = values[:TRAIN_END].std()
    recipes = [row for row in rows_of(workspace) if row["forecaster"] == "recipe"]
    naive = [row for row in rows_of(workspace) if row["forecaster"] == "last-value"]
    for origin, row, last in zip(backtest_of(workspace)["origins"], recipes, naive, strict=True):
        first = origin["row"]
        truth, season = values[first : first + STEPS], np.abs(values[24:first] - values[: first - 24]).mean()
        known = first_rows(series, first)
        members = origin["forecaster"]["members"]
        recipe = sum(one["weight"] * forecast_of(one, known, workspace) for one in members)
        for forecast, shown in ((recipe[:, 0], row), (values[first - 1], last)):
            errors = forecast - truth
            assert float(shown["mse"]) == pytest.approx(np.square(errors).mean(), rel=1e-4)
            assert float(shown["mae"]) == pytest.approx(np.abs(errors).mean(), rel=1e-4)
            assert float(shown["mse_scaled"]) == pytest.approx(np.square(errors / std).mean(), rel=1e-4)
            assert float(shown["mae_scaled"]) == pytest.approx(np.abs(errors / std).mean(), rel=1e-4)
            assert float(shown["mase"]) == pytest.approx(np.abs(errors).mean() / season, rel=1e-4)
    mean = np.mean([float(row["mse_scaled"]) for row in recipes])
    assert backtest_of(workspace)["evaluation"]["mean"]["mse_scaled"] == pytest.approx(mean, rel=1e-5)
    assert f"last-value {np.mean([float(row['mse_scaled']) for row in naive]):.5f}" in said


def test_it_says_the_cost_beforehand_and_what_is_not_repeated(tested: tuple[Path, str]) -> None:
    workspace, said = tested
    count = len(weights_in(workspace))
    assert count >= 2
    cost, table = said.index(f"backtest: {count} trainings for 2 dates; about "), said.index("best baseline")
    assert said.index("wrote forecast.csv") < cost < table
    until = str(series_of(workspace).dates[VAL_END - 1]).replace("T", " ")
    assert f"At 2 of 2 dates the choice is the search's; it saw rows up to {until}, before those" in said
    assert all(
        0 <= float(row["covered_80"]) <= float(row["covered_90"]) <= 1 for row in rows_of(workspace)[:1]
    )


def test_the_same_command_trains_nothing_again(tested: tuple[Path, str], run_cli: Cli) -> None:
    workspace, _ = tested
    before, table = weights_in(workspace), (workspace / "backtest.csv").read_bytes()
    done = run_cli("nas_agent_graph.cli", "predict", "--backtest", "2", cwd=workspace, timeout_s=380)
    assert done.returncode == 0
    assert f"backtest: 0 trainings for 2 dates, {len(before)} more are kept" in done.stdout
    assert weights_in(workspace) == before and (workspace / "backtest.csv").read_bytes() == table


def test_no_row_after_a_date_reaches_what_is_forecast_there(
    tested: tuple[Path, str], tmp_path: Path, run_cli: Cli
) -> None:
    workspace, _ = tested
    other = search(tmp_path, values_until(poisoned_from=DATES[0]), run_cli)
    done = run_cli("nas_agent_graph.cli", "predict", "--backtest", "2", cwd=other, timeout_s=380)
    assert done.returncode == 0, done.stderr
    ours, theirs = (backtest_of(folder)["evaluation"]["dates"] for folder in (workspace, other))
    assert ours[0]["forecast"] == theirs[0]["forecast"]
    assert ours[1]["forecast"] != theirs[1]["forecast"], "the later date knows them"
    assert ours[0]["scores"]["mse"] < 100 < theirs[0]["scores"]["mse"]


def test_an_interrupted_backtest_keeps_its_refits_and_goes_on(tested: tuple[Path, str], run_cli: Cli) -> None:
    """Back to dates within the validation part, at which some of its windows were known."""
    workspace, _ = tested
    dates = 2 + (ROWS - VAL_END) // STEPS
    before, log = weights_in(workspace), workspace / "stopped.log"
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*PREDICT, "--backtest", str(dates)], cwd=workspace, stdout=file, stderr=file
        )
        deadline = time.monotonic() + 200
        while len(weights_in(workspace)) < len(before) + 2:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=100) == 130
    assert "the refits that have ended are kept" in log.read_text() and "Traceback" not in log.read_text()
    ended = weights_in(workspace)
    assert len(before) + 2 <= len(ended)
    done = run_cli("nas_agent_graph.cli", "predict", "--backtest", str(dates), cwd=workspace, timeout_s=380)
    assert done.returncode == 0, done.stderr
    after = weights_in(workspace)
    assert len(ended) < len(after), "it was over before it was interrupted"
    assert {path: after[path] for path in ended} == ended, "a refit was trained twice"
    hows = [origin["how"] for origin in backtest_of(workspace)["origins"]]
    assert hows == ["again"] * 2 + ["search"] * (dates - 2)
    assert f"At 2 of {dates} dates it was chosen again by the validation windows known there" in done.stdout


def info_of(workspace: Path) -> Any:
    info = load_task_info(workspace / "runs")
    assert info is not None
    return info


def test_a_choice_that_saw_later_rows_is_named(tested: tuple[Path, str]) -> None:
    workspace, _ = tested
    backtest = read_backtest(workspace / "runs")
    hindsight = backtest.model_copy(
        update={"origins": tuple(one.model_copy(update={"how": "not again"}) for one in backtest.origins)}
    )
    assert list(backtest_lines(hindsight))[-1].endswith("after those dates, so these are too good.")


def test_the_evidence_at_a_date_is_that_of_the_windows_before_it(searched: Path) -> None:
    ledger, info = Ledger(searched, Ledger.open(searched)[0].state), info_of(searched)
    ends = ends_of(info)
    assert (ends["train"], ends["val"]) == (TRAIN_END, VAL_END)
    assert windows_known_at(TRAIN_END + STEPS - 1, ends, info) == 0
    assert windows_known_at(TRAIN_END + STEPS, ends, info) == 1
    assert windows_known_at(ROWS, ends, info) == VAL_END - TRAIN_END - STEPS + 1
    found = evidence_of(40, ledger, info)
    assert found is not None
    errors = np.load(searched / "runs/run_0000/val_errors.npy").astype(float)
    (candidate,), (whole,) = found.candidates, candidates_of(ledger.state)
    assert candidate.mean == pytest.approx(errors[:40].mean())
    assert candidate.mean != pytest.approx(whole.mean)
    with np.load(searched / "runs/baseline_errors.npz") as baselines:
        assert found.baselines["drift"] == pytest.approx(baselines["drift"][:40].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("0",), "'0' is no number of dates from 1 to 100"),
        (("101",), "'101' is no number of dates from 1 to 100"),
        (("45",), "rows hold 44 dates, 12 steps apart, with the 72 rows before them"),
        (("2", "--run", "run_0000"), "leave out --run"),
        (("2", "--csv", "series.csv"), "leave out --csv"),
        (("2", "--as-searched"), "leave out --as-searched"),
        (("2", "--plot", "a.png", "--out", "backtest.csv"), "backtest.csv is what --backtest writes"),
    ],
)
def test_what_cannot_be_tested_is_refused(
    searched: Path, run_cli: Cli, flags: tuple[str, ...], complaint: str
) -> None:
    done = run_cli("nas_agent_graph.cli", "predict", "--backtest", *flags, cwd=searched)
    assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr


def test_the_program_that_trains_nothing_says_who_does(searched: Path, run_cli: Cli) -> None:
    done = run_cli("nas_system.predict", "--backtest", "2", cwd=searched)
    assert done.returncode == 2 and "python -m nas_agent_graph.cli predict" in done.stderr


def test_weights_that_know_later_rows_are_refused(tested: tuple[Path, str], run_cli: Cli) -> None:
    workspace, _ = tested
    path = workspace / "runs/backtest.json"
    text = path.read_text()
    record = json.loads(text)
    first, last = (record["origins"][place] for place in (0, -1))
    first["forecaster"] = last["forecaster"]
    path.write_text(json.dumps(record))
    done = run_cli("nas_system.evaluate", "--backtest", cwd=workspace)
    path.write_text(text)
    assert done.returncode == 2
    assert f"run_0000: its weights have learned from rows after row {first['row']:,}" in done.stderr

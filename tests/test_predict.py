"""Forecasts from a finished run: the training's own numbers, from the last rows of a series like its own."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_system.config_io.config_file import write_config
from nas_system.data import Series, WindowLoader, build_windows, locate
from nas_system.data.calendar import dates_after
from nas_system.data.csv_file import parse_csv
from nas_system.model import build_model
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.predict import main
from nas_system.space import RunConfig
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.loops import predict
from nas_system.training.objectives import Forecasting
from nas_system.training_job import JobOptions, run_training

INFORMER = {"family": "informer", "d_model": 8, "n_heads": 2, "e_layers": 1, "d_ff": 8, "label_len": 8}
HOURLY: dict[str, Any] = {
    "model": INFORMER | {"attention": "full"},
    "task": {"targets": ["load"], "pred_len": 6},
    "data": {"seq_len": 24, "features": "MS", "batch_size": 64},
}
# Calendar numbers below an hour have a fifth mark; the targets stand in another order than in the file.
QUARTERS: dict[str, Any] = {
    "model": INFORMER | {"attention": "full", "embed": "fixed"},
    "task": {"targets": ["wind", "load"], "pred_len": 8},
    "data": {"seq_len": 32, "features": "MS", "batch_size": 64},
}
MONTHS: dict[str, Any] = {
    "model": {"family": "linear"},
    "task": {"targets": ["load"], "pred_len": 4},
    "data": {"seq_len": 12, "features": "S", "batch_size": 16},
}
COLUMNS = ("load", "heat", "wind")


def make_series(start: str, freq: str, rows: int) -> Series:
    first = np.array([start], dtype="datetime64[s]")
    dates = np.concatenate([first, dates_after(first, freq, rows - 1)])
    steps, noise = np.arange(rows), np.random.default_rng(3).normal(size=(rows, 3))
    waves = np.stack([np.sin(steps / 4), np.cos(steps / 9), np.sin(steps / 11)], axis=1)
    return Series(np.round([500, 20, 3] + [90, 4, 1] * (waves + noise / 5), 4), COLUMNS, dates, freq)


CASES = {
    "hourly": (HOURLY, make_series("2024-02-20T00", "h", 400)),
    "15min": (QUARTERS, make_series("2023-12-29T00", "15min", 500)),
    "month ends": (MONTHS, make_series("2010-01-31", "MS", 170)),
}


@dataclass(frozen=True)
class Trained:
    """A small finished run and its series."""

    run: Path
    config: RunConfig
    series: Series

    def forecast(self, out: Path, series: Series | None = None, *more: str | Path) -> Series:
        """Through the program, from `series` written to a file; the run's own without one."""
        arguments: list[Any] = ["--run", self.run, "--out", out, *more]
        if series is not None:
            rows = out.with_name("rows.csv")
            write_csv(rows, series)
            arguments += ["--csv", rows]
        assert main([str(argument) for argument in arguments]) == 0
        return read_table(out)

    def engine_forecasts(self) -> tuple[np.ndarray, np.ndarray]:
        """Of all test windows at once, by the training's own parts; and the time stamps they are about."""
        windows = build_windows(self.series, self.config)
        model = build_model(self.config, windows.shape)
        model.load_state_dict(load_checkpoint(self.run / "best_model.pth")["model"])
        loader = WindowLoader(windows["test"], 512)
        scaled = predict(model, loader, Forecasting(), torch.device("cpu"))
        rows = [list(windows["test"].target_rows(index)) for index in range(len(windows["test"]))]
        return windows.target_scaler.inverse(scaled.numpy()), self.series.dates[np.array(rows)]


def write_csv(path: Path, series: Series) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("date", *series.columns))
        writer.writerows(zip(series.dates, *series.values.T, strict=True))


def read_table(path: Path) -> Series:
    """A forecast is a series that the program itself can read; `freq` is not looked at."""
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    assert header[0] == "date"
    dates = np.array([row[0] for row in rows], dtype="datetime64[s]")
    return Series(np.array([row[1:] for row in rows], dtype=float), tuple(header[1:]), dates, "")


def head(series: Series, rows: int) -> Series:
    return replace(series, values=series.values[:rows], dates=series.dates[:rows])


def train(folder: Path, parts: dict[str, Any], series: Series) -> Trained:
    dataset = folder / "series.csv"
    write_csv(dataset, series)
    task = parts["task"] | {"dataset": str(dataset)}
    training = {"max_epochs": 2, "lr": 0.01}
    config = RunConfig.model_validate(parts | {"task": task, "training": training, "seed": 5})
    run = folder / "runs" / "run_0003"
    run.mkdir(parents=True)
    write_config(run / "config_used.py", config)
    options = JobOptions(
        tag=run.name, device="cpu", threads=1, time_limit_s=None, resume=False, facts=None, data_dir=None,
        stop=lambda: None,
    )  # fmt: skip
    run_training(config, RunPaths(run), options)
    return Trained(run, config, series)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Callable[[str], Trained]:
    """The run of a case, trained when it is first asked for."""

    @cache
    def run(case: str) -> Trained:
        return train(tmp_path_factory.mktemp("trained"), *CASES[case])

    return run


@pytest.fixture(scope="module", params=CASES)
def trained(request, finished) -> Trained:
    return finished(request.param)


@pytest.fixture(scope="module")
def hourly_run(finished) -> Trained:
    return finished("hourly")


@pytest.fixture
def hourly(hourly_run, tmp_path) -> Trained:
    """A copy that a test may damage."""
    shutil.copytree(hourly_run.run, tmp_path / "runs" / "run_0003")
    return replace(hourly_run, run=tmp_path / "runs" / "run_0003")


def refusal(capsys, *arguments: str | Path) -> str:
    """The one line with which the program refuses."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse
        code = end.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# --- the numbers --------------------------------------------------------------------------------


def test_a_forecast_is_what_the_training_forecast_for_that_window(trained, tmp_path):
    """Rows after the start of the forecast are not in the file, so none of them can have been seen."""
    expected, stamps = trained.engine_forecasts()
    spread = trained.series.values.std()
    for window in (-1, -2, -9):
        first = int(np.flatnonzero(trained.series.dates == stamps[window, 0])[0])
        found = trained.forecast(tmp_path / "f.csv", head(trained.series, first))
        assert found.columns == trained.config.task.targets
        assert (found.dates == stamps[window]).all()
        np.testing.assert_allclose(found.values, expected[window], rtol=1e-5, atol=1e-6 * spread)


def test_only_the_look_back_counts_and_scaling_is_never_fitted_anew(trained, tmp_path):
    seq_len = trained.config.data.seq_len
    whole = trained.forecast(tmp_path / "a.csv", trained.series)
    values = trained.series.values.copy()
    values[:-seq_len] = values[:-seq_len] * 7 + 1_000
    other = trained.forecast(tmp_path / "b.csv", replace(trained.series, values=values))
    least = replace(trained.series, values=values[-seq_len:], dates=trained.series.dates[-seq_len:])
    shortest = trained.forecast(tmp_path / "c.csv", least)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()
    assert len(whole) == len(other) == len(shortest) == trained.config.task.pred_len


def test_every_row_of_the_look_back_counts(trained, tmp_path):
    before = trained.forecast(tmp_path / "a.csv", trained.series)
    for row in (-1, -trained.config.data.seq_len):
        values = trained.series.values.copy()
        values[row] += 50
        after = trained.forecast(tmp_path / "b.csv", replace(trained.series, values=values))
        assert not np.allclose(before.values, after.values)


def test_without_a_file_the_forecast_follows_the_last_row_of_the_runs_own_data(trained, tmp_path, capsys):
    own = trained.forecast(tmp_path / "own.csv", None, "--plot", tmp_path / "own.png")
    said = capsys.readouterr().out
    same = trained.forecast(tmp_path / "same.csv", trained.series)
    assert (tmp_path / "own.csv").read_bytes() == (tmp_path / "same.csv").read_bytes()
    step = own.dates[0] - trained.series.dates[-1]
    assert np.timedelta64(0, "s") < step <= np.timedelta64(31, "D")
    assert (own.dates == same.dates).all()
    assert (tmp_path / "own.png").read_bytes().startswith(b"\x89PNG")
    for text in ("run_0003", "epoch", "val_mse", *own.columns, f"wrote {tmp_path / 'own.csv'}", "own.png"):
        assert text in said


def test_a_forecast_can_be_read_as_a_series(trained, tmp_path):
    trained.forecast(tmp_path / "f.csv")
    again = parse_csv((tmp_path / "f.csv").read_bytes(), "f.csv")
    assert (again.freq, again.columns) == (trained.series.freq, trained.config.task.targets)


def test_the_last_days_of_months_stay_last_days(finished, tmp_path):
    trained = finished("month ends")
    assert str(trained.series.dates[-1]) == "2024-02-29T00:00:00"
    trained.forecast(tmp_path / "f.csv")
    rows = (tmp_path / "f.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["2024-03-31", "2024-04-30", "2024-05-31", "2024-06-30"]


# --- other files, other machines ----------------------------------------------------------------


def test_two_files_of_the_run_are_enough_on_another_machine(hourly_run, tmp_path):
    expected = hourly_run.forecast(tmp_path / "a.csv", hourly_run.series)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("best_model.pth", "config_used.py"):
        shutil.copy(hourly_run.run / name, elsewhere)
    found = replace(hourly_run, run=elsewhere).forecast(tmp_path / "b.csv", hourly_run.series)
    assert (found.values == expected.values).all()


def test_columns_are_found_by_name(hourly, tmp_path):
    expected = hourly.forecast(tmp_path / "a.csv", hourly.series)
    order = [2, 0, 1]
    values = np.concatenate([np.full((400, 1), 1e6), hourly.series.values[:, order]], axis=1)
    columns = ("extra", *(COLUMNS[index] for index in order))
    mixed = replace(hourly.series, values=values, columns=columns)
    assert (hourly.forecast(tmp_path / "b.csv", mixed).values == expected.values).all()


def test_a_column_that_the_model_does_not_read_may_be_missing(finished, tmp_path):
    trained = finished("month ends")
    alone = replace(trained.series, values=trained.series.values[:, :1], columns=("load",))
    expected = trained.forecast(tmp_path / "a.csv", trained.series)
    assert (trained.forecast(tmp_path / "b.csv", alone).values == expected.values).all()


def test_the_data_are_found_through_the_facts_beside_the_run(hourly, tmp_path, capsys):
    expected = hourly.forecast(tmp_path / "a.csv")
    moved = tmp_path / "moved.csv"
    shutil.copy(hourly.config.task.dataset, moved)
    task = hourly.config.task.model_copy(update={"dataset": str(moved)})
    facts = hourly.run.parent / "task_facts.json"
    facts.write_text(json.dumps({"source": locate(task).to_json()}))
    assert (hourly.forecast(tmp_path / "b.csv").values == expected.values).all()
    assert "of moved.csv" in capsys.readouterr().out
    given = hourly.forecast(tmp_path / "c.csv", None, "--facts", facts)
    assert (given.values == expected.values).all()


def test_the_facts_of_another_search_beside_the_run_are_passed_over(hourly, tmp_path, capsys):
    other = {"name": "x", "kind": "csv", "path": str(tmp_path / "x.csv"), "sha256": "0" * 64, "bytes": 1}
    facts = hourly.run.parent / "task_facts.json"
    facts.write_text(json.dumps({"source": other}))
    (tmp_path / "x.csv").touch()
    hourly.forecast(tmp_path / "a.csv")
    assert "of series.csv" in capsys.readouterr().out
    given = refusal(capsys, "--run", hourly.run, "--facts", facts, "--out", tmp_path / "b.csv")
    assert "x.csv is not, or no longer, the data of the training" in given


def test_data_that_grew_are_refused_and_can_be_given_as_a_file(tmp_path, tmp_path_factory, capsys):
    trained = train(tmp_path_factory.mktemp("grown"), *CASES["month ends"])
    dataset = Path(trained.config.task.dataset)
    dataset.write_text(dataset.read_text() + "2024-03-31,500,20,3\n")
    line = refusal(capsys, "--run", trained.run, "--out", tmp_path / "f.csv")
    assert "series.csv is not, or no longer, the data of the training" in line
    assert line.endswith("--csv FILE")
    assert not (tmp_path / "f.csv").exists()
    found = trained.forecast(tmp_path / "f.csv", None, "--csv", dataset)
    assert str(found.dates[0]) == "2024-04-30T00:00:00"


# --- what is refused ------------------------------------------------------------------------------


def spoiled(series: Series, how: str) -> Series:
    if how == "column":
        return replace(series, values=series.values[:, 1:], columns=series.columns[1:])
    if how == "step":
        return replace(series, dates=dates_after(series.dates[:1], "15min", len(series)))
    if how == "rows":
        return head(series, 23)
    return replace(series, values=np.where(np.arange(400)[:, None] == 399, 1e200, series.values))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("column", ("missing: load", "there are: heat, wind")),
        ("step", ("15min", "steps of h")),
        ("rows", ("23 rows", "over 24")),
        ("values", ("not a finite number", "units")),
    ],
)
def test_rows_unlike_those_of_the_training_are_refused(how, words, hourly_run, tmp_path, capsys):
    rows = tmp_path / "new.csv"
    write_csv(rows, spoiled(hourly_run.series, how))
    line = refusal(capsys, "--run", hourly_run.run, "--csv", rows, "--out", tmp_path / "f.csv")
    assert "new.csv" in line
    for word in words:
        assert word in line
    assert not (tmp_path / "f.csv").exists()


def test_a_file_that_is_no_series_is_refused(hourly_run, tmp_path, capsys):
    (tmp_path / "new.csv").write_text(
        "date,load\n2024-01-01 00:00,x\n2024-01-01 01:00,2\n2024-01-01 02:00,3\n"
    )
    given = ("--run", hourly_run.run, "--out", tmp_path / "f.csv", "--csv")
    assert "line 2, column 'load'" in refusal(capsys, *given, tmp_path / "new.csv")
    assert "absent.csv cannot be read" in refusal(capsys, *given, tmp_path / "absent.csv")


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "absent"):
        assert "is not a run's folder" in refusal(capsys, "--run", folder)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "still in its first epoch, or was interrupted"),
        ({"error.json": {"kind": "crash", "message": "the disk caught fire"}}, "the disk caught fire"),
        ({"metrics.json": {"reason": "diverged", "val_mse": None}}, "ended (diverged)"),
        (
            {
                "exit.json": {"schema": 1, "attempt": 1, "ended": "exited", "returncode": 3},
                "error.json": {"kind": "diverged", "message": "the loss is nan"},
            },
            "DIVERGED, the loss is nan",
        ),
    ],
    ids=["nothing", "error", "metrics", "exit"],
)
def test_a_run_without_weights_says_what_became_of_it(files, words, hourly, capsys):
    for path in hourly.run.iterdir():
        if path.name != "config_used.py":
            path.unlink()
    for name, content in files.items():
        (hourly.run / name).write_text(json.dumps(content))
    line = refusal(capsys, "--run", hourly.run)
    assert "holds no best_model.pth" in line
    assert words in line


def test_damaged_weights_are_refused(hourly, capsys):
    path = hourly.run / "best_model.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert "SHA-256" in refusal(capsys, "--run", hourly.run)
    (hourly.run / "metrics.json").unlink()
    assert "not a readable checkpoint" in refusal(capsys, "--run", hourly.run)


def rewrite(run: Path, **changes: Any) -> None:
    """The checkpoint with other entries (None removes one), as no checksum would notice."""
    (run / "metrics.json").unlink(missing_ok=True)
    content = torch.load(run / "best_model.pth", weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not None}, run / "best_model.pth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 99}, "schema 99 is newer than this program's"),
        ({"columns": None, "inputs": None, "freq": None}, "columns: Field required"),
        ({"config": {"model": {"family": "oracle"}}}, "another version of this program"),
        ({"scaler": {"mean": torch.zeros(3)}}, "another version of this program"),
        ({"model": {"weight": torch.zeros(3)}}, "the weights are not those of the configuration"),
    ],
    ids=["newer", "older", "foreign", "tensor", "weights"],
)
def test_a_checkpoint_of_another_version_is_refused(changes, words, hourly, capsys):
    rewrite(hourly.run, **changes)
    assert words in refusal(capsys, "--run", hourly.run)


def test_weights_of_another_configuration_are_refused(hourly, capsys):
    model = hourly.config.model.model_copy(update={"d_model": 16})
    write_config(hourly.run / "config_used.py", hourly.config.model_copy(update={"model": model, "seed": 6}))
    line = refusal(capsys, "--run", hourly.run)
    assert "model.d_model is 16 against 8" in line
    assert "seed is 6 against 5" in line


def test_a_place_that_cannot_be_written_to_is_refused(hourly_run, tmp_path, capsys):
    run, nowhere = ("--run", hourly_run.run), tmp_path / "nowhere"
    assert "nowhere/f.csv cannot be written" in refusal(capsys, *run, "--out", nowhere / "f.csv")
    assert "is a folder" in refusal(capsys, *run, "--out", tmp_path)
    picture = (*run, "--out", tmp_path / "f.csv", "--plot")
    assert "nowhere/f.png cannot be written" in refusal(capsys, *picture, nowhere / "f.png")
    assert "is a PNG" in refusal(capsys, *picture, tmp_path / "f.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["f.csv"]


def test_the_rows_are_never_overwritten_by_their_forecast(hourly_run, tmp_path, capsys):
    rows = tmp_path / "new.csv"
    write_csv(rows, hourly_run.series)
    before = rows.read_bytes()
    os.link(rows, tmp_path / "same.csv")
    for out in (rows, tmp_path / "same.csv"):
        line = refusal(capsys, "--run", hourly_run.run, "--csv", rows, "--out", out)
        assert "is the file that the rows come from" in line
    own = Path(hourly_run.config.task.dataset)
    assert "rows come from" in refusal(capsys, "--run", hourly_run.run, "--out", own)
    assert rows.read_bytes() == before


def test_a_file_and_a_place_of_the_own_data_exclude_each_other(hourly_run, capsys):
    line = refusal(capsys, "--run", hourly_run.run, "--csv", "new.csv", "--data-dir", ".")
    assert "leave out --facts and --data-dir" in line


# --- what is shown --------------------------------------------------------------------------------


def test_digits_follow_the_spread_of_a_column_and_a_long_table_is_cut(tmp_path, tmp_path_factory, capsys):
    parts = MONTHS | {"task": {"targets": ["all"], "pred_len": 24}}
    series = make_series("2000-01-31", "MS", 400)
    values = np.concatenate([series.values * size for size in (1e-6, 1, 1e9)], axis=1)
    columns = tuple(f"{name}_{size}" for size in ("small", "plain", "large") for name in COLUMNS)
    series = replace(series, values=values, columns=columns)
    trained = train(tmp_path_factory.mktemp("many"), parts, series)
    capsys.readouterr()
    found = trained.forecast(tmp_path / "f.csv")
    shown = capsys.readouterr().out.splitlines()
    assert found.columns == columns
    # What was read, header, rows with a gap, rest, why there are no intervals, written.
    assert len(shown) == 1 + 1 + 4 + 1 + 2 + 1 + 1 + 1
    assert "and 3 more columns" in shown[-3]
    assert "no intervals: they need the search's task_facts.json" in shown[-2]
    header, first = (tmp_path / "f.csv").read_text().splitlines()[:2]
    digits = dict(zip(header.split(","), first.split(","), strict=True))
    decimals = {
        name: len(digits[name].partition(".")[2]) for name in ("load_small", "load_large", "load_plain")
    }
    assert decimals == {"load_small": 11, "load_plain": 5, "load_large": 0}

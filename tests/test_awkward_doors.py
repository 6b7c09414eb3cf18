"""A handful of awkward files through the programs as processes: a search of one run, and its forecast."""

from __future__ import annotations

import csv
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from nas_system.predict import MISSING
from nas_system.space.tasks.forecasting import Missing

Cli = Callable[..., subprocess.CompletedProcess[str]]

FILES = Path(__file__).parent / "data" / "files"
BASE = """
model: {family: linear}
data: {features: S, seq_len: 6, batch_size: 16}
training: {lr: 0.01, max_epochs: 1, patience: 1}
"""
TASK = ("--pred-len", "2", "--split", "0.5,0.25,0.25", "--origins", "1", "--max-runs", "1")
SEARCH = ("--base-config", "base.yaml", "--repeat-baseline", "0", "--proposer", "random_search")


def test_a_forecast_has_the_same_answers_to_missing_values_as_a_search() -> None:
    assert get_args(Missing) == MISSING


def searched(run_cli: Cli, folder: Path, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    (folder / "base.yaml").write_text(BASE)
    given = ("--dataset", str(FILES / name), *SEARCH, *TASK, *flags)
    return run_cli("nas_agent_graph.run", *given, cwd=folder)


def forecast(run_cli: Cli, folder: Path, *flags: str) -> list[dict[str, str]]:
    run = ("--run", "run_0000", "--as-searched", "--intervals", "none")
    done = run_cli("nas_agent_graph.cli", "predict", *run, *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    with (folder / "forecast.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "flags", "target", "dates"),
    [
        ("offsets.csv", (), "y", ["2021-03-29T05:00:00+02:00", "2021-03-29T06:00:00+02:00"]),
        ("comma_in_name.csv", (), "a,b", ["2021-01-22 00:00:00", "2021-01-22 01:00:00"]),
        ("business_days.csv", ("--missing", "ffill"), "y", ["2021-03-09", "2021-03-10"]),
        ("tiny.csv", (), "y", ["2021-01-22 00:00:00", "2021-01-22 01:00:00"]),
    ],
)
def test_a_file_is_searched_and_forecast(
    run_cli: Cli, tmp_path: Path, name: str, flags: tuple[str, ...], target: str, dates: list[str]
) -> None:
    done = searched(run_cli, tmp_path, name, "--target", f'"{target}"', *flags)
    assert done.returncode == 0, done.stderr
    filled = "note: 14 of 48 rows (29 %) are missing, the first after 2021-01-22; filled with the row before"
    assert (filled in done.stdout) == (name == "business_days.csv")
    rows = forecast(run_cli, tmp_path)
    assert [row["date"] for row in rows] == dates
    assert all(math.isfinite(float(row[target])) for row in rows)
    clock = "time stamps are those of the last row's clock, UTC+02:00"
    assert (clock in (tmp_path / "printed.txt").read_text()) == (name == "offsets.csv")


def test_another_file_may_have_gaps_and_dates_of_its_own(run_cli: Cli, tmp_path: Path) -> None:
    assert searched(run_cli, tmp_path, "plain.csv", "--target", "y").returncode == 0
    rows = forecast(run_cli, tmp_path, "--csv", str(FILES / "gap.csv"), "--missing", "interpolate")
    assert rows[0]["date"] == "2021-01-22 00:00:00"
    assert "note: 2 of 48 rows (4.2 %) are missing" in (tmp_path / "printed.txt").read_text()
    day_first = ("--csv", str(FILES / "dates_day_first.csv"), "--date-format", "%d/%m/%Y %H:%M")
    assert forecast(run_cli, tmp_path, *day_first)[0]["date"] == "2021-01-22 00:00:00"
    for flags, words in (
        (("--csv", str(FILES / "gap.csv")), "2 of 48 rows (4.2 %) are missing"),
        (("--missing", "ffill"), "--missing is about the file of --csv; leave it out, or name one"),
        (("--date-format", "%d"), "--date-format: the date format '%d' does not say year and month"),
    ):
        done = run_cli("nas_agent_graph.cli", "predict", "--run", "run_0000", *flags, cwd=tmp_path)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("daylight_autumn.csv", "no row is wrong, so delete none"),
        ("one_huge.csv", "row 3 is 1e+200"),
    ],
)
def test_nothing_is_trained_on_a_file_that_is_refused(
    run_cli: Cli, tmp_path: Path, name: str, words: str
) -> None:
    done = searched(run_cli, tmp_path, name, "--target", "y")
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "agent_state.json").exists()

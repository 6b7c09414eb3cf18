"""`benchmarks/short_series.py`: its series, and a real search of two runs, measured once."""

from __future__ import annotations

import json
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from python_server import run_python

from nas_system.data.csv_file import parse_csv

pytest.importorskip("statsmodels", reason="its data sets are among the series")

SERIES = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "short_series_data.py"))["SERIES"]
SHORT = ("--seeds", "1", "--runs", "2", "--in-process", "--run-flags", "--repeat-base 0")

Measure = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def measure(project_root: Path, tmp_path: Path) -> Measure:
    script = str(project_root / "benchmarks" / "short_series.py")
    return lambda *flags: run_python([script, "--out", "short.json", *SHORT, *flags], cwd=tmp_path)


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_a_series_is_short_regular_and_always_the_same(series: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    rows = series.write_csv(first)
    series.write_csv(second)
    assert first.read_bytes() == second.read_bytes()
    assert 100 <= rows <= 3000
    read = parse_csv(first.read_bytes(), series.name, missing="ffill" if series.flags else "refuse")
    count, unit = series.step
    assert (len(read), read.freq) == (rows, f"{count if count > 1 else ''}{'MS' if unit == 'M' else unit}")


def test_both_halves_hold_generated_and_real_series() -> None:
    kinds = {half: [one.real for one in SERIES if one.half == half] for half in ("choose", "report")}
    assert all(kind.count(True) >= 4 and kind.count(False) >= 7 for kind in kinds.values())
    assert len({one.name for one in SERIES}) == len(SERIES) == sum(map(len, kinds.values()))


def test_a_search_that_cannot_begin_is_listed(measure: Measure, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("date,y\n2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n")
    done = measure("--csv", "mine.csv", "--pred-len", "2")
    assert done.returncode == 1
    assert "mine/0: exit code 2: error: " in done.stdout
    assert "mine/0" in "".join(json.loads((tmp_path / "short.json").read_text())["errors"])


def test_a_real_search_is_compared_with_its_best_baseline_and_with_what_came(
    measure: Measure, tmp_path: Path
) -> None:
    yearly = next(one for one in SERIES if one.name == "yearly")
    yearly.write_csv(tmp_path / "all.csv")
    header, *lines = (tmp_path / "all.csv").read_text().splitlines()
    (tmp_path / "mine.csv").write_text("\n".join([header, *lines[:-12]]))
    (tmp_path / "truth.csv").write_text("\n".join([header, *lines[-12:]]))
    flags = ("--csv", "mine.csv", "--pred-len", "12", "--truth", "truth.csv")
    done = measure(*flags)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "short.json").read_text())
    record = found["searches"]["mine/0"]
    assert (found["errors"], [run["run"] for run in record["runs"]]) == ([], ["run_0000", "run_0001"])
    assert found["summary"] == json.loads(done.stdout.splitlines()[-1])
    baseline = min(record["baselines"], key=lambda row: row["val_mse"])
    best = min(record["runs"], key=lambda run: run["val_mse"])
    assert record["baseline"] == baseline
    assert record["lowest"] == best
    assert record["lowest_ratio"] == best["test_mse"] / baseline["test_mse"]

    values, last = (np.array([float(line.split(",")[1]) for line in part]) for part in (lines, lines[-12:]))
    forecast = (tmp_path / "short" / "searches" / "mine" / "0" / "forecast.csv").read_text().splitlines()
    ahead = np.array([float(line.split(",")[1]) for line in forecast[1:]])
    assert record["rmse"] == {
        "best": pytest.approx(np.sqrt(np.mean((ahead - last) ** 2))),
        "seasonal-12": pytest.approx(np.sqrt(np.mean((values[-24:-12] - last) ** 2))),
    }

    (tmp_path / "short" / "searches").rename(tmp_path / "moved")
    again = measure(*flags[:4], "--before", "short.json")
    assert (again.returncode, again.stderr) == (0, ""), "a search that has finished is not looked at again"
    assert json.loads((tmp_path / "short.json").read_text()) == found

"""One search over 50 series of 400 rows: against a seasonal naive forecast of each, and its cost.

    python benchmarks/several_series.py --out several.json [--panels 3] [--runs 10]

A panel is 50 generated daily series (`sales`) in one file. `nas run --series-column shop` searches on it with
its defaults and one thread. Reported is the test error of what it recommends over that of 50 seasonal naive
forecasts, one for each series: means over all windows, on the same scaled values, which the search has not
used. The cost is the CPU time of the same command on one series that has as many training windows, measured
right after it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

import numpy as np
from numpy.typing import NDArray

from nas_system.files import read_object, write_json
from nas_system.nas_agent.recommended import read_recommended
from nas_system.space.task_info import TaskInfo

ROOT = Path(__file__).resolve().parent.parent
SERIES, ROWS, HORIZON, SEASON = 50, 400, 14, 7
SHARE_OF_TRAINING = 0.6
FOREIGN = ("NAS_", "OPENAI_", "ANTHROPIC_")
"""Settings of the person who measures would change the proposer."""


def sales(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """Return daily sales (rows,): a level that wanders, a week of its own, and noise that lasts for days."""
    days = np.arange(rows)
    level = rng.lognormal(4, 1)
    wandering = np.exp(0.01 * rng.standard_normal(rows).cumsum() + rng.normal(0, 5e-4) * days)
    week = 1 + rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * days / SEASON + rng.uniform(0, 1))
    noise = np.zeros(rows)
    for day in range(1, rows):
        noise[day] = 0.6 * noise[day - 1] + 0.08 * rng.standard_normal()
    return level * wandering * week * np.exp(noise)


def write_panel(path: Path, seed: int) -> None:
    """Write 50 series, told apart by the column `shop`, day after day."""
    rng = np.random.default_rng([seed, 0])
    table = np.stack([sales(rng, ROWS) for _ in range(SERIES)], axis=1)
    dates = np.datetime64("2022-01-01") + np.arange(ROWS)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("date", "shop", "sales"))
        for date, values in zip(dates, table, strict=True):
            writer.writerows((date, f"shop {number}", f"{value:.4f}") for number, value in enumerate(values))


def write_one(path: Path, seed: int, windows: int, look_back: int) -> None:
    """Write one series with so many training windows."""
    rows = round((windows + look_back + HORIZON - 1) / SHARE_OF_TRAINING)
    dates = np.datetime64("1980-01-01") + np.arange(rows)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("date", "sales"))
        values = sales(np.random.default_rng([seed, 1]), rows)
        writer.writerows((date, f"{value:.4f}") for date, value in zip(dates, values, strict=True))


def search(folder: Path, csv_file: Path, runs: int, flags: Sequence[str]) -> dict[str, float]:
    """Search in `folder`; return the seconds of CPU time and of the clock that it took."""
    folder.mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    command = [sys.executable, "-m", "nas_agent_graph.run", "--workspace", str(folder), "--dataset"]
    command += [str(csv_file), "--target", "sales", "--pred-len", str(HORIZON), "--max-runs", str(runs)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [*command, *flags], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, check=True, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu, "wall_s": time.monotonic() - began}


def measure(folder: Path, seed: int, runs: int) -> dict[str, Any]:
    """Search on a panel and on one series of as many windows; return the errors and the costs."""
    folder.mkdir(parents=True, exist_ok=True)
    panel, one = folder / f"panel_{seed}.csv", folder / f"one_{seed}.csv"
    write_panel(panel, seed)
    workspace = folder / f"search_{seed}"
    cost = search(workspace, panel, runs, ["--series-column", "shop"])
    info = TaskInfo.from_json(read_object(workspace / "runs" / "task_facts.json"))
    windows = info.sizes["train"]
    write_one(one, seed, windows, int(info.measured["seq_len"]))
    single = search(folder / f"one_{seed}", one, runs, [])
    found = read_recommended(workspace)
    rows = {row.name: row.scores["test_mse"] for row in info.baselines}
    naive = rows[f"seasonal-{SEASON}"]
    scores = found.evaluation["refitted"].get("test") or found.evaluation["as_searched"]["test"]
    test = float(scores["mse"])
    return {
        "seed": seed,
        "recommended": found.recommended,
        "test": test,
        "naive_test": naive,
        "ratio_test": test / naive,
        "ratio_test_to_best_baseline": test / min(rows.values()),
        "windows": windows,
        "cost": cost,
        "cost_of_one": single,
        "ratio_cpu": cost["cpu_s"] / single["cpu_s"],
    }


def main() -> None:
    """Measure, print a line per panel and write all of it."""
    parser = argparse.ArgumentParser(description="Measure one search over 50 series.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--panels", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    rows = []
    for seed in range(options.panels):
        row = measure(options.out.with_suffix(""), seed, options.runs)
        rows.append(row)
        print(json.dumps(row), flush=True)
        write_json(options.out, {"panels": rows})
    for name in ("ratio_test", "ratio_cpu"):
        values = [row[name] for row in rows]
        print(f"{name}: mean {statistics.fmean(values):.3f}, from {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main()

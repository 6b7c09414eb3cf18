"""What a search recommends against the run that validation chose, and refits against the searched weights.

    python benchmarks/recommendations.py --out recommendations.json [--half choose|report] [--etth1 FILE.csv]

For every series of `short_series_data.py` in the half, and with `--etth1` for four tasks on that file, the
real program searches and hands over. Printed are ratios of mean squared errors on test and hold-out part:

    ensemble    what is recommended over the best run, both with the weights of the search
    refit       what is recommended, trained again on all rows before the part, over the same as searched

Settings may be chosen on `choose`; `report` is only ever reported. The searches lie in a folder next to
`--out`; one that has finished is not repeated.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from short_series import environment
from short_series_data import SERIES, TARGET

from nas_system.files import read_record, write_json
from nas_system.nas_agent.agent_state import load_agent_state
from nas_system.nas_agent.recommended import known_recommended
from nas_system.nas_agent.run_manager import load_task_info

ETTH1 = {
    "etth1-S-24": ("OT", 24),
    "etth1-S-96": ("OT", 96),
    "etth1-M-24": ("all", 24),
    "etth1-M-96": ("all", 96),
}
PARTS = ("test", "hold_out")


@dataclass(frozen=True)
class Cell:
    """A task to search on."""

    name: str
    flags: tuple[str, ...]


def search(cell: Cell, folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """Search to the end and return the errors; an error where it fails."""
    workspace = folder / cell.name
    workspace.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "nas_agent_graph.run", "--workspace", str(workspace), *cell.flags, *more]
    with open(workspace / "search.log", "a", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=environment(folder), check=False)
    return found_in(workspace) if done.returncode == 0 else {"error": f"exit code {done.returncode}"}


def found_in(workspace: Path) -> dict[str, Any]:
    """Return what a finished search says of its best run and of what it recommends."""
    known, state = known_recommended(workspace), load_agent_state(workspace / "agent_state.json")
    info = load_task_info(workspace / "runs")
    if known is None or info is None or state.best_run_id is None:
        return {"error": "nothing is recommended"}
    run = next(run for run in state.runs if run.run_id == state.best_run_id)
    conclusion = read_record(workspace / "runs/conclusion.json") or {}
    return {
        "recommended": known.recommended,
        "members": list(known.names),
        "best": {"run": run.run_id, "test": run.test_score, "hold_out": state.hold_out.get(run.run_id)},
        "blocks": conclusion.get("independent_blocks"),
        "searched": {part: known.scores("as_searched", part).get("mse") for part in PARTS},
        "refitted": {part: known.scores("refitted", part).get("mse") for part in PARTS},
        "baselines": {
            row.name: {"val": row.on("val", state.metric), "test": row.on("test", state.metric)}
            for row in info.baselines
        },
        "seconds": compute_of(workspace),
    }


def compute_of(workspace: Path) -> dict[str, float]:
    """Return the seconds of compute of the search's trainings and of the refits."""

    def total(pattern: str) -> float:
        records = [read_record(path) or {} for path in workspace.glob(pattern)]
        return round(sum(record.get("compute_sec") or 0.0 for record in records), 2)

    searched = total("runs/run_*/metrics.json") + total("runs/run_*/repeats/*/metrics.json")
    return {"search": searched, "refits": total("runs/run_*/refits/*/metrics.json")}


# --- what is printed ------------------------------------------------------------------------


def ratio(first: float | None, second: float | None) -> float:
    return first / second if first is not None and second else math.nan


def report(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line per cell and the summary."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("test", "hold-out", "refit test", "refit hold-out")
    }
    print(f"{'':24}{'ensemble / best run':>22}{'refitted / searched':>24}")
    print(f"{'cell':24}{'test':>11}{'hold-out':>11}{'test':>12}{'hold-out':>12}  recommended")
    for name, cell in found.items():
        if "error" in cell:
            print(f"{name:24}{cell['error']}")
            continue
        ratios = [ratio(cell["searched"][part], cell["best"][part]) for part in PARTS]
        ratios += [ratio(cell["refitted"][part], cell["searched"][part]) for part in PARTS]
        for column, value in zip(columns.values(), ratios, strict=True):
            column.append(value)
        members = f"{cell['recommended']} ({len(cell['members'])})"
        cost = ratio(cell["seconds"]["refits"], cell["seconds"]["search"])
        shown = f"{ratios[0]:11.3f}{ratios[1]:11.3f}{ratios[2]:12.3f}{ratios[3]:12.3f}"
        print(f"{name:24}{shown}  {members}, {cost:.0%}")
    for name, values in columns.items():
        known = [value for value in values if math.isfinite(value)]
        if known:
            mean = math.exp(statistics.fmean(map(math.log, known)))
            no_worse, worse = sum(value <= 1 + 1e-9 for value in known), sum(value > 1.02 for value in known)
            print(
                f"{name:15} at most 1 in {no_worse} of {len(known)}, over 1.02 in {worse}; "
                f"geometric mean {mean:.3f}, median {statistics.median(known):.3f}"
            )


def cells_of(options: argparse.Namespace, folder: Path) -> list[Cell]:
    """Write the series' files and return the cells. Raises ConfigError if a package is missing."""
    cells = []
    for series in SERIES:
        if series.half == options.half and (not options.series or series.name in options.series):
            file = folder / f"{series.name}.csv"
            folder.mkdir(parents=True, exist_ok=True)
            series.write_csv(file)
            flags = ("--dataset", str(file), "--target", TARGET, "--pred-len", str(series.pred_len))
            cells.append(Cell(series.name, (*flags, *series.flags)))
    for name, (target, pred_len) in ETTH1.items() if options.etth1 else ():
        if not options.series or name in options.series:
            data = ("--dataset", "etth1", "--data-dir", str(options.etth1.resolve().parent))
            cells.append(Cell(name, (*data, "--target", target, "--pred-len", str(pred_len))))
    return cells


def main() -> int:
    """Search, write the results and print the table."""
    options = _parser().parse_args()
    folder = options.out.resolve().with_suffix(".searches")
    cells = cells_of(options, folder)
    more = ["--max-runs", str(options.runs), "--seed", str(options.seed), "--threads", "1", "--device", "cpu"]
    more += options.flags.split()
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda cell: search(cell, folder, more), cells))
    found = {cell.name: result for cell, result in zip(cells, done, strict=True)}
    write_json(options.out, {"settings": vars(options) | {"out": None, "etth1": None}, "cells": found})
    report(found)
    return int(any("error" in result for result in found.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--half", choices=("choose", "report"), default="choose")
    parser.add_argument("--etth1", type=Path, help="ETTh1.csv; without it the series alone")
    parser.add_argument("--series", nargs="*", help="only these cells")
    parser.add_argument("--runs", type=int, default=12, help="runs of a search")
    parser.add_argument("--jobs", type=int, default=1, help="searches side by side")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--flags", default="", help="further flags of nas run, in one word")
    return parser


if __name__ == "__main__":
    os.nice(5)
    sys.exit(main())

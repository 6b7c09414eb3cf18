"""What a training is said to hold before it runs, against what it held: `--memory-per-run auto`.

    python benchmarks/memory_estimates.py [--runs 40] [--etth1] [--parallel 2]

A real search by random draws over all families, each training in an interpreter of its own, as on a cluster,
and of a few steps: the memory of a training does not grow with their number. Then the trainer is asked for
each configuration what it would have been asked for before (`--preflight-only memory`).

Printed per training: peak as its supervisor wrote it down, estimate, their ratio, and the seconds that the
estimate took in an interpreter of its own; then the median and the largest of the ratios. Even runs are those
to choose `launchers.memory_request.MARGIN` on, odd ones to report.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from short_series_data import SERIES, TARGET

from nas_agent_graph.launchers import build_launcher
from nas_agent_graph.launchers.memory_request import MARGIN, trainer_estimate_mb
from nas_system.config_io.config_file import read_config
from nas_system.errors import RunError
from nas_system.files import read_record
from nas_system.processes.run_files import FACTS_FILE, RunPaths

ROOT = Path(__file__).resolve().parent.parent


def search(workspace: Path, data: list[str], options: argparse.Namespace) -> None:
    """Train configurations drawn at random, a few steps each. Raises CalledProcessError."""
    command = [sys.executable, "-m", "nas_agent_graph.run", "--workspace", str(workspace), *data]
    command += ["--max-runs", str(options.runs), "--repeat-base", "0", "--repeats", "0", "--no-refit"]
    command += ["--proposer", "random_search", "--steps-per-run", str(options.steps), "--device", "cpu"]
    command += ["--threads", "1", "--parallel", str(options.parallel)]
    surroundings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "NAS_FORK_SERVER": "off"}
    environment = {**os.environ, **surroundings, "NAS_ARCHIVE_DIR": str(workspace / "archive")}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print the trainings of one search and what was said of each, as JSON, one a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--etth1", action="store_true", help="instead of 730 daily rows with a week")
    options = parser.parse_args()
    found: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), ["--dataset", "etth1", "--target", "OT", "--pred-len", "96"]
        if not options.etth1:
            series = next(one for one in SERIES if one.name == "weekly")
            series.write_csv(folder / "weekly.csv")
            data = ["--dataset", str(folder / "weekly.csv"), "--target", TARGET, "--pred-len", "14"]
        runs = folder / "search" / "runs"
        search(folder / "search", data, options)
        launcher = build_launcher("local")
        for run in map(RunPaths, sorted(runs.glob("run_*"))):
            held = (read_record(run.exit) or {}).get("peak_memory_mb")
            command = [sys.executable, "-m", "nas_system.train", "--facts", str(runs / FACTS_FILE)]
            command += ["--config", str(run.config), "--tag", run.folder.name, "--threads", "1"]
            began = time.monotonic()
            try:
                said = trainer_estimate_mb(command, launcher.call)
            except RunError as error:
                print(f"{run.folder.name}: {error}", file=sys.stderr)
                continue
            if not isinstance(held, float | int) or not run.metrics.exists():
                continue
            record = {
                "run": run.folder.name,
                "family": read_config(run.config).model.family,
                "peak_mb": float(held),
                "estimate_mb": round(said, 1),
                "ratio": round(held / said, 3),
                "seconds": round(time.monotonic() - began, 2),
            }
            found.append(record)
            print(json.dumps(record), flush=True)
        launcher.close()
    for half in (0, 1):
        ratios = sorted(float(one["ratio"]) for one in found if int(str(one["run"])[-4:]) % 2 == half)
        summary = {
            "half": ("chosen on", "reported")[half],
            "trainings": len(ratios),
            "median": round(statistics.median(ratios), 3),
            "most": ratios[-1],
            "above_margin": sum(ratio > MARGIN for ratio in ratios),
        }
        print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())

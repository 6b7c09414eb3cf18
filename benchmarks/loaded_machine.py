"""Whether a busy machine changes a search: the same one, first as the machine is, then among busy processes.

    NAS_DATA_DIR=<folder> python benchmarks/loaded_machine.py [--runs 4] [--minutes 0.1] [--busy 8]

ETTh1, or the generated series without it, sampled by TPE from one seed. Reported are the planned steps and
the score of every run in both searches, what a run took by the clock and in compute, and whether plans and
scores are equal. Exit code 1 if they are not: on a core that runs two threads at a time a busy neighbour
makes compute itself dearer, and a budget that binds may then hold a rung of the ladder less.
`--steps N` fixes the length instead, which makes both searches equal on any machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processes computing, on any core."""
    # They end with this one, however it ends.
    code = f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(10_000))"
    started = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def search(workspace: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one search; return a record per run."""
    command = [sys.executable, "-m", "nas_agent_graph.run", "--workspace", str(workspace)]
    command += ["--proposer", "tpe", "--device", "cpu", "--seed", str(options.seed)]
    command += ["--max-runs", str(options.runs), "--repeat-base", "0"]
    limit = ["--minutes-per-run", str(options.minutes)]
    command += limit if options.steps is None else ["--steps-per-run", str(options.steps)]
    log = workspace.with_suffix(".log")
    with open(log, "w") as file:
        code = subprocess.run(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        sys.exit(f"the search ended with {code}: {log.read_text()[-2000:]}")
    runs = json.loads((workspace / "agent_state.json").read_text())["runs"]
    return [_record(workspace / "runs" / run["run_id"], run) for run in runs]


def _record(folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text()) if run["status"] == "OK" else {}
    names = ("planned_steps", "wanted_steps", "compute_sec", "train_time_sec")
    return {
        **{name: run[name] for name in ("run_id", "family", "key", "status", "val_mse")},
        **{name: metrics.get(name) for name in names},
    }


def report(alone: list[dict[str, Any]], loaded: list[dict[str, Any]]) -> bool:
    """Print both searches side by side; return whether they are equal."""
    print(f"{'run':10} {'family':18} {'steps alone':>13} {'loaded':>13} {'score alone':>12} {'loaded':>9}")
    for one, other in zip(alone, loaded, strict=True):
        steps = [f"{run['planned_steps']}/{run['wanted_steps']}" for run in (one, other)]
        scores = [
            run["status"] if run["val_mse"] is None else f"{run['val_mse']:.5f}" for run in (one, other)
        ]
        same = "" if _result(one) == _result(other) else "  differs"
        name = f"{one['run_id']:10} {one['family']:18}"
        print(f"{name} {steps[0]:>13} {steps[1]:>13} {scores[0]:>12} {scores[1]:>9}{same}")
    for name, runs in (("alone", alone), ("loaded", loaded)):
        ok = [run for run in runs if run["status"] == "OK"]
        clock, compute = (statistics.mean(run[n] for run in ok) for n in ("train_time_sec", "compute_sec"))
        print(f"{name}: a training took {clock:.1f} s by the clock, its steps {compute:.1f} s of compute")
    equal = [_result(one) == _result(other) for one, other in zip(alone, loaded, strict=True)]
    print(f"{sum(equal)} of {len(equal)} runs have the same configuration, plan and score in both searches")
    return all(equal)


def _result(run: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(run[name] for name in ("key", "status", "planned_steps", "val_mse"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--runs", type=int, default=4, help="runs of each search (default: 4)")
    parser.add_argument("--minutes", type=float, default=0.1, help="compute of a run (default: 0.1)")
    parser.add_argument("--steps", type=int, help="optimizer steps of a run, in place of --minutes")
    parser.add_argument("--busy", type=int, default=4 * cores, help=f"busy processes (default: {4 * cores})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"load before: {os.getloadavg()[0]:.1f} on {cores} cores", flush=True)
        alone = search(Path(folder) / "alone", options)
        with busy(options.busy):
            loaded = search(Path(folder) / "loaded", options)
            print(f"load with {options.busy} busy processes: {os.getloadavg()[0]:.1f}", flush=True)
    return 0 if report(alone, loaded) else 1


if __name__ == "__main__":
    sys.exit(main())

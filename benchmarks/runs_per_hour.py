"""How many runs a search does in an hour, and what of that time is training.

    python benchmarks/runs_per_hour.py [--runs 100] [--parallel 2] [--etth1] [--proposer random_search]

The same search twice, by the real program: one training after the other, each in an interpreter of its own;
then with `--parallel N`, forked by a fork server. Pictures are drawn by another process in both. The
runs are the same ones, with the same number of steps, if the proposer asks nobody for results
(`random_search`, the default). "Ideal" is the sum of the compute of all trainings (`compute_sec`, evaluations
included), repeats and refits as well, divided by N: what is left is start-up, data, pictures, scores computed
again, and the agent.

`cpu_s` says where the CPU-seconds go, and on a busy machine compares better than times do: `steps` are the
trainings' own compute, `around_steps` what else their processes use, `supervision` their supervisors and
keepers and the scores that a fork server's children compute again; then the agent, the pictures, and each
module that runs in an interpreter of its own. `idle_slots_s` is the time in which a slot trained nothing, by
phase: before the first training; while that one runs, alone; while further runs begin; while the last of them
end; in the final; while refits run; and after the last training.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from cpu_seconds import ProcessWatch, Used
from short_series_data import SERIES, TARGET

from nas_system.files import read_record
from nas_system.processes.run_files import RunPaths

ROOT = Path(__file__).resolve().parent.parent


def search(workspace: Path, data: list[str], options: argparse.Namespace, *, before: bool) -> dict[str, Any]:
    """Search and return the wall time and what the trainings computed. Raises CalledProcessError."""
    parallel = 1 if before else options.parallel
    command = [sys.executable, "-m", "nas_agent_graph.run", "--workspace", str(workspace), *data]
    command += ["--max-runs", str(options.runs), "--repeat-base", "0", "--proposer", options.proposer]
    command += ["--threads", "1", "--device", "cpu", "--parallel", str(parallel)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "NAS_ARCHIVE_DIR": str(workspace / "archive"),
        "NAS_STATS_SECONDS": "0",
        "NAS_FORK_SERVER": "off" if before else "on",
    }
    workspace.mkdir()
    before_it, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    began_at = time.time()
    with open(workspace / "search.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        watch = ProcessWatch(process.pid)
        if code := process.wait():
            raise subprocess.CalledProcessError(code, command)
    wall_s = time.monotonic() - began
    used, after_it = watch.close(), resource.getrusage(resource.RUSAGE_CHILDREN)
    trainings = trainings_in(workspace / "runs")
    ends = [training.end for training in trainings]
    computed_s = sum(training.computed_s for training in trainings)
    runs = sum(training.kind == "run" for training in trainings)
    ideal_s = computed_s / parallel
    total_s = sum(after_it[:2]) - sum(before_it[:2])
    return {
        "parallel": parallel,
        "runs": runs,
        "trainings": len(trainings),
        "wall_s": round(wall_s, 1),
        "computed_s": round(computed_s, 1),
        "wall_by_ideal": round(wall_s / ideal_s, 3) if ideal_s else None,
        "runs_per_hour": round(3600 * runs / wall_s, 1),
        "idle_slots_s": idle_slots(trainings, parallel, began_at, began_at + wall_s),
        "load": os.getloadavg()[0],
        "cpu_s": {part: round(value, 2) for part, value in _parts(used, ends, computed_s, total_s).items()},
    }


class Training(NamedTuple):
    """One training that has ended; times as of `time.time()`."""

    kind: str
    """`run`, `repeats` or `refits`."""
    began_at: float
    ended_at: float
    computed_s: float
    end: dict[str, Any]
    """Its exit.json."""


def trainings_in(runs: Path) -> list[Training]:
    """Read the trainings of a search, in the order in which they began."""
    found = []
    for kind, pattern in (("run", "run_*"), ("repeats", "run_*/repeats/*"), ("refits", "run_*/refits/*")):
        for paths in map(RunPaths, runs.glob(pattern)):
            end = read_record(paths.exit)
            if end is not None:
                began_at, ended_at = (datetime.fromisoformat(end[at]) for at in ("started_at", "ended_at"))
                computed_s = (read_record(paths.metrics) or {}).get("compute_sec", 0.0)
                found.append(Training(kind, began_at.timestamp(), ended_at.timestamp(), computed_s, end))
    return sorted(found, key=lambda training: training.began_at)


def idle_slots(
    trainings: list[Training], parallel: int, began_at: float, ended_at: float
) -> dict[str, float]:
    """Return the seconds in which slots trained nothing, over all slots, by phase of the search."""
    runs = [training for training in trainings if training.kind == "run"]
    ends = {
        "start": runs[0].began_at,
        "first_run": runs[0].ended_at,
        "search": runs[-1].began_at,
        "last_runs": max(training.ended_at for training in runs),
        **{
            phase: max((one.ended_at for one in trainings if one.kind == kind), default=0.0)
            for phase, kind in (("final", "repeats"), ("refits", "refits"))
        },
        "end": ended_at,
    }
    idle, since = {}, began_at
    for phase, until in ends.items():
        until = max(until, since)
        busy_s = sum(max(0.0, min(one.ended_at, until) - max(one.began_at, since)) for one in trainings)
        idle[phase] = round(parallel * (until - since) - busy_s, 1)
        since = until
    return {"total": round(sum(idle.values()), 1), **idle}


def _parts(
    used: dict[str, Used], ends: list[dict[str, Any]], computed_s: float, total_s: float
) -> dict[str, float]:
    """Return the CPU-seconds of each part; `total_s` is exact, so what ended unseen is in the rest."""
    trainings_s = sum(end.get("user_s", 0.0) + end.get("sys_s", 0.0) for end in ends)
    # Their children are the trainings, and the rest.
    apart = {kind: one.own for kind, one in used.items() if kind in ("agent", "fork_server")}
    called = {kind: sum(one) for kind, one in used.items() if kind not in (*apart, "supervisor")}
    rest_s = total_s - trainings_s - sum(apart.values()) - sum(called.values())
    steps = {"steps": computed_s, "around_steps": trainings_s - computed_s, "supervision": rest_s}
    return {"total": total_s, **steps, **apart, **called}


def main() -> int:
    """Print both searches as JSON, one a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--etth1", action="store_true", help="instead of 730 daily rows with a week")
    parser.add_argument("--proposer", default="random_search")
    parser.add_argument("--only-after", action="store_true", help="leave the slow one out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), ["--dataset", "etth1", "--target", "OT", "--pred-len", "24"]
        if not options.etth1:
            series = next(one for one in SERIES if one.name == "weekly")
            series.write_csv(folder / "weekly.csv")
            data = ["--dataset", str(folder / "weekly.csv"), "--target", TARGET, "--pred-len", "14"]
        found = []
        for before in (False,) if options.only_after else (True, False):
            found.append(search(folder / f"{len(found)}", data, options, before=before))
            print(json.dumps(found[-1]), flush=True)
    if len(found) == 2:
        print(f"{found[1]['runs_per_hour'] / found[0]['runs_per_hour']:.2f} times as many runs an hour")
    return 0


if __name__ == "__main__":
    sys.exit(main())

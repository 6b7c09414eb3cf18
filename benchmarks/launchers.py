"""How long it takes from the submission of a training to its first step: here, on Slurm, on Ray.

    python benchmarks/launchers.py [--trainings 5] [--launchers local,slurm,ray]

Real engines: a Slurm controller with two nodes, and a Ray head with one, both started here for this. Each
training is submitted when the one before has ended; its supervisor and its sandbox are the product's own.
Parts: until the supervisor has begun (its claim, or proc.json), until the training's first line, until it has
ended and the launcher says so. The last line is the result as JSON: medians in seconds, and the CPU-seconds
that the submitting process took each.
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
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a bare checkout, too
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from clusters import ray_cluster, slurm_cluster

from nas_agent_graph.launchers import LauncherOptions, build_launcher
from nas_system.files import read_record
from nas_system.processes.job import Job
from nas_system.processes.run_files import RunPaths

TRAINING = "import time; print(time.time(), flush=True)"
WAIT_S = 120.0


def measure(name: str, trainings: int, workspace: Path) -> dict[str, float]:
    """Train so often and return the medians."""
    address = ray_cluster.ADDRESS if name == "ray" else None
    launcher = build_launcher(name, LauncherOptions(workspace=workspace, ray_address=address, say=print))
    found: list[tuple[float, float, float, float]] = []
    try:
        for number in range(trainings + 1):
            paths = RunPaths(workspace / "runs" / f"run_{number:04d}")
            paths.folder.mkdir(parents=True)
            began, cpu_s = time.time(), time.process_time()
            launcher.submit(paths.folder, Job((sys.executable, "-S", "-c", TRAINING), time_limit_s=60.0), 1)
            first = paths.process if name == "local" else paths.claim(1)
            begun = _await(lambda first=first: first.exists())
            ended = _await(lambda folder=paths.folder: launcher.survey([folder])[folder] == "finished")
            stepped = float(paths.log.read_text())
            assert (read_record(paths.exit) or {})["returncode"] == 0
            cpu_s = time.process_time() - cpu_s
            found.append((begun - began, stepped - began, ended - began, cpu_s))
    finally:
        launcher.close()
    # The first one also waits for the conversation with the engine to begin.
    columns = zip(*found[1:], strict=True)
    names = ("supervisor_s", "first_line_s", "ended_s", "submitter_cpu_s")
    return {name: round(statistics.median(values), 3) for name, values in zip(names, columns, strict=True)}


def _await(condition: Callable[[], bool]) -> float:
    give_up_at = time.time() + WAIT_S
    while not condition():
        if time.time() > give_up_at:
            raise TimeoutError("the training did not get on")
        time.sleep(0.01)
    return time.time()


@contextlib.contextmanager
def cluster_of(name: str, folder: Path) -> Iterator[tuple[dict[str, str], tuple[str, ...]]]:
    """Start what the launcher needs; yield the environment and what stands in front of a command there."""
    if name == "local":
        yield {}, ()
        return
    module = slurm_cluster if name == "slurm" else ray_cluster
    reason = module.missing()
    if reason is not None:
        raise SystemExit(reason)
    cluster = slurm_cluster.SlurmCluster(folder) if name == "slurm" else ray_cluster.RayCluster(folder)
    try:
        cluster.start()
        yield cluster.environment, getattr(cluster, "inside", ())
    finally:
        cluster.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=5)
    parser.add_argument("--launchers", default="local,slurm,ray")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        with tempfile.TemporaryDirectory(prefix="nas-launchers-") as folder:
            print(json.dumps(measure(options.inside, options.trainings, Path(folder).resolve())))
        return
    results = {}
    for name in options.launchers.split(","):
        with (
            tempfile.TemporaryDirectory(prefix="nas-cluster-") as folder,
            cluster_of(name, Path(folder) / name) as (environment, inside),
        ):
            command = [
                *inside,
                sys.executable,
                __file__,
                "--inside",
                name,
                "--trainings",
                str(options.trainings),
            ]
            done = subprocess.run(
                command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
            )
            results[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, results[name], flush=True)
    print(json.dumps({**results, "trainings": options.trainings, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()

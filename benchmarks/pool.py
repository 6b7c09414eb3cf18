"""How near a pool of trainings comes to the shortest time in which they can be done.

Stand-ins for trainings sleep for a log-normal time. The program, its supervisors and the sandbox are the
product's own. The ideal begins each training, in the same order, as soon as a slot is free; nothing begins
before the first one, the base config, has ended.

    python benchmarks/pool.py [--runs 32] [--parallel 4] [--seconds 8]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nas_system.files import write_json
from nas_system.nas_agent.ledger import Ledger
from nas_system.processes.run_files import FACTS_FILE
from nas_system.space import ForecastingTask
from nas_system.space.task_info import Baseline, DataSource, TaskInfo

ROOT = Path(__file__).resolve().parents[1]
SIGMA = 0.8
STAND_IN = """
import hashlib, json, os, random, sys, time
began = time.monotonic()
median, given = float(sys.argv[1]), dict(zip(sys.argv[2::2], sys.argv[3::2]))
config = open(given["--config"], "rb").read()
rng = random.Random(hashlib.sha256(config).digest())
seconds = median * rng.lognormvariate(0.0, %s)
time.sleep(seconds)
result = {"val_mse": rng.uniform(0.05, 0.09), "reason": "completed", "best_epoch": 0}
result |= {"seconds": seconds, "began": began, "ended": time.monotonic()}
with open(os.path.join(given["--output-dir"], "metrics.json"), "w") as file:
    json.dump(result, file)
"""
AGENT = "import sys; from nas_agent_graph.run import run_and_leave; run_and_leave({trainer!r})"
INFO = TaskInfo(
    ForecastingTask(),
    DataSource("none", "synthetic", None, sha256="0", bytes=0),
    baselines=(Baseline("last-value", {"val_mse": 0.07, "test_mse": 0.03}),),
    sizes={"hold_out": 0},
    columns=("OT",),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="median of a stand-in's length")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trainings = search(Path(folder), arguments)
    lengths = [training["seconds"] for training in trainings]
    took = max(training["ended"] for training in trainings) - trainings[0]["began"]
    ideal = lengths[0] + list_schedule(lengths[1:], arguments.parallel)
    bound = lengths[0] + sum(lengths[1:]) / arguments.parallel
    print(f"{len(lengths)} of {min(lengths):.1f} to {max(lengths):.1f} s, {sum(lengths):.1f} s in all")
    print(f"{arguments.parallel} at once: {took:.1f} s from the first start to the last end")
    print(f"list schedule {ideal:.1f} s: {100 * took / ideal - 100:.1f} % more; sum / N {bound:.1f} s")


def search(workspace: Path, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Run the search; return what each stand-in says of itself, in the order of their ids."""
    (workspace / "runs").mkdir()
    write_json(workspace / "runs" / FACTS_FILE, INFO.to_json())
    ledger, _ = Ledger.open(workspace)
    ledger.save(task=INFO.task, data=INFO.source.to_json())
    stand_in = workspace / "stand_in.py"
    stand_in.write_text(STAND_IN % SIGMA)
    trainer = [sys.executable, "-S", str(stand_in), str(arguments.seconds)]
    flags = ["--max-runs", str(arguments.runs), "--parallel", str(arguments.parallel), "--device", "cpu"]
    flags += ["--proposer", "random_search", "--repeat-baseline", "0", "--keep-free", "0"]
    program = AGENT.format(trainer=trainer)
    subprocess.run(
        [sys.executable, "-c", program, *flags],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return [json.loads(path.read_text()) for path in sorted(workspace.glob("runs/run_*/metrics.json"))]


def list_schedule(lengths: Sequence[float], slots: int) -> float:
    """Return when the last training ends if each begins, in order, as soon as a slot is free."""
    free = [0.0] * slots
    for length in lengths:
        free[free.index(min(free))] += length
    return max(free)


if __name__ == "__main__":
    main()

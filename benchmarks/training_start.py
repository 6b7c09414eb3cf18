"""From launching a training to its first optimizer step, next to a bare `import torch`.

The whole way that a search takes: launcher, supervisor, interpreter, imports, data, model, first
step. A and B alternate, and the ratio is that of their medians.

    python benchmarks/training_start.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.config_io.config_file import write_config
from nas_system.data import locate
from nas_system.files import read_object, write_json
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.processes.job import Job
from nas_system.processes.sandbox import Sandbox
from nas_system.space import ForecastingTask, family_default
from nas_system.space.task_info import TaskInfo


def import_torch() -> float:
    """Seconds of a process that only imports torch."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


def first_step(folder: Path, facts: Path, family: str) -> float:
    """Seconds from submitting a training to its first optimizer step."""
    paths = RunPaths(folder)
    folder.mkdir(parents=True)
    config = family_default(family)
    training = config.training.model_copy(update={"max_epochs": 1})
    write_config(paths.config, config.model_copy(update={"training": training}))
    command = [sys.executable, "-m", "nas_system.train", "--config", str(paths.config), "--facts", str(facts)]
    command += ["--runs-dir", str(folder.parent), "--tag", folder.name]
    launcher = LocalLauncher()
    began = time.time()
    launcher.submit(folder, Job(tuple(command), time_limit_s=300), 1)
    while launcher.survey([folder])[folder] == "running":
        time.sleep(0.05)
    return read_object(paths.metrics)["first_step_at"] - began


def sandbox(folder: Path) -> float:
    """Seconds to build the sandbox of a training, which `first_step` contains."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    built = Sandbox(folder)
    seconds = time.perf_counter() - began
    built.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--family", default="linear")
    arguments = parser.parse_args()
    bare, ours, sandboxes = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = ForecastingTask()
        info = TaskInfo(task, locate(task, download=False))
        write_json(folder / "facts.json", info.to_json())
        import_torch()
        for number in range(arguments.repeats):
            bare.append(import_torch())
            ours.append(first_step(folder / f"run_{number:04d}", folder / "facts.json", arguments.family))
            sandboxes.append(sandbox(folder / "runs" / f"sandbox_{number}"))
    a, b = statistics.median(ours), statistics.median(bare)
    print(f"{'':<34}{'median s':>10}{'min s':>8}{'max s':>8}")
    rows = {
        "launch to first optimizer step": ours,
        'python -c "import torch"': bare,
        "the sandbox": sandboxes,
    }
    for label, values in rows.items():
        print(f"{label:<34}{statistics.median(values):>10.3f}{min(values):>8.3f}{max(values):>8.3f}")
    print(f"ratio {a / b:.2f}")
    result = {"first_step_s": round(a, 3), "import_torch_s": round(b, 3), "ratio": round(a / b, 3)}
    print(json.dumps({**result, "sandbox_s": round(statistics.median(sandboxes), 4)}))


if __name__ == "__main__":
    main()

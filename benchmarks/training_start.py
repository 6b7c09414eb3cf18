"""What it costs to start a training: in an interpreter of its own, and forked by a fork server.

Both train the same configuration on the same series, in turn, the whole way that a search takes: launcher,
supervisor, sandbox, data, model, preflight, steps, files. The first draws its pictures at its end, the second
leaves them to another process. Processor time is that of all processes of a training, its supervisor's
included; what the server's own imports cost is printed once, as is a bare `import torch`. "Beyond its steps"
is what is left of it without `compute_sec`, which begins before the first step and contains the evaluations.

    python benchmarks/training_start.py [--repeats 5] [--family linear] [--rows 730 | --etth1]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from nas_agent_graph.launchers.local import LocalLauncher
from nas_system.config_io.config_file import write_config
from nas_system.data import locate
from nas_system.errors import RunError
from nas_system.files import read_object, write_json
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.processes.job import Job
from nas_system.space import ForecastingTask, RunConfig, family_default
from nas_system.space.task_info import TaskInfo

READY_S = 120.0
PREDICTED, SEEN = 7, 30
"""Steps of a forecast of the short series, and of its look-back."""


@dataclass(frozen=True)
class Start:
    """What one training cost, in seconds."""

    first_step: float
    """From its launch, by the clock."""
    cpu: float
    """Of all its processes."""
    beyond: float
    """Of that, what was not spent on steps and evaluations."""
    score: float


class Trainings:
    """Trainings of one configuration, one after the other, by one launcher."""

    def __init__(self, folder: Path, config: RunConfig, facts: Path, data: Path, *, forked: bool) -> None:
        folder.mkdir()
        self._pictures = "later" if forked else "now"
        self._folder, self._config, self._facts, self._data = folder, config, facts, data
        self._launcher = LocalLauncher(forked_program="nas_system.train" if forked else None)
        self._launcher.warm_up(folder, ["nas_system.tasks.forecasting"])
        server = self._launcher.fork_server
        if server is not None and not server.wait_until_ready(READY_S):
            raise RunError(f"the fork server is of no use here: {server.problem}")
        self.preparation = 0.0 if server is None or server.pid is None else _cpu_of(server.pid)[0]
        """Processor seconds of the server's imports."""

    def train(self, number: int) -> Start:
        """Train once and return what it cost."""
        paths = RunPaths(self._folder / f"run_{number:04d}")
        paths.folder.mkdir()
        write_config(paths.config, self._config)
        command = [sys.executable, "-m", "nas_system.train", "--config", str(paths.config)]
        command += ["--facts", str(self._facts), "--runs-dir", str(self._folder), "--tag", paths.folder.name]
        command += ["--output-dir", str(paths.work), "--device", "cpu", "--pictures", self._pictures]
        job = Job(tuple(command), time_limit_s=600, readable=(self._facts, self._data))
        before, began = self._spent(), time.time()
        self._launcher.submit(paths.folder, job, 1)
        while self._launcher.is_running(paths.folder):
            time.sleep(0.005)
        self._wait_for_supervisor()
        cpu, metrics = self._spent() - before, read_object(paths.metrics)
        return Start(metrics["first_step_at"] - began, cpu, cpu - metrics["compute_sec"], metrics["val_mse"])

    def close(self) -> None:
        """End the server."""
        self._launcher.close()

    def _spent(self) -> float:
        """Return the processor seconds of all trainings so far that have been collected."""
        server = self._launcher.fork_server
        if server is not None and server.pid is not None:
            return sum(_cpu_of(server.pid))
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def _wait_for_supervisor(self) -> None:
        # It lets go of the run's lock a moment before it ends, and only then its costs are known.
        time.sleep(0.3)
        self._launcher.survey([])


def _cpu_of(pid: int) -> tuple[float, float]:
    """Return the processor seconds of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, children = (sum(map(int, fields[first : first + 2])) for first in (11, 13))
    return own / os.sysconf("SC_CLK_TCK"), children / os.sysconf("SC_CLK_TCK")


def import_torch() -> float:
    """Return the processor seconds of a process that only imports torch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def series(folder: Path, rows: int) -> ForecastingTask:
    """Write a made-up daily series and return the task on it."""
    day = datetime.date(2022, 1, 1)
    lines = ["date,y"]
    for number in range(rows):
        value = 10 + 3 * math.sin(number / 58) + math.sin(number * 2 * math.pi / 7)
        value += 0.01 * (number * 7919 % 31)
        lines.append(f"{day + datetime.timedelta(days=number)},{value:.4f}")
    file = folder / "daily.csv"
    file.write_text("\n".join(lines) + "\n")
    return ForecastingTask(dataset=str(file), targets=("y",), pred_len=PREDICTED, freq="D")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--family", default="linear")
    parser.add_argument("--rows", type=int, default=730, help="of a made-up daily series")
    parser.add_argument("--etth1", action="store_true", help="take ETTh1 in its place, which must be here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = ForecastingTask() if arguments.etth1 else series(folder, arguments.rows)
        info = TaskInfo(task, locate(task, download=False))
        facts, data = folder / "facts.json", Path(info.source.path or folder)
        write_json(facts, info.to_json())
        config = family_default(arguments.family).model_copy(update={"task": task})
        if not arguments.etth1:
            config = config.model_copy(update={"data": config.data.model_copy(update={"seq_len": SEEN})})
        sides = {
            side: Trainings(folder / side, config, facts, data, forked=side == "forked")
            for side in ("exec", "forked")
        }
        starts: dict[str, list[Start]] = {side: [] for side in sides}
        for number in range(arguments.repeats + 1):  # the first one fills the caches
            for side, trainings in sides.items():
                starts[side].append(trainings.train(number))
        preparation = sides["forked"].preparation
        for trainings in sides.values():
            trainings.close()
    scores = {start.score for found in starts.values() for start in found}
    assert len(scores) == 1, f"the scores differ: {scores}"
    torch_s = import_torch()
    result = {"server_cpu_s": round(preparation, 2), "import_torch_cpu_s": round(torch_s, 2)}
    columns = ("median (least to most) of", "launch to first step", "processor s", "beyond its steps")
    print(f"{columns[0]:<28}{columns[1]:>28}{columns[2]:>24}{columns[3]:>24}")
    for side, found in starts.items():
        line = f"{side:<28}"
        for width, what in ((28, "first_step"), (24, "cpu"), (24, "beyond")):
            values = [getattr(start, what) for start in found[1:]]
            result[f"{side}_{what}_s"] = round(statistics.median(values), 3)
            line += f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})".rjust(width)
        print(line)
    print(json.dumps(result | {"repeats": arguments.repeats}))


if __name__ == "__main__":
    main()

"""How a search feels after a thousand runs: writing its state, going on with it, showing it.

A search over a launcher that trains nothing makes the workspace; what is measured are the programs
themselves, from the start of the process.

    python benchmarks/thousand_runs.py [--runs 1000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from nas_agent_graph.context import Context, Limits
from nas_agent_graph.graph import build_graph, steps_for
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.progress.plain import PlainProgress
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.state import initial_state
from nas_system.config_io.config_file import write_config
from nas_system.files import write_json
from nas_system.nas_agent.ledger import Ledger
from nas_system.nas_agent.run_manager import BASE_CONFIG_FILE, FACTS_FILE
from nas_system.space import ForecastingTask, RunConfig
from nas_system.space.task_info import HOLD_OUT, Baseline, DataSource, TaskInfo

ROOT = Path(__file__).resolve().parents[1]
SAVES = 11
# The product's own program; what it starts in the place of a training ends at once, without a score.
AGENT = "import sys; from nas_agent_graph.run import run_and_leave; run_and_leave([sys.executable, '-c', ''])"


def score(config: RunConfig) -> float:
    """A smooth stand-in for a training."""
    return 0.05 + 0.01 * abs(math.log10(config.training.lr) + 2) + 0.001 * (config.model.family != "linear")


def build_workspace(workspace: Path, runs: int) -> None:
    """A search of so many runs that has ended, every file as the nodes leave it."""
    task = ForecastingTask()
    info = TaskInfo(
        task,
        DataSource("none", "synthetic", None, sha256="0" * 64, bytes=0),
        baselines=(Baseline("last-value", {"val_mse": 0.07, "test_mse": 0.03}),),
        sizes={HOLD_OUT: 0},
        columns=("OT",),
    )
    (workspace / "runs").mkdir(parents=True)
    write_json(workspace / "runs" / FACTS_FILE, info.to_json())
    base = RunConfig()
    write_config(workspace / "runs" / BASE_CONFIG_FILE, base)
    ledger, _ = Ledger.open(workspace)
    ledger.save(task=task, data=info.source.to_json(), seed=base.seed, max_runs=runs)
    with open(os.devnull, "w") as nobody:
        context = Context(
            ledger=ledger,
            base=base,
            info=info,
            proposer=RandomSearchProposer(),
            fallback=RandomSearchProposer(),
            launcher=ScriptedLauncher(score),
            progress=PlainProgress(nobody),
            limits=Limits(max_runs=runs, repeat_base=0),
            train_command=("true",),
        )
        options = {"recursion_limit": steps_for(context.limits)}
        build_graph().invoke(initial_state(), config=options, context=context)


def save_seconds(workspace: Path) -> float:
    """One durable write of the state; the median of several."""
    ledger, _ = Ledger.open(workspace)
    taken, run_id = [], f"run_{len(ledger.state.runs):04d}"
    ledger.begin(run_id, "propose_config")
    for number in range(SAVES):
        began = time.perf_counter()
        ledger.reach(run_id, f"step {number}")
        taken.append(time.perf_counter() - began)
    ledger.save(in_progress=())
    return statistics.median(taken)


def seconds_until(command: Sequence[str], workspace: Path, line: str = "") -> float:
    """From the start of a program to a line with these words, or to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command, "--workspace", str(workspace)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        found, said = None, ""
        for text in process.stdout:
            said += text
            if line and line in text and found is None:
                found = time.perf_counter() - began
        process.wait()
    if process.returncode or (line and found is None):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said[-2000:]}")
    return time.perf_counter() - began if found is None else found


def measure(workspace: Path) -> dict[str, float]:
    """Seconds, each from the start of the process. The workspace has one run more afterwards."""
    runs = len(Ledger.open(workspace)[0].state.runs)
    agent = ["-c", AGENT, "--device", "cpu", "--proposer", "tpe", "--keep-free", "0", "--max-runs"]
    show = ["-m", "nas_agent_graph.show"]
    return {
        "state_write": save_seconds(workspace),
        "run_finished": seconds_until([*agent, str(runs)], workspace, f"{runs} of {runs} runs finished"),
        "resume": seconds_until([*agent, str(runs + 1)], workspace, f"run_{runs:04d} proposed by"),
        "show": seconds_until(show, workspace),
        "show_run": seconds_until([*show, f"run_{runs // 2:04d}"], workspace),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as quick,
        tempfile.TemporaryDirectory() as folder,
    ):
        # Seven durable writes a run: what is measured lies on the disk, what leads to it need not.
        build_workspace(Path(quick, "workspace"), arguments.runs)
        workspace = shutil.copytree(Path(quick, "workspace"), Path(folder, "workspace"))
        rows = [measure(workspace) for _ in range(arguments.repeats)]
    result = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    for name, seconds in result.items():
        print(f"{name:>12} {1e3 * seconds:8.1f} ms")
    print(json.dumps({f"{name}_ms": round(1e3 * seconds, 1) for name, seconds in result.items()}))


if __name__ == "__main__":
    main()

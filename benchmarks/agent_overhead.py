"""What the agent itself costs per run: everything that is not the training.

A search over a launcher that returns at once, proposed by TPE. The time of every round is split
into state (writing agent_state.json), proposer, and the rest (LangGraph, the nodes, the run's
files); the launcher's own share is left out. Reported around run 10, 100 and 1,000.

    python benchmarks/agent_overhead.py [--runs 1000]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context, Proposal, SearchView
from nas_agent_graph.graph import build_graph, steps_for
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.progress.plain import PlainProgress
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.state import initial_state
from nas_system.nas_agent.ledger import Ledger
from nas_system.space import ForecastingTask, RunConfig
from nas_system.space.task_info import DataSource, TaskInfo

INFO = TaskInfo(
    ForecastingTask(), DataSource("none", "synthetic", None, sha256="0" * 64, bytes=0), columns=("OT",)
)
HALF_WIDTH = 5
"""Rounds on either side of the one reported: the median of eleven."""


class Split:
    """Seconds by part, collected per round."""

    def __init__(self) -> None:
        self.now: dict[str, float] = defaultdict(float)
        self.rounds: list[dict[str, float]] = []
        self.round_began = time.perf_counter()

    def timed(self, part: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.now[part] += time.perf_counter() - began

        return call

    def end_round(self) -> None:
        ended = time.perf_counter()
        self.rounds.append({**self.now, "all": ended - self.round_began})
        self.now = defaultdict(float)
        self.round_began = ended


class TimedProposer:
    name = "tpe"

    def __init__(self, split: Split) -> None:
        self._propose = split.timed("proposer", TPEProposer().propose)

    def propose(self, view: SearchView) -> Proposal:
        return self._propose(view)


class TimedLedger(Ledger):
    def __init__(self, workspace: Path, split: Split) -> None:
        ledger, _ = Ledger.open(workspace)
        super().__init__(workspace, ledger.state)
        self._timed_save = split.timed("state", super().save)

    def save(self, **changes: Any) -> None:
        self._timed_save(**changes)


class Rounds(PlainProgress):
    """Silent; only notes when a round has ended."""

    def __init__(self, split: Split, sink: Any) -> None:
        super().__init__(sink)
        self._split = split

    def finished(self, run: Any, verdict: dict[str, Any]) -> None:
        super().finished(run, verdict)
        self._split.end_round()


def score(config: RunConfig) -> float:
    """A smooth stand-in for a training."""
    return 0.05 + 0.01 * abs(math.log10(config.training.lr) + 2) + 0.001 * (config.model.family != "linear")


def measure(runs: int) -> list[dict[str, float]]:
    """Seconds per round and part, in milliseconds."""
    split = Split()
    with tempfile.TemporaryDirectory() as folder, open("/dev/null", "w") as sink:
        workspace = Path(folder)
        (workspace / "runs").mkdir()
        ledger = TimedLedger(workspace, split)
        ledger.save(task=ForecastingTask(), data=INFO.source.to_json(), seed=42, max_runs=runs)
        launcher = ScriptedLauncher(score)
        launcher.submit = split.timed("launcher", launcher.submit)
        context = Context(
            ledger=ledger,
            base=RunConfig(),
            info=INFO,
            proposer=TimedProposer(split),
            fallback=TPEProposer(),
            launcher=launcher,
            progress=Rounds(split, sink),
            limits=Limits(max_runs=runs, repeat_base=0),
            train_command=("true",),
        )
        graph = build_graph()
        split.round_began = time.perf_counter()
        graph.invoke(initial_state(), config={"recursion_limit": steps_for(context.limits)}, context=context)
    return [
        {
            "state": 1e3 * r.get("state", 0.0),
            "proposer": 1e3 * r.get("proposer", 0.0),
            "rest": 1e3 * (r["all"] - r.get("state", 0.0) - r.get("proposer", 0.0) - r.get("launcher", 0.0)),
        }
        for r in split.rounds
    ]


def around(rounds: list[dict[str, float]], number: int) -> dict[str, float]:
    """Medians over the rounds around one."""
    near = rounds[max(0, number - HALF_WIDTH) : number + HALF_WIDTH + 1]
    parts = {part: statistics.median(r[part] for r in near) for part in near[0]}
    return {**parts, "total": statistics.median(sum(r.values()) for r in near)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    rounds = measure(runs)
    points = [number for number in (10, 100, 300, 1000) if number <= runs]
    table = {number: around(rounds, number) for number in points}
    print(f"{'run':>6}{'state ms':>12}{'proposer ms':>14}{'rest ms':>10}{'total ms':>11}")
    for number, row in table.items():
        print(
            f"{number:>6}{row['state']:>12.1f}{row['proposer']:>14.1f}{row['rest']:>10.1f}{row['total']:>11.1f}"
        )
    print(json.dumps({f"run_{n}": {k: round(v, 2) for k, v in row.items()} for n, row in table.items()}))


if __name__ == "__main__":
    main()

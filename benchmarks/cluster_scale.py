"""How many slots of a cluster one agent keeps busy, and what of it gives way first.

A whole search: the real graph, its ledger on the disk, the real launcher for clusters and its conversation
with an engine. The engine and its trainings are scripted (`simulated_cluster.py`, which says how time goes
on): simulated time is the agent's own seconds and what it waits for, so an agent that is slow leaves slots
idle. Trainings have log-normal lengths; scores are made up and taken at their word.

    python benchmarks/cluster_scale.py [--slots 256] [--seconds 60] [--runs 1280] [--proposer tpe]
    python benchmarks/cluster_scale.py --table --picture docs/images/scale.png

Slots are counted from the end of the first run, before which nothing else begins, to the beginning of the
last configuration: `busy` is the time of trainings in this span over slots and time, the filling of the slots
included; `busy_when_full` counts from the moment at which all were taken for the first time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from benchmarks.simulated_cluster import ScriptedEngine, SimulatedTime, Talker, log_normal, smooth_score
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context, Proposer, RunState, Slots
from nas_agent_graph.graph import build_graph, steps_for
from nas_agent_graph.launchers.cluster import ClusterLauncher
from nas_agent_graph.launchers.local import LocalLauncher
from nas_agent_graph.pool.repeat_rule import SelectionRule
from nas_agent_graph.progress.plain import PlainProgress
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.state import initial_state
from nas_system.files import write_json
from nas_system.nas_agent.agent_state import AgentState, RunInfo, is_repeat
from nas_system.nas_agent.ledger import Ledger
from nas_system.processes.job import Job
from nas_system.processes.run_files import FACTS_FILE
from nas_system.space import ForecastingTask, RunConfig
from nas_system.space.task_info import Baseline, DataSource, TaskInfo

PROPOSERS: dict[str, Callable[[], Proposer]] = {"tpe": TPEProposer, "random_search": RandomSearchProposer}
INFO = TaskInfo(
    ForecastingTask(),
    DataSource("none", "synthetic", None, sha256="0" * 64, bytes=0),
    baselines=(Baseline("last-value", {"val_mse": 0.07, "test_mse": 0.03}),),
    columns=("OT",),
)


class TimedLedger(Ledger):
    """Says how long every node of the graph took, and every write of the state."""

    def __init__(self, workspace: Path, clock: SimulatedTime) -> None:
        ledger, _ = Ledger.open(workspace)
        super().__init__(workspace, ledger.state)
        self._clock = clock
        self._since = clock.own()
        self._writing_s = 0.0
        self.writes_s: list[float] = []
        self.nodes_s: dict[str, float] = defaultdict(float)

    def save(self, **changes: Any) -> None:
        began = self._clock.own()
        super().save(**changes)
        self.writes_s.append(self._clock.own() - began)
        self._writing_s += self.writes_s[-1]

    def reach(self, run_id: str, step: str) -> None:
        super().reach(run_id, step)
        now = self._clock.own()
        self.nodes_s[step] += now - self._since - self._writing_s
        self._since, self._writing_s = now, 0.0


class SimulatedLauncher(ClusterLauncher):
    """Makes good what has happened elsewhere before the agent sees any of it."""

    def __init__(self, engine: ScriptedEngine, workspace: Path) -> None:
        here = LocalLauncher(sandbox="off")
        super().__init__(
            engine, here, workspace=workspace, say=print, sandbox="off", clock=engine.clock, talks=False
        )
        self._time, self._talker = engine.clock, engine.talker
        self.submitted: list[tuple[float, str]] = []
        """When each training was sent, and its folder within that of all runs."""

    def submit(self, run_dir: Path, job: Job, attempt: int) -> None:
        if not self.submitted:
            self._talker.begin(self.conversation)
        super().submit(run_dir, job, attempt)
        self._time.catch_up()
        self.submitted.append((self._time.now, run_dir.as_posix().rpartition("/runs/")[2]))
        self._talker.wake()

    def survey(self, run_dirs: Sequence[Path]) -> dict[Path, RunState]:
        self._time.catch_up()
        return super().survey(run_dirs)


@dataclass
class Ends(PlainProgress):
    """Prints nowhere, and notes when runs ended."""

    clock: SimulatedTime
    at: list[tuple[float, float]] = field(default_factory=list)
    """Simulated time, and the agent's own seconds until then."""

    def __post_init__(self) -> None:
        super().__init__(open(os.devnull, "w"), self.clock.monotonic)  # noqa: SIM115  # as long as the search

    def finished(self, run: RunInfo, verdict: Any) -> None:
        super().finished(run, verdict)
        self.at.append((self.clock.monotonic(), self.clock.own()))


@dataclass(frozen=True)
class Searched:
    """A search that has ended."""

    state: AgentState
    ledger: TimedLedger
    engine: ScriptedEngine
    launcher: SimulatedLauncher
    ends: Ends
    clock: SimulatedTime
    slots: int


def search(workspace: Path, *, slots: int, seconds: float, runs: int, proposer: str = "tpe") -> Searched:
    """Search in an empty workspace; trainings take `seconds` on the average."""
    (workspace / "runs").mkdir(parents=True)
    write_json(workspace / "runs" / FACTS_FILE, INFO.to_json())
    Ledger.open(workspace)[0].save(
        task=INFO.task, data=INFO.source.to_json(), seed=42, leads_by="mean", max_runs=runs
    )
    clock = SimulatedTime()
    talker = Talker(clock)
    engine = ScriptedEngine(clock, talker, log_normal(seconds), smooth_score)
    launcher, ledger, ends = SimulatedLauncher(engine, workspace), TimedLedger(workspace, clock), Ends(clock)
    context = Context(
        ledger=ledger,
        base=RunConfig(),
        info=INFO,
        proposer=PROPOSERS[proposer](),
        fallback=RandomSearchProposer(),
        launcher=launcher,
        progress=ends,
        limits=Limits(max_runs=runs),
        train_command=("train",),
        slots=Slots(slots),
        repeat_rule=SelectionRule(),
        clock=clock,
        started=clock.monotonic(),
    )
    ends.begin(ledger.state, INFO, context.limits)
    try:
        options = {"recursion_limit": steps_for(context.limits)}
        build_graph().invoke(initial_state(), config=options, context=context)
    finally:
        talker.close()
        launcher.close()
    return Searched(ledger.state, ledger, engine, launcher, ends, clock, slots)


def figures(found: Searched) -> dict[str, Any]:
    """Return what the search measured."""
    ledger, clock, runs = found.ledger, found.clock, len(found.state.runs)
    trainings = Counter(job.folder for job in found.engine.finished)
    configurations = [when for when, name in found.launcher.submitted if not is_repeat(name)]
    first, full, last = found.ends.at[0][0], _full_at(found), configurations[-1]
    in_span = [own for when, own in found.ends.at if first <= when <= last]
    rounds = [after - before for before, after in itertools.pairwise(in_span)]
    own_s, span_s = clock.own(), clock.now
    parts = {name: spent / runs for name, spent in ledger.nodes_s.items()}
    parts["writes of the state"] = sum(ledger.writes_s) / runs
    loads = {"agent": own_s / span_s, "engine": found.engine.talker.busy_s / span_s}
    return {
        "slots": found.slots,
        "runs": runs,
        "ok": sum(run.status == "OK" for run in found.state.runs),
        "trainings": len(found.engine.finished),
        "trained_twice": sum(count > 1 for count in trainings.values()),
        "most_at_once": found.engine.most_at_once,
        "simulated_s": round(span_s, 1),
        "busy": _busy(found, first, last),
        "busy_when_full": None if full is None else _busy(found, full, last),
        "own_s_per_run": {"mean": _round(own_s / runs), **_spread(rounds)},
        "write_s": {"mean": _round(statistics.fmean(ledger.writes_s)), **_spread(ledger.writes_s)},
        "writes_per_run": _round(len(ledger.writes_s) / runs),
        "own_s_per_run_by_part": {name: _round(spent) for name, spent in sorted(parts.items(), key=_spent)},
        "load": {name: _round(load) for name, load in loads.items()},
    }


def _spent(part: tuple[str, float]) -> float:
    return -part[1]


def _busy(found: Searched, first: float, last: float) -> float | None:
    """Return the share of the slots' time between two moments in which they trained."""
    if last <= first:
        return None
    began = [(job.ends - job.seconds, job.ends) for job in found.engine.finished]
    trained_s = sum(max(min(end, last) - max(begin, first), 0.0) for begin, end in began)
    return _round(trained_s / (found.slots * (last - first)))


def _full_at(found: Searched) -> float | None:
    """Return when all slots were taken by trainings that had been sent; None if they never were."""
    changes = [(when, 1) for when, _ in found.launcher.submitted]
    changes += [(job.ends, -1) for job in found.engine.finished]
    taken = 0
    for when, change in sorted(changes):
        taken += change
        if taken >= found.slots:
            return when
    return None


def _spread(values: Iterable[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    if not ordered:
        return {"median": None, "p95": None}
    p95 = ordered[min(math.ceil(0.95 * len(ordered)), len(ordered)) - 1]
    return {"median": _round(statistics.median(ordered)), "p95": _round(p95)}


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def measure(*, slots: int, seconds: float, runs: int, proposer: str = "tpe") -> dict[str, Any]:
    """Search in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        found = search(Path(folder) / "search", slots=slots, seconds=seconds, runs=runs, proposer=proposer)
        return {"seconds": seconds, "proposer": proposer, **figures(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=60.0, help="mean length of a training")
    parser.add_argument("--runs", type=int, default=1280)
    parser.add_argument("--proposer", choices=PROPOSERS, default="tpe")
    options = parser.parse_args()
    print(
        json.dumps(
            measure(
                slots=options.slots, seconds=options.seconds, runs=options.runs, proposer=options.proposer
            )
        )
    )


if __name__ == "__main__":
    main()

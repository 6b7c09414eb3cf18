"""How many slots of a cluster one agent keeps busy, and what of it gives way first.

A whole search: the real graph, its ledger on the disk, the real launcher for clusters and its conversation
with an engine. The engine and its trainings are scripted (`simulated_cluster.py`, which says how time goes
on): simulated time is the agent's own seconds and what it waits for, so an agent that is slow leaves slots
idle. Trainings have log-normal lengths; scores are made up and taken at their word.

    python benchmarks/cluster_scale.py [--slots 256] [--seconds 60] [--runs 1280] [--proposer tpe]
    python benchmarks/cluster_scale.py --table scale.jsonl --picture docs/images/scale.png

Slots are counted from the end of the first run, before which nothing else begins, to the beginning of the
last configuration: `busy` is the time of trainings in this span over slots and time, the filling of the slots
included; `busy_when_full` counts from the moment at which all were taken for the first time.

With `--table` all numbers of slots and lengths are measured that the file does not hold yet, a line each.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from nas_system.visualization.canvas import CYCLE, Label, draw, label_right

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROPOSERS: dict[str, Callable[[], Proposer]] = {"tpe": TPEProposer, "random_search": RandomSearchProposer}
SLOTS = (1, 4, 16, 64, 256, 1024)
LENGTHS = {10.0: "10 s", 60.0: "60 s", 600.0: "10 min", 3600.0: "1 h"}
FINAL = 4
"""Trainings with fresh seeds at the end, which is not measured."""
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


class Nowhere(io.StringIO):
    """Forgets what is written."""

    def write(self, text: str) -> int:
        return len(text)


class Ends(PlainProgress):
    """Prints nowhere, and notes when runs ended."""

    def __init__(self, clock: SimulatedTime) -> None:
        super().__init__(Nowhere(), clock.monotonic)
        self._clock = clock
        self.at: list[tuple[float, float]] = []
        """Simulated time, and the agent's own seconds until then."""

    def finished(self, run: RunInfo, verdict: Any) -> None:
        super().finished(run, verdict)
        self.at.append((self._clock.monotonic(), self._clock.own()))


@dataclass(frozen=True)
class Searched:
    """A search that has ended."""

    state: AgentState
    ledger: TimedLedger
    engine: ScriptedEngine
    launcher: SimulatedLauncher
    ends: Ends
    slots: int
    own_s: float
    """What the agent took itself."""
    span_s: float
    """Simulated time from its start to its end."""


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
        limits=Limits(max_runs=runs, repeats=FINAL),
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
    found = Searched(ledger.state, ledger, engine, launcher, ends, slots, clock.own(), clock.monotonic())
    clock.close()
    return found


def figures(found: Searched) -> dict[str, Any]:
    """Return what the search measured."""
    ledger, runs, own_s, span_s = found.ledger, len(found.state.runs), found.own_s, found.span_s
    trainings = Counter(job.folder for job in found.engine.finished)
    configurations = [when for when, name in found.launcher.submitted if not is_repeat(name)]
    first, full, last = found.ends.at[0][0], _full_at(found), configurations[-1]
    in_span = [own for when, own in found.ends.at if first <= when <= last]
    rounds = [after - before for before, after in itertools.pairwise(in_span)]
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
    """Return the number with four digits."""
    return float(f"{value:.4g}")


def measure(*, slots: int, seconds: float, runs: int, proposer: str = "tpe") -> dict[str, Any]:
    """Search in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        found = search(Path(folder) / "search", slots=slots, seconds=seconds, runs=runs, proposer=proposer)
        return {"seconds": seconds, "proposer": proposer, **figures(found)}


def rows_in(file: Path) -> list[dict[str, Any]]:
    """Return what has been measured for the table."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def measure_table(file: Path) -> list[dict[str, Any]]:
    """Return a row for each number of slots and length, measured unless the file holds it."""
    rows = rows_in(file)
    known = {(row["slots"], row["seconds"]) for row in rows}
    for seconds, slots in itertools.product(LENGTHS, SLOTS):
        if (slots, seconds) not in known:
            rows.append(measure(slots=slots, seconds=seconds, runs=runs_for(slots, seconds)))
            with open(file, "a") as lines:
                lines.write(json.dumps(rows[-1]) + "\n")
    return rows


def runs_for(slots: int, seconds: float) -> int:
    """Return how many runs tell how busy slots are: four generations, and of the long ones, in which little
    happens, less than two."""
    return max(8, 4 * slots if seconds <= 60 else math.ceil(1.25 * slots))


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the share of the slots that is busy once all are taken, as a table for a page."""
    found = {(row["slots"], row["seconds"]): row for row in rows}
    print("| slots |" + "".join(f" {name} |" for name in LENGTHS.values()))
    print("|---|" + "---|" * len(LENGTHS))
    for slots in SLOTS:
        cells = [found.get((slots, seconds)) for seconds in LENGTHS]
        print(f"| {slots:,} |" + "".join(f" {_percent(cell)} |" for cell in cells))


def _percent(row: dict[str, Any] | None) -> str:
    shares = [] if row is None else [row["busy_when_full"], row["busy"]]
    return ", ".join("-" if share is None else f"{100 * share:.0f} %" for share in shares) or "not measured"


def draw_table(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw the same: busy share over slots, a line for each length of the trainings."""

    def paint(figure: Figure) -> None:
        axes = figure.add_axes((0.09, 0.15, 0.74, 0.73))
        labels = []
        for color, (seconds, name) in zip(CYCLE, LENGTHS.items(), strict=False):
            points = sorted((row["slots"], row) for row in rows if row["seconds"] == seconds)
            shares = [100 * (row["busy_when_full"] or row["busy"]) for _, row in points]
            axes.plot([slots for slots, _ in points], shares, "o-", color=color, markersize=4)
            if points:
                labels.append(Label(shares[-1], name, color))
        axes.set_xscale("log", base=4)
        axes.set_xticks(SLOTS, [f"{slots:,}" for slots in SLOTS])
        axes.set_ylim(0, 105)
        axes.set_xlabel("slots")
        axes.set_ylabel("slots busy, %")
        axes.set_title("Slots that one agent keeps busy, by the length of trainings")
        label_right(axes, labels)

    draw(file, (6.4, 3.4), paint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=60.0, help="mean length of a training")
    parser.add_argument("--runs", type=int, default=1024)
    parser.add_argument("--proposer", choices=PROPOSERS, default="tpe")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure all of the table")
    parser.add_argument("--as-it-is", action="store_true", help="show the table without measuring more")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the table")
    options = parser.parse_args()
    if options.table is None:
        asked = {"slots": options.slots, "seconds": options.seconds, "runs": options.runs}
        print(json.dumps(measure(**asked, proposer=options.proposer)))
        return
    rows = (rows_in if options.as_it_is else measure_table)(options.table)
    print_table(rows)
    if options.picture is not None:
        draw_table(rows, options.picture)


if __name__ == "__main__":
    main()

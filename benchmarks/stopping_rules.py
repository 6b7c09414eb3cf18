"""What stopping trainings early saves, and what it loses: the rules over recorded curves, in random orders.

    python benchmarks/stopping_rules.py                      the curves of benchmarks/recorded_curves.json
    python benchmarks/stopping_rules.py FOLDER ...           those of trainings in FOLDER/runs/run_0000, ...
    python benchmarks/stopping_rules.py --record FOLDER ...  write those down, for the first form

Every order is a search with one training at a time that starts with the base config. A stopped training costs
the epochs up to its rung. Printed per task and rule: the share of all epochs that is saved, the share of the
orders in which the best score of all was lost, mean and largest regret (by how much larger the error of the
best run is that is left, in per cent), and how many runs are stopped. Settings were chosen on the half
`choose`; `report` is only ever reported.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from nas_agent_graph.analysis.pruning import RULES, Curve, EndedRun, epoch_of, evidence
from nas_system.files import finite, read_record, write_atomic
from nas_system.nas_agent.history_summary import direction_in, metric_in
from nas_system.processes.run_files import RunPaths
from nas_system.space.score import Direction, is_better, loss_of

RECORDED = Path(__file__).with_name("recorded_curves.json")
ORDERS = 300
HALVES = {
    "two_seasons": "choose",
    "zinc_synth": "choose",
    "two_seasons_peaked": "report",
    "ring_synth": "report",
}
"""Of the recorded curves. Each half has a series (`benchmarks/short_series_data.py`: 2,016 and 3,000 rows)
and a task on 400 generated molecules. Every task has its base config and up to 30 other configurations, drawn
at random from the search space (small networks; on the first series the families' defaults, too), planned
for at most 300 steps on the first series and 400 steps or 5 s of compute on the others."""


@dataclass(frozen=True)
class Task:
    """All runs of a finished search, the base config first."""

    name: str
    metric: str
    direction: Direction
    runs: tuple[EndedRun, ...]

    @property
    def epochs(self) -> int:
        """All that were trained."""
        return sum(len(run.curve.scores) for run in self.runs if run.curve)

    def best_of(self, runs: Sequence[EndedRun]) -> float:
        """Return the best score of the runs, of which one at least has one."""
        scores = [run.score for run in runs if run.score is not None]
        return min(scores, key=lambda score: loss_of(score, self.direction))

    def regret(self, runs: Sequence[EndedRun]) -> float:
        """Return by which share of the best error of all the best error among `runs` is larger."""
        found, best = (_error(self.best_of(some), self.direction) for some in (runs, self.runs))
        return found / best - 1 if best > 0 else found


@dataclass(frozen=True)
class Replayed:
    """A search in one order, with a rule."""

    epochs: int
    stopped: int
    lost: bool
    regret: float


def _error(score: float, direction: Direction) -> float:
    return score if direction == "minimize" else 1.0 - score


def replayed(task: Task, rule: str, order: Sequence[EndedRun]) -> Replayed:
    """Train in this order, and stop what the rule stops when it is looked at after every rung."""
    ended: list[EndedRun] = []
    epochs = 0
    for run in order:
        assert run.curve is not None
        cut = stopped_at(run.curve, rule, ended, task.direction, is_base=run is task.runs[0])
        if cut is None:
            ended.append(run)
            epochs += len(run.curve.scores)
        else:
            ended.append(EndedRun(run.run_id, None, Curve(run.curve.scores[:cut], run.curve.planned_epochs)))
            epochs += cut
    lost = is_better(task.best_of(task.runs), task.best_of(ended), task.direction)
    return Replayed(epochs, sum(run.score is None for run in ended), lost, task.regret(ended))


def stopped_at(
    curve: Curve, rule: str, ended: Sequence[EndedRun], direction: Direction, *, is_base: bool
) -> int | None:
    """Return after how many epochs the rule stops this training; None if it comes to its end."""
    for epoch in sorted({epoch_of(share, curve.planned_epochs) for share in RULES[rule].rungs}):
        if epoch >= len(curve.scores):  # it has ended by itself
            return None
        so_far = replace(curve, scores=curve.scores[:epoch])
        if evidence(rule, so_far, ended, direction, is_base=is_base) is not None:
            return epoch
    return None


def orders_of(task: Task, count: int) -> list[list[EndedRun]]:
    """Return random orders, the same ones for every rule; the base config stays first."""
    generator = random.Random(0)
    return [[task.runs[0], *generator.sample(task.runs[1:], len(task.runs) - 1)] for _ in range(count)]


def row_of(task: Task, rule: str, orders: Sequence[Sequence[EndedRun]]) -> str:
    """Return a line of the table."""
    results = [replayed(task, rule, order) for order in orders]
    saved = 100 - 100 * fmean(result.epochs for result in results) / task.epochs
    lost = 100 * fmean(result.lost for result in results)
    regrets = [100 * result.regret for result in results]
    stopped = fmean(result.stopped for result in results)
    return (
        f"| {task.name} | {HALVES.get(task.name, '')} | {rule} | {saved:.0f} % | {lost:.1f} % "
        f"| {fmean(regrets):.2f} / {max(regrets):.2f} % | {stopped:.1f} of {len(task.runs)} |"
    )


def task_of_folder(folder: Path) -> Task:
    """Read the trainings of a folder that came to their end with a score."""
    runs: list[EndedRun] = []
    metric, direction = "", "minimize"
    for run_dir in sorted((folder / "runs").glob("run_*")):
        history, metrics = read_record(RunPaths(run_dir).history), read_record(RunPaths(run_dir).metrics)
        if history is None or metrics is None or metrics.get("reason") in ("stopped", "diverged"):
            continue
        metric, direction = f"val_{metric_in(history)}", direction_in(history)
        curve, score = Curve.of(history, metric), finite(metrics.get(metric))
        if curve is not None and score is not None:
            runs.append(EndedRun(run_dir.name, score, curve))
    return Task(folder.resolve().name, metric, direction, tuple(runs))


def to_json(task: Task) -> dict[str, Any]:
    """Return a task with five digits of its scores, enough for any rule."""
    return {
        "name": task.name,
        "metric": task.metric,
        "direction": task.direction,
        "runs": [
            {
                "run_id": run.run_id,
                "score": run.score,
                "planned_epochs": run.curve.planned_epochs,
                "scores": [None if score is None else float(f"{score:.5g}") for score in run.curve.scores],
            }
            for run in task.runs
            if run.curve
        ],
    }


def from_json(record: Mapping[str, Any]) -> Task:
    """Read a task back."""
    runs = [
        EndedRun(run["run_id"], run["score"], Curve(tuple(run["scores"]), run["planned_epochs"]))
        for run in record["runs"]
    ]
    return Task(record["name"], record["metric"], record["direction"], tuple(runs))


def main() -> int:
    """Print the table, or record curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--orders", type=int, default=ORDERS, metavar="N")
    arguments = parser.parse_args()
    tasks = [task_of_folder(folder) for folder in arguments.folders]
    if arguments.record:
        lines = ",\n".join(json.dumps(to_json(task)) for task in tasks)
        write_atomic(RECORDED, f"[\n{lines}\n]\n".encode())
        return 0
    tasks = tasks or [from_json(record) for record in json.loads(RECORDED.read_text())]
    print(
        "| task | half | rule | epochs saved | best lost | regret mean / max | stopped |\n" + 7 * "|---" + "|"
    )
    for task in tasks:
        orders = orders_of(task, arguments.orders)
        for rule in RULES:
            print(row_of(task, rule, orders), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

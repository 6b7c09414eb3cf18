"""What the sampler adds: TPE against random search, from the same start, with real trainings.

    NAS_DATA_DIR=<folder> python benchmarks/sampler_regret.py --seeds 8 [--runs 30] [--seconds 10]

Every search is the real graph from run_0000 on: base config, then the tried default of every family, then
the sampler. Both samplers of one seed share the trainings they have in common. A training ends after
the epoch that reaches `--seconds`, without a score if that takes three times as long, and is done by the
search's own engine, in this process. Reported is
the regret, the best validation error so far minus the lowest anybody found in the whole study, after 5,
10, 20 and 30 runs, its paired difference between the samplers, and how much of the way the defaults went.

    python benchmarks/sampler_regret.py --made-up --parallel 4 --seeds 24

What several trainings at once cost: TPE with one and with `--parallel` of them, event by event, with
log-normal durations per family instead of a clock. Reported is the regret at equal numbers of finished runs,
its paired difference with its standard error, configurations begun twice, and how much earlier the search
ends. `--made-up` takes the scores of `made_up_objectives.py`, else they are those of real trainings.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from benchmarks.made_up_objectives import (
    Objective,
    mean_and_error,
    regrets_of,
    simulate,
    start_of,
)
from nas_agent_graph.budget import Limits
from nas_agent_graph.context import Context, RunView, SearchView
from nas_agent_graph.graph import build_graph, steps_for
from nas_agent_graph.launchers.scripted import ScriptedLauncher
from nas_agent_graph.progress.plain import PlainProgress
from nas_agent_graph.proposers.random_search import RandomSearchProposer
from nas_agent_graph.proposers.tpe import TPEProposer
from nas_agent_graph.state import initial_state
from nas_system.config_io.config_file import named_config
from nas_system.errors import NasError, StoppedOnRequest
from nas_system.files import write_json
from nas_system.nas_agent.ledger import Ledger
from nas_system.space import FAMILIES, RunConfig, canonical_key
from nas_system.space.task_info import TaskInfo
from nas_system.tasks import kind_of

SAMPLERS = {"tpe": TPEProposer, "random_search": RandomSearchProposer}
HARD_LIMIT_FACTOR = 3


class RealScores:
    """`score(config)`: the validation error of a real training, remembered in a folder."""

    def __init__(self, folder: Path, info: TaskInfo, seconds: float) -> None:
        self.folder, self.info, self.seconds = folder, info, seconds

    def __call__(self, config: RunConfig) -> float | None:
        file = self.folder / f"{canonical_key(config)}_{config.seed}.json"
        if not file.exists():
            write_json(file, {"val_mse": self._train(config)})
        return json.loads(file.read_text())["val_mse"]

    def _train(self, config: RunConfig) -> float | None:
        import torch

        from nas_system.training.build import build_engine
        from nas_system.training.callbacks import TimeBudget

        torch.set_num_threads(1)
        try:
            problem = kind_of(config.task).open(config, self.info, None, torch.device("cpu"))
            engine = build_engine(config, problem, torch.device("cpu"))
            assert engine.generator is not None
            train = problem.training_batches(engine.generator)
            val = problem.batches("val", problem.evaluation_batch)
            started = time.monotonic()

            def stop_at_hard_limit() -> None:
                if time.monotonic() - started > HARD_LIMIT_FACTOR * self.seconds:
                    raise StoppedOnRequest("the first epoch took too long")

            budget = TimeBudget(self.seconds, started)
            engine.fit_planned(train, val, [budget], after_step=stop_at_hard_limit)
        except StoppedOnRequest:
            return None  # as under a supervisor, which leaves such a run without a score
        except (NasError, RuntimeError) as error:
            print(f"{config.model.family}: {error}", file=sys.stderr)
            return None
        best = min(record.val["mse"] for record in engine.history)
        return best if math.isfinite(best) else None


def search(sampler: str, seed: int, runs: int, scores: RealScores) -> list[float]:
    """Validation errors of one search, run by run; infinite for a failed run."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as sink:
        workspace = Path(folder)
        (workspace / "runs").mkdir()
        base = named_config("default").model_copy(update={"seed": seed})
        ledger, _ = Ledger.open(workspace)
        ledger.save(task=base.task, data=scores.info.source.to_json(), seed=seed, max_runs=runs)
        proposer = SAMPLERS[sampler]()
        context = Context(
            ledger=ledger,
            base=base,
            info=scores.info,
            proposer=proposer,
            fallback=proposer,
            launcher=ScriptedLauncher(scores),
            progress=PlainProgress(sink),
            limits=Limits(max_runs=runs, repeat_base=0),
            train_command=("true",),
        )
        build_graph().invoke(
            initial_state(), config={"recursion_limit": steps_for(context.limits)}, context=context
        )
        return [math.inf if run.val_score is None else run.val_score for run in ledger.state.runs]


def both_samplers(job: tuple[int, int, RealScores]) -> dict[str, list[float]]:
    """One seed: the two searches, one after the other, so that they share what they share."""
    seed, runs, scores = job
    found = {sampler: search(sampler, seed, runs, scores) for sampler in SAMPLERS}
    best = ", ".join(f"{sampler} {min(values):.5f}" for sampler, values in found.items())
    print(f"seed {seed}: {best}", file=sys.stderr, flush=True)
    return found


@dataclass(frozen=True)
class Simulated:
    """A search with simulated durations, and what came of it."""

    regrets: list[float]
    """After every finished run, in 1e-4 of the score where the problem is made up; else in 1e-5 and above
    the lowest score of this seed's searches."""
    doubles: int
    """Configurations begun a second time."""
    seconds: float
    """Simulated, to the end of the last training."""


def one_and_many(job: tuple[int, int, int, RealScores | None]) -> tuple[Simulated, Simulated]:
    """One seed: the search with one training at once, and with `workers`."""
    seed, runs, workers, scores = job
    if scores is None:
        objective = Objective(seed)
        start, score = replace(start_of(seed), max_runs=runs), objective.score
    else:
        start, score = view_before_runs(scores.info, seed, runs), scores
    searches = [simulate(TPEProposer(), start, score, count) for count in (1, workers)]
    if scores is None:
        regrets = [[1e4 * value for value in regrets_of(runs, objective)] for runs, _ in searches]
    else:
        values = [
            [math.inf if run.val_score is None else run.val_score for run in runs] for runs, _ in searches
        ]
        lowest = min(map(min, values))
        regrets = [[1e5 * (best_after(row, count + 1) - lowest) for count in range(runs)] for row in values]
    one, many = (
        Simulated(regret, doubles_in(finished), seconds)
        for regret, (finished, seconds) in zip(regrets, searches, strict=True)
    )
    return one, many


def view_before_runs(info: TaskInfo, seed: int, runs: int) -> SearchView:
    """Return what a proposer sees of a real task before its first run."""
    base = named_config("default").model_copy(update={"seed": seed})
    return SearchView(
        run_id="run_0000",
        task=base.task,
        base=base,
        columns=info.columns,
        baselines=(),
        runs=(),
        best_run=None,
        noise=None,
        seed=seed,
        max_runs=runs,
        max_seq_len=info.max_seq_len,
        measured=info.seen,
    )


def doubles_in(finished: list[RunView]) -> int:
    return len(finished) - len({run.key for run in finished})


def report_parallel(found: list[tuple[Simulated, Simulated]], workers: int, unit: str) -> dict[str, Any]:
    """Prints the table of one training at once against several; returns its results."""
    runs = len(found[0][0].regrets)
    print(f"regret of TPE in {unit}, mean ± standard error over {len(found)} seeds, after finished runs")
    print(f"{'runs':>5}{'1 at once':>18}{f'{workers} at once':>18}{f'{workers} - 1, paired':>18}")
    result: dict[str, Any] = {"seeds": len(found), "parallel": workers}
    for count in (count for count in (10, 20, 30, 40) if count <= runs):
        one, many = ([pair[which].regrets[count - 1] for pair in found] for which in (0, 1))
        rows = (one, many, [b - a for a, b in zip(one, many, strict=True)])
        means = [mean_and_error(values) for values in rows]
        print(f"{count:>5}" + "".join(f"{f'{mean:.2f} ± {error:.2f}':>18}" for mean, error in means))
        result[f"after_{count}"] = [[round(value, 3) for value in pair] for pair in means]
    doubles = [sum(pair[which].doubles for pair in found) for which in (0, 1)]
    speed_up = statistics.mean(one.seconds / many.seconds for one, many in found)
    print(f"configurations begun twice: {doubles[0]} and {doubles[1]}; {speed_up:.2f} times as fast")
    return result | {"doubles": doubles, "speed_up": round(speed_up, 3)}


def best_after(values: list[float], count: int) -> float:
    return min(values[:count])


def report(found: list[dict[str, list[float]]], runs: int, n_defaults: int) -> dict[str, Any]:
    """Prints the table; returns its results."""
    lowest = min(min(values) for pair in found for values in pair.values())
    counts = [count for count in (5, 10, n_defaults, 20, 30, 60, 100) if count <= runs]
    print(f"lowest of the study: {lowest:.5f}; regret in 1e-5, mean ± deviation over {len(found)} seeds")
    print(f"{'runs':>5}{'tpe':>16}{'random_search':>16}{'random - tpe':>20}{'tpe wins':>10}")
    result: dict[str, Any] = {"lowest": lowest, "seeds": len(found)}
    for count in sorted(set(counts)):
        regrets = {s: [1e5 * (best_after(pair[s], count) - lowest) for pair in found] for s in SAMPLERS}
        differences = [r - t for t, r in zip(regrets["tpe"], regrets["random_search"], strict=True)]
        cells = [
            f"{statistics.mean(v):8.1f} ± {_deviation(v):4.1f}" for v in (*regrets.values(), differences)
        ]
        wins = sum(d > 0 for d in differences)
        mark = "  <- base config and every default tried" if count == n_defaults else ""
        print(f"{count:>5}{cells[0]:>16}{cells[1]:>16}{cells[2]:>20}{wins:>7}/{len(found)}{mark}")
        result[f"after_{count}"] = {s: round(statistics.mean(v), 2) for s, v in regrets.items()}
    return result


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--seeds", type=int, required=True, help="seeds 0 .. N-1; 8 take most of an hour")
    parser.add_argument("--runs", type=int, help="runs of each search (default 30; with --parallel 40)")
    parser.add_argument("--seconds", type=float, default=10.0, help="soft limit of a training (default 10)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--data-dir", type=Path, help="folder with ETTh1.csv (default: NAS_DATA_DIR)")
    parser.add_argument("--cache", type=Path, help="folder that keeps the scores (default: a temporary one)")
    parser.add_argument(
        "--parallel", type=int, metavar="N", help="compare TPE with one and N trainings at once"
    )
    parser.add_argument("--made-up", action="store_true", help="scores of made-up problems; needs --parallel")
    options = parser.parse_args()
    if options.made_up and not options.parallel:
        parser.error("--made-up needs --parallel; benchmarks.made_up_objectives compares the samplers")
    if options.made_up:
        jobs = [(seed, options.runs or 40, options.parallel, None) for seed in range(options.seeds)]
        found = in_processes(one_and_many, jobs, options.jobs)
        print(json.dumps(report_parallel(found, options.parallel, "1e-4")))
        return 0
    base = named_config("default")
    try:
        info = kind_of(base.task).describe(base.task, options.data_dir, hold_out=False, download=True)
    except NasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        scores = RealScores(folder, info, options.seconds)
        if options.parallel:
            jobs = [(seed, options.runs or 40, options.parallel, scores) for seed in range(options.seeds)]
            found = in_processes(one_and_many, jobs, options.jobs)
            print(json.dumps(report_parallel(found, options.parallel, "1e-5")))
            return 0
        runs = options.runs or 30
        pairs = in_processes(both_samplers, [(s, runs, scores) for s in range(options.seeds)], options.jobs)
    # The base config is one family's default, the next runs are the others'.
    n_defaults = sum(
        kind.needs_package is None or importlib.util.find_spec(kind.needs_package) is not None
        for kind in FAMILIES.values()
    )
    result = report(pairs, runs, n_defaults)
    print(json.dumps(result))
    return 0


def in_processes(work: Callable[[Any], Any], jobs: Sequence[Any], count: int) -> list[Any]:
    """Do the jobs in spawned processes: a forked one would share torch's threads and locks with this one."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        return pool.map(work, jobs, chunksize=1)


if __name__ == "__main__":
    sys.exit(main())

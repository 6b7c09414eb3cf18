"""The names of runs and of every file in their folders. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from nas_system.files import read_record

SCHEMA_VERSION = 1
"""Of proc.json and exit.json."""

FACTS_FILE = "task_facts.json"
"""In the folder of all runs: data source, columns, split and baselines of the search's task."""
BASE_CONFIG_FILE = "base_config.py"
"""In the folder of all runs: the configuration that run_0000 trains."""

CLUSTER_FILE = "cluster.json"
"""In the folder of all runs: what tells the search's jobs on a cluster from those of others."""
CONCLUSION_FILE = "conclusion.json"
"""In the folder of all runs: what the search said at its end."""
BASELINE_ERRORS_FILE = "baseline_errors.npz"
"""In the folder of all runs: the baselines' errors on every validation window."""
ENSEMBLE_ERRORS_FILE = "ensemble_errors.npy"
"""In the folder of all runs: the ensemble's error on every validation window."""
LARGEST_ERRORS_BYTES = 16 * 2**20
"""Of the errors on single windows of one training: four million."""
MOST_ORIGINS = 10
"""Rolling origins of one run; the last one's model is the run's."""

_NUMBERED = re.compile(r"run_([0-9]{1,9})")


def stop_file(run_id: str) -> Path:
    """Return the file that a person makes in the working directory to end a run after its current epoch."""
    return Path(f"stop_{run_id}")


class RunPaths:
    """The files of one run directory. Every name is written here and nowhere else.

    Equal if the folders are. Not a dataclass: every supervisor starts with this module, and `dataclasses`
    costs it as much time as all of its own modules.
    """

    def __init__(self, folder: Path) -> None:
        """Name the files of `folder`; nothing is looked at."""
        self.folder = folder

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` names the files of the same folder."""
        return isinstance(other, RunPaths) and self.folder == other.folder

    def __hash__(self) -> int:
        """Hash the folder."""
        return hash(self.folder)

    def __repr__(self) -> str:
        """Show the folder."""
        return f"RunPaths({str(self.folder)!r})"

    @cached_property
    def work(self) -> Path:
        """The only folder in which the training may write; gone once it has come to its end."""
        return self.folder / "work"

    @cached_property
    def proposal(self) -> Path:
        """Who proposed the run, from which parent, why, and the changes."""
        return self.folder / "proposal.json"

    @cached_property
    def transcript(self) -> Path:
        """Every exchange with the language model, one JSON object a line."""
        return self.folder / "transcript.jsonl"

    @cached_property
    def config(self) -> Path:
        """What was trained."""
        return self.folder / "config_used.py"

    @cached_property
    def log(self) -> Path:
        """Output of the training process."""
        return self.folder / "train.log"

    @cached_property
    def history(self) -> Path:
        """The curves, epoch by epoch."""
        return self.folder / "history.json"

    @cached_property
    def learning_curve(self) -> Path:
        """The curves as a picture."""
        return self.folder / "learning_curve.png"

    @cached_property
    def predictions(self) -> Path:
        """Forecasts against truth as a picture."""
        return self.folder / "predictions.png"

    @cached_property
    def attention(self) -> Path:
        """Attention of the forecasts over past steps, as a picture; of families with attention."""
        return self.folder / "attention.png"

    @cached_property
    def pictures(self) -> Path:
        """What the pictures above are drawn from; there only until they have been drawn."""
        return self.folder / "pictures.json"

    @cached_property
    def best_model(self) -> Path:
        """Weights of the best validation epoch, and what a forecast elsewhere needs."""
        return self.folder / "best_model.pth"

    def origin(self, number: int) -> Path:
        """Weights of the model trained at an earlier rolling origin, counted from 1."""
        return self.folder / f"origin_{number}.pth"

    @cached_property
    def earlier_origins(self) -> tuple[Path, ...]:
        """Every file that `origin` may name."""
        return tuple(map(self.origin, range(1, MOST_ORIGINS)))

    @cached_property
    def origins(self) -> Path:
        """Which rolling origins have been trained; there only while a training is unfinished."""
        return self.folder / "origins.json"

    @cached_property
    def last(self) -> Path:
        """What an exact resume needs; there only while a training is unfinished, and in its `work` folder."""
        return self.folder / "last.pth"

    @cached_property
    def metrics(self) -> Path:
        """The result; written last by the training."""
        return self.folder / "metrics.json"

    @cached_property
    def val_errors(self) -> Path:
        """The best weights' error on every validation window; its mean is the score."""
        return self.folder / "val_errors.npy"

    @cached_property
    def exit(self) -> Path:
        """How the process ended; written last by the supervisor."""
        return self.folder / "exit.json"

    @cached_property
    def process(self) -> Path:
        """How to find the running process."""
        return self.folder / "proc.json"

    @cached_property
    def error(self) -> Path:
        """What the training raised."""
        return self.folder / "error.json"

    @cached_property
    def supervisor_log(self) -> Path:
        """Output of the supervisor: empty unless it failed."""
        return self.folder / "supervisor.log"

    @cached_property
    def lock(self) -> Path:
        """Held while the training lives."""
        return self.folder / "run.lock"

    def claim(self, attempt: int) -> Path:
        """Who trains the attempt on a cluster; whoever makes the file may."""
        return self.folder / f"claim-{attempt}.json"

    @cached_property
    def place(self) -> Path:
        """Which job of a cluster the attempt is; written before the job is submitted."""
        return self.folder / "place.json"

    @cached_property
    def stop_request(self) -> Path:
        """Which attempt on a cluster is to end; a signal does not reach another machine."""
        return self.folder / "stop.json"

    @cached_property
    def retried(self) -> Path:
        """Why an attempt that failed for a reason outside its configuration was repeated."""
        return self.folder / "retried.json"

    @cached_property
    def pruned(self) -> Path:
        """Why the search stopped an attempt early; written before the attempt is asked to end."""
        return self.folder / "pruned.json"

    @cached_property
    def verdict(self) -> Path:
        """Accepted or not, against what, and why."""
        return self.folder / "verdict.json"

    @cached_property
    def hold_out(self) -> Path:
        """The best run's score on the hold-out rows."""
        return self.folder / "sealed.json"

    @cached_property
    def hold_out_errors(self) -> Path:
        """The best run's error on every hold-out window."""
        return self.folder / "hold_out_errors.npy"


def next_run_id(existing: Iterable[str]) -> str:
    """Return the id after the highest number among `existing`: run_0000, run_0001, ..."""
    numbers = [int(match[1]) for run_id in existing if (match := _NUMBERED.fullmatch(run_id))]
    return f"run_{max(numbers, default=-1) + 1:04d}"


def run_ids(runs_dir: str | Path = "runs") -> list[str]:
    """Return the numbered runs that have a folder in `runs_dir`, in the order of their numbers."""
    folder = Path(runs_dir)
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), entry.name)
        for entry in folder.iterdir()
        if (match := _NUMBERED.fullmatch(entry.name)) and entry.is_dir() and not entry.is_symlink()
    ]
    return [run_id for _, run_id in sorted(found)]


def undrawn_runs(runs_dir: Path) -> Iterator[RunPaths]:
    """Yield the finished runs of a search, repeats too, whose pictures have not been drawn yet.

    A training that was only interrupted goes on, and draws again what it has kept now.
    """
    for run_id in run_ids(runs_dir):
        folder = runs_dir / run_id
        repeats = folder / "repeats"
        seeds = [] if repeats.is_symlink() else sorted(repeats.glob("seed_*"))
        for paths in map(RunPaths, (folder, *(seed for seed in seeds if not seed.is_symlink()))):
            if paths.pictures.exists() and paths.exit.exists() and not _goes_on(paths, RunPaths(folder)):
                yield paths


def _goes_on(paths: RunPaths, run: RunPaths) -> bool:
    """Return whether the training has stopped before its end, and nobody says that it is over."""
    if run.verdict.exists() or paths.pruned.exists():
        return False
    return (read_record(paths.metrics) or {}).get("reason") == "stopped"

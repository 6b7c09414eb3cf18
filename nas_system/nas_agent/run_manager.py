"""Run directories: their names, and the name of every file in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nas_system.errors import ConfigError
from nas_system.files import write_atomic

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a run may be called: it becomes a folder, an argument and a part of messages."""

_NUMBERED = re.compile(r"run_([0-9]{1,9})")


@dataclass(frozen=True)
class RunPaths:
    """The files of one run directory. Every name is spelled here and nowhere else."""

    folder: Path

    @property
    def proposal(self) -> Path:
        """Who proposed the run, from which parent, why, and the changes."""
        return self.folder / "proposal.json"

    @property
    def transcript(self) -> Path:
        """Every exchange with the language model, one JSON object a line."""
        return self.folder / "transcript.jsonl"

    @property
    def config(self) -> Path:
        """What was trained."""
        return self.folder / "config_used.py"

    @property
    def log(self) -> Path:
        """Output of the training process."""
        return self.folder / "train.log"

    @property
    def history(self) -> Path:
        """The curves, epoch by epoch."""
        return self.folder / "history.json"

    @property
    def learning_curve(self) -> Path:
        """The curves as a picture."""
        return self.folder / "learning_curve.png"

    @property
    def predictions(self) -> Path:
        """Forecasts against truth as a picture."""
        return self.folder / "predictions.png"

    @property
    def attention(self) -> Path:
        """Which steps of the past the forecasts looked at, as a picture; of families with attention."""
        return self.folder / "attention.png"

    @property
    def best_model(self) -> Path:
        """Weights of the best validation epoch, and what a forecast elsewhere needs."""
        return self.folder / "best_model.pth"

    @property
    def last(self) -> Path:
        """What an exact resume needs; there only while a training is unfinished."""
        return self.folder / "last.pth"

    @property
    def metrics(self) -> Path:
        """The result; written last by the training."""
        return self.folder / "metrics.json"

    @property
    def exit(self) -> Path:
        """How the process ended; written last by the supervisor."""
        return self.folder / "exit.json"

    @property
    def process(self) -> Path:
        """How to find the running process."""
        return self.folder / "proc.json"

    @property
    def error(self) -> Path:
        """What the training raised."""
        return self.folder / "error.json"

    @property
    def lock(self) -> Path:
        """Held while the training lives."""
        return self.folder / "run.lock"

    @property
    def retried(self) -> Path:
        """Why an attempt that ended through no fault of its configuration was repeated."""
        return self.folder / "retried.json"

    @property
    def verdict(self) -> Path:
        """Accepted or not, against what, and why."""
        return self.folder / "verdict.json"

    @property
    def sealed(self) -> Path:
        """The champion's score on the sealed rows."""
        return self.folder / "sealed.json"


FACTS_FILE = "task_facts.json"
"""In the folder of all runs: data source, columns, split and reference rows of the search's task."""
BASE_CONFIG_FILE = "base_config.py"
"""In the folder of all runs: the configuration that run_0000 trains."""


def get_run_dir(run_id: str, runs_dir: str | Path = "runs", create: bool = True) -> Path:
    """The folder of a run, made when `create`. Raises ConfigError if the name leads anywhere else."""
    if not isinstance(run_id, str) or not TAG.fullmatch(run_id) or ".." in run_id:
        raise ConfigError(
            f"{run_id!a:.80} cannot name a run: use 1 to 64 letters, digits, '.', '_', '-', "
            "starting with a letter or digit, without '..'; for example run_0007"
        )
    folder = Path(runs_dir) / run_id
    if folder.is_symlink() and Path(runs_dir).resolve() not in folder.resolve().parents:
        raise ConfigError(f"{folder} is a link that leaves {runs_dir}; remove it or choose another tag")
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made: {error.strerror}; choose another folder") from None
    return folder


def snapshot_config(config_path: str | Path, run_dir: str | Path) -> Path:
    """Keep the configuration of a run as its `config_used.py`, and return that file.

    A config.py is copied byte for byte, with its comments; YAML and JSON are rendered in its
    format. Raises ConfigError for a configuration that cannot be read back.
    """
    # Here, because the supervisor imports this module and has no use for pydantic.
    from nas_system.nas_agent.config_file import parse_config, read_content, render_config

    source, folder = Path(config_path), Path(run_dir)
    content = read_content(source)
    config = parse_config(content, source)
    if source.suffix.lower() != ".py":
        content = render_config(config).encode()
    folder.mkdir(parents=True, exist_ok=True)
    snapshot = RunPaths(folder).config
    write_atomic(snapshot, content)
    return snapshot


def next_run_id(existing: Iterable[str]) -> str:
    """The id after the highest number among `existing`: run_0000, run_0001, ..."""
    numbers = [int(match[1]) for run_id in existing if (match := _NUMBERED.fullmatch(run_id))]
    return f"run_{max(numbers, default=-1) + 1:04d}"


def run_ids(runs_dir: str | Path = "runs") -> list[str]:
    """The numbered runs that have a folder in `runs_dir`, in the order of their numbers."""
    folder = Path(runs_dir)
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), entry.name)
        for entry in folder.iterdir()
        if (match := _NUMBERED.fullmatch(entry.name)) and entry.is_dir()
    ]
    return [run_id for _, run_id in sorted(found)]

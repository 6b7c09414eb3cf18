"""Real trainings of many configurations: one process of `nas_system.train_many`, fed line by line.

Every result is written at once, so that a command that was killed resumes where it was.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from nas_system.errors import RunError
from nas_system.files import append_durably, read_record, write_json
from nas_system.netformer.specs.archive.archive_file import Row
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig, active_values, canonical_key

RESULTS_FILE = "results.jsonl"
TRAININGS_PER_PROCESS = 300
"""Then a new process starts, so that leaks do not add up."""
STATUS = {0: "OK", 3: "DIVERGED", 5: "TIMEOUT"}
"""By the exit code of the training; everything else is FAILED."""


@dataclass(frozen=True)
class Limits:
    """How long one training may take."""

    soft_s: float
    """Seconds of compute for which the training is planned."""
    hard_s: float
    """Seconds by the clock after which it ends at once, without a score."""


class TrainerAnswer(TypedDict):
    """A line that `nas_system.train_many` prints, as far as it is read here."""

    exit_code: int
    seconds: float


class Results:
    """Rows of the trainings in a work folder, by task and canonical key."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS_FILE
        self.rows: dict[tuple[str, str], Row] = {}
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n"):
                # The last line of a killed command may be truncated; its training is done again.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    record = json.loads(line)
                    self.rows[record["task"], record["key"]] = Row.from_json(record)

    def add(self, key: str, row: Row) -> None:
        # A truncated line before it must not swallow this one.
        line = b"\n" + json.dumps(row.to_json() | {"key": key}, allow_nan=False).encode()
        append_durably(self.path, line)
        self.rows[row.task, key] = row


class Trainer:
    """The process that trains. Use it in a `with` statement."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.runs_dir, self.limits = folder / "runs", limits
        self._process: subprocess.Popen[str] | None = None
        self._trained = 0

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()
        shutil.rmtree(self.runs_dir, ignore_errors=True)

    def train(self, task: str, config: RunConfig) -> Row:
        """Train one configuration. Raises RunError if the trainer cannot start."""
        tag = f"{task}_{canonical_key(config)}"
        paths = RunPaths(self.runs_dir / tag)
        # What a killed command left unfinished.
        shutil.rmtree(paths.folder, ignore_errors=True)
        paths.folder.mkdir(parents=True)
        file = paths.folder / "config.json"
        write_json(file, config.model_dump(mode="json"))
        flags = ["--config", str(file), "--tag", tag, "--runs-dir", str(self.runs_dir), "--device", "cpu"]
        flags += ["--no-pictures", "--time-limit", str(self.limits.soft_s)]
        answer = self._ask({"arguments": flags, "limit_s": self.limits.hard_s})
        metrics = read_record(paths.metrics) or {}
        status = "FAILED" if answer is None else STATUS.get(answer["exit_code"], "FAILED")
        score = metrics.get("val_mse") if status == "OK" else None
        if status == "OK" and not (isinstance(score, float) and math.isfinite(score)):
            status, score = "FAILED", None
        if status == "FAILED":
            _show_failure(tag, paths)
        shutil.rmtree(paths.folder, ignore_errors=True)
        seconds = answer["seconds"] if answer is not None else 0.0
        return Row(task, active_values(config), score, status, seconds)

    def _ask(self, training: Mapping[str, object]) -> TrainerAnswer | None:
        """Return the trainer's answer; None if its process died of this training."""
        if self._trained == TRAININGS_PER_PROCESS:
            self._end()
        first = self._process is None
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(training) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            if first and code > 0:
                raise RunError(f"the trainer could not start (exit code {code}); its message is above")
            return None
        self._trained += 1
        return json.loads(line)

    def _start(self) -> subprocess.Popen[str]:
        self._trained = 0
        return subprocess.Popen(
            [sys.executable, "-m", "nas_system.train_many"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def _end(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=self.limits.hard_s + 30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process = None


def train_missing(
    plan: list[tuple[str, RunConfig]], results: Results, folder: Path, limits: Limits
) -> Iterator[tuple[int, Row]]:
    """Train what `results` does not have yet; yield how many are done, and the row."""
    with Trainer(folder, limits) as trainer:
        for number, (task, config) in enumerate(plan, start=1):
            key = canonical_key(config)
            if (task, key) in results.rows:
                continue
            row = trainer.train(task, config)
            results.add(key, row)
            yield number, row


def _show_failure(tag: str, paths: RunPaths) -> None:
    error = read_record(paths.error) or {}
    print(f"{tag}: {error.get('message', 'no reason was given')}", file=sys.stderr, flush=True)

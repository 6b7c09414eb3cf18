"""A run's trainings at the earlier rolling origins of its task, after the one at the last origin.

The last origin comes first: its model is the run's, its curve is compared with those of other runs, and a
training that is refused or stopped early has cost no more than that one. The validation score of the run is
the mean over all of them. What has ended is in `origins.json`: a resumed run repeats at most one origin.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError

from nas_system.errors import Diverged, StateError
from nas_system.files import read_record, write_json
from nas_system.nas_agent.window_errors import write_errors
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig
from nas_system.tasks.kind import Problem
from nas_system.training.build import build_engine, follow_plan
from nas_system.training.callbacks import BestCheckpoint
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.engine import Callback, Engine, EpochRecord
from nas_system.training.preflight.plan import plan_training
from nas_system.training.scheduler import optimizer_steps


@dataclass(frozen=True)
class OriginResult:
    """How the training at one origin ended."""

    reason: str
    epochs: int
    steps: int
    best_epoch: int
    val: Mapping[str, float]
    """The best epoch's metrics."""
    checkpoint_sha256: str

    @classmethod
    def of(cls, engine: Engine, best: BestCheckpoint, reason: str) -> Self:
        """Read it from an engine that has trained. Raises Diverged if no epoch had a finite score."""
        epoch = engine.progress.best_epoch
        if epoch is None or best.sha256 is None:
            raise Diverged("no epoch had a finite validation score; lower training.lr")
        record = engine.history[epoch]
        return cls(reason, len(engine.history), engine.steps, epoch, record.val, best.sha256)


@dataclass
class Origins:
    """The state of a run's origins."""

    paths: RunPaths
    key: str
    """Names everything that changes the results."""
    reason: str | None = None
    """Why the training at the last origin ended; None while it goes on."""
    earlier: list[OriginResult] = field(default_factory=list)
    """Of the earlier origins that have ended, the earliest first."""

    @classmethod
    def resumed(cls, paths: RunPaths, key: str) -> Self:
        """Read what an interrupted run has ended; nothing where the file is not one of the same training."""
        record = read_record(paths.origins) or {}
        if record.get("key") != key:
            return cls(paths, key)
        try:
            reason = TypeAdapter(str).validate_python(record.get("reason"))
            earlier = TypeAdapter(list[OriginResult]).validate_python(record.get("earlier"))
        except ValidationError:
            return cls(paths, key)
        whole = []
        for number, result in enumerate(earlier, 1):
            try:
                load_checkpoint(paths.origin(number), sha256=result.checkpoint_sha256)
            except StateError as error:
                print(f"note: {error}; that origin is trained again", flush=True)
                break
            whole.append(result)
        return cls(paths, key, reason, whole)

    def save(self) -> None:
        """Write the file. Raises OSError."""
        earlier = [asdict(result) for result in self.earlier]
        write_json(self.paths.origins, {"key": self.key, "reason": self.reason, "earlier": earlier})

    def clear_away(self, stop_file: Path) -> None:
        """Remove what only an unfinished run needs, and a stop file that came too late."""
        for path in (self.paths.last, self.paths.origins):
            path.unlink(missing_ok=True)
        with contextlib.suppress(PermissionError):
            stop_file.unlink(missing_ok=True)

    def train_earlier(
        self,
        config: RunConfig,
        problems: Sequence[Problem],
        last: Engine,
        *,
        evaluation_batch: int,
        callbacks: Callable[[], Sequence[Callback]],
        after_step: Callable[[], None],
    ) -> None:
        """Train at the earlier origins, `problems`, that have not ended; `last` has trained at the last one.

        `callbacks` builds those of each training. Raises Diverged, and what `after_step` raises.
        """
        if not problems:
            return
        assert last.plan is not None
        # What ended the training before its plan does so at every origin, or their errors do not compare.
        cut_short = self.reason in ("stop_file", "time_budget")
        most_steps = max(last.steps if cut_short else last.plan.steps, 1)
        count = len(problems) + 1
        self.save()
        for number in range(len(self.earlier) + 1, count):
            problem = problems[number - 1]
            print(f"origin {number} of {count}: {problem.count('train'):,} training windows", flush=True)
            best = BestCheckpoint(self.paths.origin(number), problem.export_metadata())
            engine = _engine(config, problem, most_steps)
            assert engine.generator is not None
            passes, val = problem.training_batches(engine.generator), problem.batches("val", evaluation_batch)
            try:
                reason = engine.fit_planned(passes, val, [best, *callbacks()], after_step=after_step)
                self.earlier.append(OriginResult.of(engine, best, reason))
            except Diverged as error:
                raise Diverged(f"origin {number} of {count}: {error}", error.numbers) from error
            self.save()

    def write_errors(
        self, engine: Engine, best: EpochRecord, problems: Sequence[Problem], evaluation_batch: int
    ) -> None:
        """Write the error on every validation window of `problems`, the last of which is the run's own.

        `engine` holds the best weights at the last origin, of the epoch `best`, and does so afterwards.
        """
        errors, later = engine.best_errors, engine.history[best.epoch + 1 :]
        if errors is None or any(record.is_best for record in later):
            # Resumed from a checkpoint of an older version, or from one of another epoch than the weights.
            errors = engine.evaluate_samples(problems[-1].batches("val", evaluation_batch)).errors
        found, weights = [], engine.model.state_dict()
        if len(problems) > 1:
            weights = copy.deepcopy(weights)
        for number, problem in enumerate(problems[:-1], 1):
            engine.model.load_state_dict(load_checkpoint(self.paths.origin(number), engine.device)["model"])
            found.append(engine.evaluate_samples(problem.batches("val", evaluation_batch)).errors)
        engine.model.load_state_dict(weights)
        known = [rows.float().cpu().numpy() for rows in (*found, errors) if rows is not None]
        if len(known) == len(problems):
            write_errors(self.paths.val_errors, np.concatenate(known))

    def means(self, last: Mapping[str, float]) -> dict[str, float]:
        """Return the validation metrics of the run, of which `last` are those at the last origin."""
        return {
            name: statistics.fmean([*(result.val[name] for result in self.earlier), value])
            for name, value in last.items()
        }

    def to_json(self, metric: str, last: Mapping[str, float]) -> dict[str, Any]:
        """Return what metrics.json says of them; nothing where there is a single origin."""
        if not self.earlier or metric not in last:
            return {}
        return {
            f"val_{metric}_by_origin": [*(result.val[metric] for result in self.earlier), last[metric]],
            "earlier_origins": [asdict(result) for result in self.earlier],
        }


def _engine(config: RunConfig, problem: Problem, most_steps: int) -> Engine:
    """Build the engine of an earlier origin, from the same seed, for no more than `most_steps` steps."""
    engine = build_engine(config, problem, problem.device)
    if config.model.gradient_descent:
        assert engine.generator is not None
        passes = problem.training_batches(engine.generator)
        steps_per_pass = optimizer_steps(len(passes), engine.accumulation_steps)
        follow_plan(engine, config.training, plan_training(config.training, steps_per_pass, most_steps))
    return engine

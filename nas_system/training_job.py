"""One training from a configuration to its run directory: introduces data, model and engine to each other."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nas_system.data import DataSource
from nas_system.errors import ConfigError, Diverged, StateError, StoppedOnRequest
from nas_system.files import read_object
from nas_system.nas_agent.logging_utils import save_history, save_metrics
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.processes.job import hard_limit_s
from nas_system.processes.run_files import stop_file
from nas_system.space import RunConfig, canonical_key
from nas_system.tasks.problem import Problem, open_problem
from nas_system.training.acceleration.eager import skip_compiler_import, step_eagerly
from nas_system.training.callbacks import (
    BestCheckpoint,
    HistoryFile,
    LastCheckpoint,
    StopFile,
    TimeBudget,
    history_as_json,
)
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.engine import Engine
from nas_system.training.optimizer import build_optimizer
from nas_system.training.preflight.memory import available_mb
from nas_system.training.preflight.preflight import Preflight, TimeLimit, Workload
from nas_system.training.progress import Progress
from nas_system.training.reproducibility import (
    fastest_threads,
    peak_memory_mb,
    resolve_device,
    set_seed,
    set_threads,
)
from nas_system.training.scheduler import advances_per_step, build_scheduler, optimizer_steps


@dataclass(frozen=True)
class JobOptions:
    """What the command line says beside the configuration: where and within which limits."""

    tag: str
    device: str
    threads: int | None
    """None measures a few steps and takes the faster setting."""
    time_limit_s: float | None
    resume: bool
    facts: Path | None
    data_dir: Path | None
    stop: Callable[[], None]
    """Called after every optimizer step; raises to end the training."""
    memory_limit_mb: float | None = None
    """MiB of resident memory above which somebody else ends this process."""
    preflight_only: bool = False
    """Print the estimate as JSON and train nothing."""
    pictures: bool = True
    """Draw the learning curve, the forecasts and the attention; they cost more than a tiny training."""
    said_every_s: float = 60.0
    """A long epoch says how far it is: for people, and for a supervisor that ends what is silent."""


def run_training(config: RunConfig, paths: RunPaths, options: JobOptions) -> None:
    """Train, evaluate the test part once with the best epoch's weights, write every file.

    However the training ends (completed, early_stopping, time_budget, stop_file, diverged, stopped),
    it leaves through `TrainingRun.finalize`. Raises what ended it: Diverged, StoppedOnRequest.
    """
    run = TrainingRun(config, paths, options)
    if options.preflight_only:
        print(json.dumps(asdict(run.estimate)))
        return
    try:
        reason = run.fit()
    except Diverged:
        run.finalize("diverged")
        raise
    except StoppedOnRequest:
        run.finalize("stopped")
        raise
    run.finalize(reason)


class TrainingRun:
    """One training with its data, its engine and its run directory."""

    def __init__(self, config: RunConfig, paths: RunPaths, options: JobOptions) -> None:
        self.started = time.monotonic()
        self.config, self.paths, self.options = config, paths, options
        set_threads(options.threads or 1)
        device = resolve_device(options.device)
        self.facts = _read_facts(options.facts)
        self.problem = open_problem(config, self.facts, options.data_dir, device)
        self.source = self.problem.source
        self.engine = build_engine(config, self.problem, device)
        self.error = self.engine.objective.names[0]
        """What this training is judged by."""
        self.best = BestCheckpoint(paths.best_model, self.problem.export_metadata())
        self.first_step_at: float | None = None
        self.steps_of_epoch = 0
        self.said_at = self.started
        if options.resume:
            _resume(self.engine, self.best, paths.last, _resume_key(config, self.source))
        self._preflight()

    def _preflight(self) -> None:
        """A look at the first batch; raises PreflightFailed before an epoch is paid for."""
        soft, problem = self.options.time_limit_s, self.problem
        limit = None
        # An epoch that has ended once needs no proof that it can.
        if soft is not None and not self.engine.history:
            limit = TimeLimit(hard_limit_s(soft), since=self.started)
        work = Workload(
            batch=problem.first,
            batch_size=self.config.data.batch_size,
            n_train=problem.count("train"),
            n_val=problem.count("val"),
            n_test=problem.count("test"),
            evaluation_batch=problem.evaluation_batch,
        )
        free_mb = available_mb(self.engine.device, self.options.memory_limit_mb)
        preflight = Preflight(self.engine, work, limit=limit, free_mb=free_mb)
        preflight.check_batch()
        self.threads = self.options.threads or fastest_threads(preflight.step)
        set_threads(self.threads)
        preflight.check_time()
        self.evaluation_batch, self.estimate = preflight.evaluation_batch, preflight.estimate()
        cost = self.estimate
        pace = "" if cost.epoch_s is None else f" and {cost.epoch_s:,.1f} s an epoch"
        print(f"{cost.n_params:,} parameters, about {cost.memory_mb:,.0f} MiB{pace}", flush=True)

    def fit(self) -> str:
        """Train to the end and return the reason."""
        callbacks = [
            self.best,
            HistoryFile(self._write_history),
            LastCheckpoint(self.paths.last, _resume_key(self.config, self.source)),
            StopFile(stop_file(self.options.tag)),
        ]
        if self.options.time_limit_s is not None:
            callbacks.append(TimeBudget(self.options.time_limit_s, self.started))
        assert self.engine.generator is not None
        train = self.problem.training_batches(self.engine.generator)
        val = self.problem.batches("val", self.evaluation_batch)
        epochs = self.config.training.max_epochs
        return self.engine.fit(train, val, epochs, callbacks, after_step=self._after_step)

    def finalize(self, reason: str) -> None:
        """The one exit: the same files whatever the reason, metrics.json last.

        A diverged training has no score. A stopped one has not come to its end: it keeps the best
        validation score so far, and its test part stays untouched.
        """
        engine = self.engine
        scores: dict[str, float | None] = {}
        save_history(self.paths.folder, history_as_json(engine))
        if self.best.sha256 is not None and reason != "diverged":
            checkpoint = load_checkpoint(self.paths.best_model, engine.device, sha256=self.best.sha256)
            engine.model.load_state_dict(checkpoint["model"])
            record = engine.history[checkpoint["epoch"]]
            scores = {"best_epoch": record.epoch, f"train_{self.error}": record.train[self.error]}
            scores |= {f"val_{name}": value for name, value in record.val.items()}
            if reason != "stopped":
                test = engine.evaluate(self.problem.batches("test", self.evaluation_batch))
                scores |= {f"test_{name}": value for name, value in test.items()}
            if self.options.pictures:
                self.problem.draw(engine, self.paths, self.options.tag)
        if self.options.pictures:
            self._draw_curve()
        save_metrics(self.paths.folder, self._identity() | scores | self._costs() | {"reason": reason})
        shown = ", ".join(
            f"{name} {value:.5f}"
            for name in (f"val_{self.error}", f"test_{self.error}")
            if (value := scores.get(name)) is not None
        )
        print(f"{reason}: {shown or 'no score'}; everything is in {self.paths.folder}", flush=True)

    def _after_step(self) -> None:
        if self.first_step_at is None:
            self.first_step_at = time.time()
        self.steps_of_epoch += 1
        now = time.monotonic()
        if now - self.said_at >= self.options.said_every_s:
            self.said_at = now
            print(f"epoch {len(self.engine.history) + 1}, step {self.steps_of_epoch}", flush=True)
        self.options.stop()

    def _write_history(self, history: dict[str, Any]) -> None:
        save_history(self.paths.folder, history)
        self.steps_of_epoch, self.said_at = 0, time.monotonic()
        last, error = history["epochs"][-1], self.error
        print(
            f"epoch {last['epoch'] + 1}/{self.config.training.max_epochs}  "
            f"train_{error} {last[f'train_{error}']:.5f}  val_{error} {last[f'val_{error}']:.5f}  "
            f"lr {last['lr']:.2e}  {last['seconds']:.1f} s",
            flush=True,
        )

    def _identity(self) -> dict[str, Any]:
        """What was trained, on what, where; the scores follow."""
        config, engine = self.config, self.engine
        errors = (f"{part}_{self.error}" for part in ("val", "test", "train"))
        scores = dict.fromkeys(("best_epoch", *errors, "train_time_sec"))
        is_informer = config.model.family == "informer"
        return {
            **scores,
            "n_params": sum(parameter.numel() for parameter in engine.model.parameters()),
            "metric": config.task.metric,
            "direction": "minimize",
            "tag": self.options.tag,
            "family": config.model.family,
            "informer2020": os.environ.get("INFORMER2020_PATH") or None if is_informer else None,
            "seed": config.seed,
            "data": self.source.to_json(),
            "device": str(engine.device),
            "threads": self.threads,
            "precision": config.training.precision,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def _costs(self) -> dict[str, Any]:
        engine = self.engine
        return {
            "train_time_sec": round(time.monotonic() - self.started, 3),
            "epochs": len(engine.history),
            "steps": engine.steps,
            "first_step_at": self.first_step_at,
            "timing": engine.timing,
            "preflight": asdict(self.estimate),
            "peak_memory_mb": round(peak_memory_mb(engine.device), 1),
            "checkpoint_sha256": self.best.sha256,
        }

    def _draw_curve(self) -> None:
        # matplotlib is imported only now: it costs as much as an epoch of a small model.
        from nas_system.visualization import learning_curve

        baselines = (self.facts or {}).get("references", ())
        learning_curve(
            history_as_json(self.engine),
            self.paths.learning_curve,
            title=self.options.tag,
            baselines=baselines,
        )


def build_engine(config: RunConfig, problem: Problem, device: torch.device) -> Engine:
    """Model, optimizer, schedule and objective of a configuration, from its seed."""
    set_seed(config.seed)
    training = config.training
    model = problem.build_model().to(device)
    if training.compile:
        optimizer = build_optimizer(model, training, device)
    else:
        skip_compiler_import()
        optimizer = step_eagerly(build_optimizer(model, training, device))
    generator = torch.Generator().manual_seed(config.seed)
    steps_per_epoch = optimizer_steps(len(problem.training_batches(generator)), training.accumulation_steps)
    scheduler = build_scheduler(optimizer, training, steps_per_epoch=steps_per_epoch)
    return Engine(
        model=model,
        optimizer=optimizer,
        objective=problem.objective,
        device=device,
        progress=Progress(patience=training.patience),
        scheduler=scheduler,
        scheduler_per_step=advances_per_step(scheduler),
        grad_clip=training.grad_clip,
        generator=generator,
        precision=training.precision,
        accumulation_steps=training.accumulation_steps,
        compile=training.compile,
    )


def _read_facts(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        return read_object(path)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not the facts of a search ({error})") from None


def _resume_key(config: RunConfig, source: DataSource) -> str:
    """What has to be equal for a checkpoint to be continued: everything that moves a number."""
    return f"{canonical_key(config)} {config.seed} {config.task.model_dump_json()} {source.sha256}"


def _resume(engine: Engine, best: BestCheckpoint, last: Path, key: str) -> None:
    """Continue an interrupted training of the same configuration; anything else starts at the beginning."""
    if not last.exists():
        return
    try:
        state = load_checkpoint(last)
        if state.get("config_key") != key:
            raise StateError(f"{last} belongs to another configuration, seed or data")
        if best.path.exists():
            load_checkpoint(best.path)  # its epoch may stay the best one, and the score is taken with it
    except StateError as error:
        print(f"note: {error}; training starts at the beginning", flush=True)
        return
    engine.load_state_dict(state)
    best.resume()
    print(f"resumed after epoch {len(engine.history) - 1}", flush=True)

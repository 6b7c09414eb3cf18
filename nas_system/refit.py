"""A refit: the configuration of a finished run, trained again on other rows, to forecast what follows them.

No rows are left to stop by, so it is as long as the run's best epoch was: the same schedule, its steps scaled
to the new number of windows, ended after the same epoch. That is the usual protocol of forecasting (Hyndman
and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, section 5.8): what was chosen is
fitted to all that is known before it forecasts. Graphs are learned from in the same way, by their parts.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace

from nas_system.files import write_atomic
from nas_system.nas_agent.logging_utils import save_metrics
from nas_system.processes.run_files import RunPaths
from nas_system.space import RunConfig
from nas_system.tasks import kind_of
from nas_system.tasks.kind import Problem, ScoredPart
from nas_system.training.build import build_engine, follow_plan
from nas_system.training.callbacks import ProgressLog, named_scores
from nas_system.training.checkpoint import checkpoint_bytes
from nas_system.training.clock import compute_seconds
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.preflight.plan import TrainingPlan, plan_training
from nas_system.training.reproducibility import resolve_device, set_threads
from nas_system.training.scheduler import optimizer_steps
from nas_system.training_job import JobOptions, read_info, shared_out


@dataclass(frozen=True)
class Refit:
    """What it learns from, and for how long."""

    through: ScoredPart | int
    """The last part that it learns from: `val`, `test`, or `hold_out` for everything. Or, of a series, how
    many of its first rows; later ones are not even there."""
    epochs: int
    """Epochs of the run's plan, to its best one; of a closed form, which is the first epoch, 1."""


def run_refit(config: RunConfig, paths: RunPaths, options: JobOptions, refit: Refit) -> None:
    """Train as far as `refit` says and write the last epoch's weights, with metrics.json last.

    `options.max_steps` is what the run was planned under. Raises ConfigError, and what ends a
    training: Diverged, StoppedOnRequest.
    """
    started, options = time.monotonic(), shared_out(options, config)
    threads = options.threads or 1
    set_threads(threads)
    device = resolve_device(options.device)
    searched = kind_of(config.task).open(config, read_info(options.facts), options.data_dir, device)
    problem = searched.trained_through(refit.through)
    engine = build_engine(config, problem, device)
    engine.progress = EarlyStoppingState(direction=engine.progress.direction)
    if config.model.gradient_descent:
        plan = scaled_plan(config, searched, problem, engine.accumulation_steps, options.max_steps)
        follow_plan(engine, config.training, plan)
    rows = problem.trained_until
    print(f"refit on {rows:,} {config.task.labels.samples}, {refit.epochs} epochs", flush=True)
    assert engine.generator is not None and engine.plan is not None
    passes = problem.training_batches(engine.generator)
    epoch = engine.plan.epoch_of(passes, engine.accumulation_steps)
    log = ProgressLog(options.log_interval_s, started)
    # As that of a run: opening the data is not part of it.
    began = compute_seconds(device, threads)
    epochs = min(refit.epochs, engine.planned_epochs)
    engine.fit(epoch, None, epochs, [log], after_step=options.stop)
    last = engine.history[-1]
    content = {"model": engine.model.state_dict(), "epoch": last.epoch, "val": {}, "trained_until": rows}
    weights = checkpoint_bytes(content | problem.export_metadata())
    write_atomic(paths.best_model, weights)
    record = {
        "reason": "completed",
        "through": refit.through,
        "rows": rows,
        "windows": problem.count("train"),
        "epochs": len(engine.history),
        "steps": engine.steps,
        **named_scores(engine.objective.names[0], train=last.train.get(engine.objective.names[0])),
        "compute_sec": round(compute_seconds(device, threads) - began, 3),
        "train_time_sec": round(time.monotonic() - started, 3),
        "seed": config.seed,
        "data": problem.source.to_json(),
        "checkpoint_sha256": hashlib.sha256(weights).hexdigest(),
    }
    save_metrics(paths.folder, record)
    print(
        f"completed: {engine.steps:,} steps; everything is in {options.results or paths.folder}", flush=True
    )


def scaled_plan(
    config: RunConfig,
    searched: Problem,
    problem: Problem,
    accumulation_steps: int,
    most_steps: int | None,
) -> TrainingPlan:
    """Return the plan that the run had, an epoch's steps scaled to the windows that there are now."""
    batches = -(-searched.count("train") // config.data.batch_size)
    plan = plan_training(config.training, optimizer_steps(batches, accumulation_steps), most_steps)
    growth = problem.count("train") / searched.count("train")
    return replace(plan, steps_per_epoch=max(1, round(growth * plan.steps_per_epoch)))

"""One training from a configuration to its run directory: introduces data, model and engine to each other."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from nas_system.draw_pictures import keep_for_later
from nas_system.errors import ConfigError, Diverged, StateError, StoppedOnRequest
from nas_system.files import read_object
from nas_system.nas_agent.logging_utils import save_history, save_metrics
from nas_system.origins import Origins
from nas_system.processes.run_files import RunPaths, stop_file
from nas_system.space import RunConfig, canonical_key
from nas_system.space.task_info import DataSource, TaskInfo
from nas_system.tasks import kind_of
from nas_system.tasks.accuracy_meter import evaluate_test
from nas_system.tasks.kind import Problem
from nas_system.training.build import build_engine, follow_plan
from nas_system.training.callbacks import (
    BestCheckpoint,
    DelayedWrites,
    HistoryFile,
    LastCheckpoint,
    ProgressLog,
    StopFile,
    TimeBudget,
    history_as_json,
    named_scores,
)
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.clock import compute_seconds
from nas_system.training.engine import Callback, Engine
from nas_system.training.objectives import direction_of
from nas_system.training.preflight.memory import available_mb
from nas_system.training.preflight.plan import Pace, TrainingPlan, plan_within
from nas_system.training.preflight.preflight import Estimate, Preflight, Workload
from nas_system.training.preflight.probe import COUNTED_UP_TO
from nas_system.training.reproducibility import (
    fastest_threads,
    peak_memory_mb,
    resolve_device,
    set_threads,
)
from nas_system.training.scheduler import optimizer_steps
from nas_system.visualization import learning_curve
from nas_system.visualization.drawings import Drawing

SAFETY_FACTOR, SAFETY_EXTRA_S = 3.0, 60.0
"""A training that costs so many times what it may, and so many seconds more, was measured wrong: it ends
after its epoch. Twice as much is no reason: two threads of one core slow each other down."""


@dataclass(frozen=True)
class JobOptions:
    """What the command line adds to the configuration: where to train, and within which limits."""

    tag: str
    device: str
    threads: int | None
    """None measures a few steps and takes the faster setting."""
    time_limit_s: float | None
    """Seconds of compute (`compute_seconds`) for which the training is planned; None for no limit."""
    resume: bool
    facts: Path | None
    data_dir: Path | None
    stop: Callable[[], None]
    """Called after every optimizer step; raises to end the training."""
    memory_limit_mb: float | None = None
    """MiB of resident memory above which a supervisor ends this process."""
    max_steps: int | None = None
    """Most optimizer steps."""
    gpu_share: float = 1.0
    """Share of the CUDA device's memory that this process may take."""
    results: Path | None = None
    """Where people find the files once the training has ended; None for where they are written."""
    preflight_only: Literal["cost", "memory"] | None = None
    """Print the estimate as JSON and train nothing; `memory` leaves out what takes time to find out."""
    pictures: Literal["now", "later", "none"] = "now"
    """When to draw the learning curve, the forecasts and the attention, which costs more than a tiny
    training: `later` leaves it to `nas_system.draw_pictures`."""
    log_interval_s: float = 60.0
    """A longer epoch prints its progress: for people, and for a supervisor that ends what is silent."""


def run_training(config: RunConfig, paths: RunPaths, options: JobOptions) -> None:
    """Train, evaluate the test part once with the best epoch's weights, write every file.

    However the training ends (completed, early_stopping, time_budget, stop_file, diverged, stopped),
    it leaves through `TrainingRun.finalize`. Raises what ended it: Diverged, StoppedOnRequest.
    """
    run = prepare(config, paths, options)
    if options.preflight_only:
        print(json.dumps(asdict(run.resources.estimate) | run.planned()))
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


def prepare(config: RunConfig, paths: RunPaths, options: JobOptions) -> TrainingRun:
    """Open the data, build the engine, resume if asked to, and look at the first batch.

    Raises ConfigError, and PreflightFailed before an epoch is paid for.
    """
    started = time.monotonic()
    options = shared_out(options, config)
    set_threads(options.threads or 1)
    device = resolve_device(options.device)
    if device.type == "cuda" and options.gpu_share < 1:
        # Who takes too much fails, and not its neighbour on the device.
        torch.cuda.set_per_process_memory_fraction(options.gpu_share, device)
    info = read_info(options.facts)
    problem = kind_of(config.task).open(config, info, options.data_dir, device)
    earlier = problem.earlier_origins()
    engine = build_engine(config, problem, device)
    writes = DelayedWrites()
    best = BestCheckpoint(paths.best_model, problem.export_metadata(), writes)
    resume_key = _resume_key(config, problem.source)
    resumed = options.resume and _resume(engine, config, best, paths.last, resume_key)
    origins = Origins.resumed(paths, resume_key) if resumed else Origins(paths, resume_key)
    resources = _look_ahead(config, problem, engine, options)
    return TrainingRun(
        config=config,
        paths=paths,
        options=options,
        problem=problem,
        earlier=earlier,
        engine=engine,
        best=best,
        writes=writes,
        origins=origins,
        baselines=() if info is None else tuple(row.to_json() for row in info.baselines),
        resources=resources,
        log=ProgressLog(options.log_interval_s, started),
        started=started,
        compute_began=compute_seconds(device, resources.threads),
    )


@dataclass(frozen=True)
class Resources:
    """What the preflight chose and measured."""

    threads: int
    evaluation_batch: int
    """Samples at a time for which there is memory without gradients."""
    estimate: Estimate


@dataclass(frozen=True)
class TrainingRun:
    """One training, ready to begin: its data, its engine and its run directory."""

    config: RunConfig
    paths: RunPaths
    options: JobOptions
    problem: Problem
    """At the last origin, as everything of the run."""
    earlier: Sequence[Problem]
    """At the earlier rolling origins, the earliest first."""
    engine: Engine
    best: BestCheckpoint
    writes: DelayedWrites
    """What writes the files of the epochs."""
    origins: Origins
    baselines: Sequence[Mapping[str, Any]]
    """Rows of the search's baselines, for the picture of the learning curve."""
    resources: Resources
    log: ProgressLog
    started: float
    """`time.monotonic()`"""
    compute_began: float
    """`compute_seconds` before the first step."""

    @property
    def metric_name(self) -> str:
        """The deciding metric, without the part: `mse`."""
        return self.engine.objective.names[0]

    def fit(self) -> str:
        """Train to the end, then at the earlier origins; return why the first of these trainings ended."""
        if self.origins.reason is None:
            self.origins.reason = self._fit_last_origin()
        self.origins.train_earlier(
            self.config,
            self.earlier,
            self.engine,
            evaluation_batch=self.resources.evaluation_batch,
            callbacks=lambda: [self.log, *self._time_budget(self._compute_seconds())],
            after_step=self.options.stop,
        )
        return self.origins.reason

    def _fit_last_origin(self) -> str:
        callbacks: list[Callback] = [
            self.best,
            HistoryFile(
                self.paths.history,
                lambda history: save_history(self.paths.folder, {**history, **self._several()}),
                self.writes,
            ),
            self.log,
            LastCheckpoint(self.paths.last, self.origins.key, self.writes, keep=bool(self.earlier)),
            self.writes,
            StopFile(stop_file(self.options.tag)),
            *self._time_budget(self.compute_began),
        ]
        assert self.engine.generator is not None
        train = self.problem.training_batches(self.engine.generator)
        val = self.problem.batches("val", self.resources.evaluation_batch)
        return self.engine.fit_planned(train, val, callbacks, after_step=self.options.stop)

    def _time_budget(self, began: float) -> list[Callback]:
        if (limit_s := self.options.time_limit_s) is None:
            return []
        planned = self.resources.estimate.step_ms is not None
        most_s = SAFETY_FACTOR * limit_s + SAFETY_EXTRA_S if planned else limit_s
        return [TimeBudget(most_s, began, self._compute_seconds)]

    def _several(self) -> dict[str, int]:
        """Tell readers of the curve that the run's score is the mean over several origins."""
        return {"origins": len(self.earlier) + 1} if self.earlier else {}

    def _compute_seconds(self) -> float:
        return compute_seconds(self.engine.device, self.resources.threads)

    def finalize(self, reason: str) -> None:
        """Write the same files for every reason, metrics.json last.

        A diverged training has no score. A stopped one has not come to its end: it keeps the best
        validation score so far, and its test part stays untouched.
        """
        engine, folder = self.engine, self.paths.folder
        compute_s = self._compute_seconds() - self.compute_began
        best_epoch, train, val, test = None, {}, {}, {}
        by_origin, accuracy = {}, {}
        drawings: list[Drawing] = []
        save_history(folder, {**history_as_json(engine), **self._several()})
        if self.best.sha256 is not None and reason != "diverged":
            checkpoint = load_checkpoint(self.paths.best_model, engine.device, sha256=self.best.sha256)
            engine.model.load_state_dict(checkpoint["model"])
            record = engine.history[checkpoint["epoch"]]
            best_epoch, train, val = record.epoch, record.train, record.val
            if len(self.origins.earlier) == len(self.earlier):
                by_origin = self.origins.to_json(self.metric_name, val)
                val = self.origins.means(val)
                batch = self.resources.evaluation_batch
                self.origins.write_errors(engine, record, (*self.earlier, self.problem), batch)
            if reason != "stopped":
                test, accuracy = evaluate_test(engine, self.problem, self.resources.evaluation_batch)
            if self.options.pictures != "none":
                drawings = self.problem.drawings(engine)
        if self.options.pictures != "none":
            self._picture(drawings)
        name = self.metric_name
        scores = {"best_epoch": best_epoch}
        scores |= named_scores(name, val=val.get(name), test=test.get(name), train=train.get(name))
        scores |= {f"val_{metric}": value for metric, value in val.items()}
        scores |= {f"test_{metric}": value for metric, value in test.items()}
        costs = self._costs(compute_s)
        scores |= by_origin | ({"accuracy": accuracy} if accuracy else {})
        save_metrics(folder, scores | self._identity() | costs | {"reason": reason})
        if self.earlier and reason != "stopped":
            self.origins.clear_away(stop_file(self.options.tag))
        shown = ", ".join(
            f"{part}_{name} {metrics[name]:.5f}"
            for part, metrics in (("val", val), ("test", test))
            if name in metrics
        )
        place = self.options.results or folder
        print(f"{reason}: {shown or 'no score'}; everything is in {place}", flush=True)

    def _identity(self) -> dict[str, object]:
        """What was trained, on what, where."""
        config, engine = self.config, self.engine
        is_informer = config.model.family == "informer"
        return {
            "n_params": sum(parameter.numel() for parameter in engine.model.parameters()),
            "metric": config.task.metric,
            "direction": direction_of(engine.objective),
            "tag": self.options.tag,
            "family": config.model.family,
            "informer2020": os.environ.get("INFORMER2020_PATH") or None if is_informer else None,
            "seed": config.seed,
            "data": self.problem.source.to_json(),
            "device": str(engine.device),
            "threads": self.resources.threads,
            "precision": config.training.precision,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def _costs(self, compute_s: float) -> dict[str, object]:
        """What it took, in this process: `compute_s` without preparation, test part and pictures."""
        engine = self.engine
        return {
            "train_time_sec": round(time.monotonic() - self.started, 3),
            "compute_sec": round(compute_s, 3),
            "epochs": len(engine.history),
            "steps": engine.steps,
            **self.planned(),
            "first_step_at": self.log.first_step_at,
            "timing": engine.timing,
            "preflight": asdict(self.resources.estimate),
            "peak_memory_mb": round(peak_memory_mb(engine.device), 1),
            "checkpoint_sha256": self.best.sha256,
        }

    def planned(self) -> dict[str, object]:
        """How long the training is, and why."""
        plan, count = self.engine.plan, len(self.earlier) + 1
        assert plan is not None
        # What a repeat is given to make the same plan: the most steps of all its origins together.
        most_steps = None if plan.most_steps is None else count * plan.most_steps
        return {
            "planned_epochs": self.engine.planned_epochs,
            "planned_steps": plan.steps,
            "wanted_steps": plan.wanted_steps,
            "plan": {"most_steps": most_steps, "why": plan.why},
        }

    def _picture(self, drawings: Sequence[Drawing]) -> None:
        title = self.options.tag
        if self.options.pictures == "later":
            keep_for_later(self.paths, drawings, title=title, baselines=self.baselines)
            return
        for drawing in drawings:
            drawing.draw(self.paths.folder, title)
        history = history_as_json(self.engine)
        learning_curve(history, self.paths.learning_curve, title=title, baselines=self.baselines)


def _look_ahead(config: RunConfig, problem: Problem, engine: Engine, options: JobOptions) -> Resources:
    """Run the preflight; choose threads, the batch of evaluations and the training's length; print them."""
    # A training that has begun keeps its plan.
    limit_s = None if engine.history else options.time_limit_s
    work = Workload(
        batch=problem.sample_batch,
        batch_size=config.data.batch_size,
        n_train=problem.count("train"),
        n_val=problem.count("val"),
        n_test=problem.count("test"),
        evaluation_batch=problem.evaluation_batch,
    )
    memory_only = options.preflight_only == "memory"
    # Who only asks trains elsewhere.
    free_mb = math.inf if memory_only else available_mb(engine.device, options.memory_limit_mb)
    preflight = Preflight(engine, work, limit_s=limit_s, free_mb=free_mb)
    preflight.check_batch(COUNTED_UP_TO if memory_only else None)
    threads = options.threads or (1 if memory_only else fastest_threads(preflight.step))
    set_threads(threads)
    if config.model.gradient_descent and not memory_only:
        preflight.check_time(threads)
    estimate = preflight.estimate()
    a_pass = "" if estimate.epoch_s is None else f" and {estimate.epoch_s:,.1f} s a pass"
    print(f"{estimate.n_params:,} parameters, about {estimate.memory_mb:,.0f} MiB{a_pass}", flush=True)
    pace = preflight.pace()
    if not engine.history and config.model.gradient_descent:
        _plan(config, problem, engine, options, pace)
    if pace is not None and engine.plan is not None:
        training_s = config.task.trainings * pace.cost_of(engine.plan)
        estimate = replace(estimate, training_s=round(training_s, 3))
    return Resources(threads, preflight.evaluation_batch, estimate)


def _plan(
    config: RunConfig, problem: Problem, engine: Engine, options: JobOptions, pace: Pace | None
) -> None:
    """Plan the whole training for the compute and the steps that it may take, and say so."""
    assert engine.generator is not None
    passes = problem.training_batches(engine.generator)
    plan = plan_within(
        config.training,
        optimizer_steps(len(passes), engine.accumulation_steps),
        most_steps=options.max_steps,
        pace=pace,
        seconds=options.time_limit_s,
    )
    follow_plan(engine, config.training, plan)
    if plan.why:
        print(plan.why, flush=True)


def shared_out(options: JobOptions, config: RunConfig) -> JobOptions:
    """Return the options of one training of the run, all of which together keep to the run's limits."""
    count, limit_s, most_steps = config.task.trainings, options.time_limit_s, options.max_steps
    if count == 1:
        return options
    print(f"trained {count} times, on {count} origins, the last one first: each has its share of the limits")
    return replace(
        options,
        time_limit_s=None if limit_s is None else limit_s / count,
        max_steps=None if most_steps is None else max(most_steps // count, 1),
    )


def read_info(path: Path | None) -> TaskInfo | None:
    """Return the task info of a search, None outside of one. Raises ConfigError for any other file."""
    if path is None:
        return None
    try:
        return TaskInfo.from_json(read_object(path, follow_link=True))
    except (OSError, ValueError, ConfigError) as error:
        raise ConfigError(f"{path}: not the task info of a search ({error})") from None


def _resume_key(config: RunConfig, source: DataSource) -> str:
    """Name everything that changes the result: it has to be equal for a checkpoint to be continued."""
    return f"{canonical_key(config)} {config.seed} {config.task.model_dump_json()} {source.sha256}"


def _resume(engine: Engine, config: RunConfig, best: BestCheckpoint, last: Path, key: str) -> bool:
    """Continue an interrupted training of the same configuration; anything else starts at the beginning.

    Return whether it continues.
    """
    if not last.exists():
        return False
    try:
        state = load_checkpoint(last)
        if state.get("config_key") != key:
            raise StateError(f"{last} belongs to another configuration, seed or data")
        if best.path.exists():
            load_checkpoint(best.path)  # its epoch may stay the best one, and the score is taken with it
    except StateError as error:
        print(f"note: {error}; training starts at the beginning", flush=True)
        return False
    if state.get("plan") is not None and config.model.gradient_descent:
        follow_plan(engine, config.training, TrainingPlan(**state["plan"]))
    engine.load_state_dict(state)
    best.resume()
    print(f"resumed after epoch {len(engine.history) - 1}", flush=True)
    return True

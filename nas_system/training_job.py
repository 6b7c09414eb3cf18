"""One training from a configuration to its run directory: introduces data, model and engine to each other."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas_system.data import DataSource, Series, TaskWindows, WindowLoader, build_windows, load_series, locate
from nas_system.errors import ConfigError, Diverged, StateError
from nas_system.files import read_json
from nas_system.model import build_model
from nas_system.nas_agent.logging_utils import save_history, save_metrics
from nas_system.nas_agent.run_manager import RunPaths
from nas_system.space import RunConfig, canonical_key
from nas_system.training.callbacks import (
    BestCheckpoint,
    HistoryFile,
    LastCheckpoint,
    StopFile,
    TimeBudget,
    history_as_json,
)
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.eager import skip_compiler_import, step_eagerly
from nas_system.training.engine import Engine
from nas_system.training.loops import trial_step
from nas_system.training.objectives import Forecasting
from nas_system.training.optimizer import build_optimizer
from nas_system.training.progress import Progress
from nas_system.training.reproducibility import (
    fastest_threads,
    peak_memory_mb,
    resolve_device,
    set_seed,
    set_threads,
)
from nas_system.training.scheduler import build_scheduler

EVALUATION_BATCH = 512
"""Evaluation needs no gradients: a few large batches. The score does not depend on this number."""
EXAMPLES = 6
"""Test windows that predictions.png shows, evenly spread."""


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


def run_training(config: RunConfig, paths: RunPaths, options: JobOptions) -> None:
    """Train, evaluate the test part once with the best epoch's weights, write every file."""
    started = time.monotonic()
    set_threads(options.threads or 1)
    device = resolve_device(options.device)
    facts = _read_facts(options.facts)
    source = find_source(config, facts, options.data_dir)
    series = load_series(source, config.task)
    windows = build_windows(series, config, device)
    engine = build_engine(config, windows, device)
    train = WindowLoader(windows["train"], config.data.batch_size, generator=engine.generator)
    val = WindowLoader(windows["val"], EVALUATION_BATCH)
    threads = options.threads or _measured_threads(engine, train)
    best = BestCheckpoint(paths.best_model, _portable(config, windows, source))
    if options.resume:
        _resume(engine, best, paths.last, config)
    metrics = _identity(config, options, source, engine, threads)
    first_step_at: list[float] = []

    def after_step() -> None:
        if not first_step_at:
            first_step_at.append(time.time())
        options.stop()

    callbacks = [
        best,
        HistoryFile(lambda history: _write_history(history, paths, config)),
        LastCheckpoint(paths.last, canonical_key(config)),
        StopFile(Path(f"stop_{options.tag}")),
    ]
    if options.time_limit_s is not None:
        callbacks.append(TimeBudget(options.time_limit_s, started))
    try:
        reason = engine.fit(train, val, config.training.max_epochs, callbacks, after_step=after_step)
    except Diverged:
        save_history(paths.folder, history_as_json(engine))
        save_metrics(paths.folder, metrics | {"reason": "diverged", "epochs": len(engine.history)})
        raise
    record = engine.history[engine.progress.best_epoch or 0]
    engine.model.load_state_dict(load_checkpoint(paths.best_model, device, sha256=best.sha256)["model"])
    test = engine.evaluate(WindowLoader(windows["test"], EVALUATION_BATCH))
    _draw(engine, windows, series, paths, config, options.tag, facts)
    save_metrics(
        paths.folder,
        metrics
        | {
            "best_epoch": record.epoch,
            "val_mse": record.val["mse"],
            "test_mse": test["mse"],
            "train_mse": record.train["mse"],
            "train_time_sec": round(time.monotonic() - started, 3),
            "val_mae": record.val["mae"],
            "test_mae": test["mae"],
            "epochs": len(engine.history),
            "steps": engine.steps,
            "reason": reason,
            "first_step_at": first_step_at[0] if first_step_at else None,
            "timing": engine.timing,
            "peak_memory_mb": round(peak_memory_mb(device), 1),
            "checkpoint_sha256": best.sha256,
        },
    )
    print(
        f"{reason}: best epoch {record.epoch + 1}, val_mse {record.val['mse']:.5f}, "
        f"test_mse {test['mse']:.5f}; everything is in {paths.folder}",
        flush=True,
    )


def build_engine(config: RunConfig, windows: TaskWindows, device: torch.device) -> Engine:
    """Model, optimizer, schedule and objective of a configuration, from its seed."""
    set_seed(config.seed)
    training = config.training
    model = build_model(config, windows.shape).to(device)
    if training.compile:
        optimizer = build_optimizer(model, training, device)
    else:
        skip_compiler_import()
        optimizer = step_eagerly(build_optimizer(model, training, device))
    return Engine(
        model=model,
        optimizer=optimizer,
        objective=Forecasting(training.loss),
        device=device,
        progress=Progress(patience=training.patience),
        scheduler=build_scheduler(optimizer, training),
        grad_clip=training.grad_clip,
        generator=torch.Generator().manual_seed(config.seed),
        precision=training.precision,
        accumulation_steps=training.accumulation_steps,
        compile=training.compile,
    )


def find_source(config: RunConfig, facts: dict[str, Any] | None, data_dir: Path | None) -> DataSource:
    """The search's own data if there is a search; otherwise wherever it is found."""
    if facts is not None:
        try:
            return DataSource.from_json(facts["source"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the facts of the search name no data source ({error})") from None
    source = locate(config.task, data_dir)
    if source.notice:
        print(f"note: {source.notice}", flush=True)
    return source


def _read_facts(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not the facts of a search ({error})") from None


def _measured_threads(engine: Engine, train: WindowLoader) -> int:
    batch = train.windows.batch(torch.arange(min(train.batch_size, len(train.windows)), device=engine.device))
    step = trial_step(engine.model, batch, engine.objective, engine.device, precision=engine.amp)
    threads = fastest_threads(step)
    set_threads(threads)
    return threads


def _identity(
    config: RunConfig, options: JobOptions, source: DataSource, engine: Engine, threads: int
) -> dict[str, Any]:
    """The part of metrics.json that is known before the first epoch."""
    scores = dict.fromkeys(("best_epoch", "val_mse", "test_mse", "train_mse", "train_time_sec"))
    return {
        **scores,
        "n_params": sum(parameter.numel() for parameter in engine.model.parameters()),
        "metric": config.task.metric,
        "direction": "minimize",
        "tag": options.tag,
        "family": config.model.family,
        "seed": config.seed,
        "data": source.to_json(),
        "device": str(engine.device),
        "threads": threads,
        "precision": config.training.precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _portable(config: RunConfig, windows: TaskWindows, source: DataSource) -> dict[str, Any]:
    """What another machine needs beside the weights to forecast with them."""
    return {
        "scaler": windows.scaler.to_json(),
        "shape": {
            "seq_len": windows.shape.seq_len,
            "pred_len": windows.shape.pred_len,
            "n_inputs": windows.shape.n_inputs,
            "target_columns": list(windows.shape.target_columns),
            "n_marks": windows.shape.n_marks,
        },
        "targets": list(config.task.targets),
        "data_sha256": source.sha256,
        "config": config.model_dump(mode="json"),
    }


def _resume(engine: Engine, best: BestCheckpoint, last: Path, config: RunConfig) -> None:
    """Continue an interrupted training of the same configuration; anything else starts at the beginning."""
    if not last.exists():
        return
    try:
        state = load_checkpoint(last)
        if state.get("config_key") != canonical_key(config):
            raise StateError(f"{last} belongs to another configuration")
    except StateError as error:
        print(f"note: {error}; training starts at the beginning", flush=True)
        return
    engine.load_state_dict(state)
    best.resume()
    print(f"resumed after epoch {len(engine.history) - 1}", flush=True)


def _write_history(history: dict[str, Any], paths: RunPaths, config: RunConfig) -> None:
    save_history(paths.folder, history)
    last = history["epochs"][-1]
    print(
        f"epoch {last['epoch'] + 1}/{config.training.max_epochs}  train_mse {last['train_mse']:.5f}  "
        f"val_mse {last['val_mse']:.5f}  lr {last['lr']:.2e}  {last['seconds']:.1f} s",
        flush=True,
    )


def _draw(
    engine: Engine,
    windows: TaskWindows,
    series: Series,
    paths: RunPaths,
    config: RunConfig,
    tag: str,
    facts: dict[str, Any] | None,
) -> None:
    """learning_curve.png and predictions.png; matplotlib, as costly as an epoch, is imported only now."""
    from nas_system.visualization import forecast_examples, learning_curve

    references = (facts or {}).get("references", ())
    learning_curve(history_as_json(engine), paths.learning_curve, title=tag, references=references)
    test = windows["test"]
    chosen = torch.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).round().long()
    batch = test.batch(chosen.to(engine.device))
    scaler = windows.target_scaler.of_columns([0])
    column = windows.shape.target_columns[0]
    forecast, past, truth = (
        scaler.inverse(values[..., None].float().cpu().numpy())[..., 0]
        for values in (engine.predict([batch])[..., 0], batch.args[0][..., column], batch.target[..., 0])
    )
    stamps = [str(series.dates[test.target_rows(int(index))[0]])[:16].replace("T", " ") for index in chosen]
    forecast_examples(
        past, truth, forecast, paths.predictions, column=config.task.targets[0], title=tag, labels=stamps
    )

"""One training from a configuration to its run directory: introduces data, model and engine to each other."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas_system.data import DataSource, WindowLoader, build_windows, locate
from nas_system.data.loading import load_series
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
    TimeBudget,
    history_as_json,
)
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.eager import skip_compiler_import, step_eagerly
from nas_system.training.engine import Engine
from nas_system.training.loops import evaluate, predict
from nas_system.training.objectives import Forecasting
from nas_system.training.optimizer import build_optimizer
from nas_system.training.progress import Progress
from nas_system.training.reproducibility import (
    peak_memory_mb,
    resolve_device,
    set_seed,
    set_threads,
)
from nas_system.training.scheduler import build_scheduler

EVALUATION_BATCH = 512
"""Evaluation needs no gradients: a few large batches. The score does not depend on this number."""


@dataclass
class TrainingJob:
    """A forecasting run."""

    config: RunConfig
    paths: RunPaths
    tag: str
    device_name: str
    threads: int
    time_limit_s: float | None
    resume: bool
    stop: Callable[[], None]

    def run(self, facts: Path | None, data_dir: Path | None) -> None:
        """Train, evaluate the test part once on the best epoch's weights, write every file."""
        started = time.monotonic()
        config = self.config
        set_threads(self.threads)
        set_seed(config.seed)
        device = resolve_device(self.device_name)
        source = find_source(config, facts, data_dir)
        windows = build_windows(load_series(source, config.task), config, device)
        model = build_model(config, windows.shape).to(device)
        skip_compiler_import()
        optimizer = step_eagerly(build_optimizer(model, config.training, device))
        generator = torch.Generator().manual_seed(config.seed)
        engine = Engine(
            model=model,
            optimizer=optimizer,
            objective=Forecasting(config.training.loss),
            device=device,
            progress=Progress(patience=config.training.patience),
            scheduler=build_scheduler(optimizer, config.training),
            grad_clip=config.training.grad_clip,
            generator=generator,
        )
        train = WindowLoader(windows["train"], config.data.batch_size, generator=generator)
        val = WindowLoader(windows["val"], EVALUATION_BATCH)
        best = BestCheckpoint(self.paths.best_model, _portable(config, windows, source))
        first_step: list[float] = []

        def after_step() -> None:
            if not first_step:
                first_step.append(time.time())
            self.stop()

        if self.resume:
            _resume(engine, best, self.paths.last, config)
        metrics: dict[str, Any] = {
            "best_epoch": None,
            "val_mse": None,
            "test_mse": None,
            "train_mse": None,
            "train_time_sec": None,
            "n_params": sum(parameter.numel() for parameter in model.parameters()),
            "metric": config.task.metric,
            "direction": "minimize",
            "tag": self.tag,
            "family": config.model.family,
            "seed": config.seed,
            "data": source.to_json(),
            "device": str(device),
            "threads": self.threads,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        callbacks: list[Any] = [
            best,
            HistoryFile(self._write_history),
            LastCheckpoint(self.paths.last, canonical_key(config)),
        ]
        if self.time_limit_s is not None:
            callbacks.append(TimeBudget(self.time_limit_s, started))
        try:
            reason = engine.fit(train, val, config.training.max_epochs, callbacks, after_step=after_step)
        except Diverged:
            save_history(self.paths.folder, history_as_json(engine))
            save_metrics(self.paths.folder, metrics | {"reason": "diverged", "epochs": len(engine.history)})
            raise
        record = engine.history[engine.progress.best_epoch or 0]
        model.load_state_dict(load_checkpoint(self.paths.best_model, device, sha256=best.sha256)["model"])
        test_loader = WindowLoader(windows["test"], EVALUATION_BATCH)
        test = evaluate(model, test_loader, engine.objective, device)
        self._draw(engine, windows, model)
        save_metrics(
            self.paths.folder,
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
                "first_step_at": first_step[0] if first_step else None,
                "peak_memory_mb": round(peak_memory_mb(device), 1),
                "checkpoint_sha256": best.sha256,
            },
        )
        print(
            f"{reason}: best epoch {record.epoch + 1}, val_mse {record.val['mse']:.5f}, "
            f"test_mse {test['mse']:.5f}; everything is in {self.paths.folder}",
            flush=True,
        )

    def _write_history(self, history: dict[str, Any]) -> None:
        save_history(self.paths.folder, history)
        last = history["epochs"][-1]
        print(
            f"epoch {last['epoch'] + 1}/{self.config.training.max_epochs}  train_mse {last['train_mse']:.5f}  "
            f"val_mse {last['val_mse']:.5f}  lr {last['lr']:.2e}  {last['seconds']:.1f} s",
            flush=True,
        )

    def _draw(self, engine: Engine, windows: Any, model: torch.nn.Module) -> None:
        # matplotlib takes as long to import as many an epoch: only now, when training is over.
        from nas_system.visualization import forecast_examples, learning_curve

        learning_curve(history_as_json(engine), self.paths.learning_curve, title=self.tag)
        test = windows["test"]
        chosen = torch.linspace(0, len(test) - 1, 6).round().long().to(engine.device)
        batch = test.batch(chosen)
        forecast = predict(model, [batch], engine.objective, engine.device)[..., 0].numpy()
        past = batch.args[0][..., windows.shape.target_columns[0]].cpu().numpy()
        truth = batch.target[..., 0].cpu().numpy()
        scaler = windows.target_scaler.of_columns([0])
        forecast_examples(
            scaler.inverse(past[..., None])[..., 0],
            scaler.inverse(truth[..., None])[..., 0],
            scaler.inverse(forecast[..., None])[..., 0],
            self.paths.predictions,
            column=self.config.task.targets[0],
            title=self.tag,
        )


def find_source(config: RunConfig, facts: Path | None, data_dir: Path | None) -> DataSource:
    """The search's own data if there is a search; otherwise wherever it is found."""
    if facts is not None:
        try:
            return DataSource.from_json(read_json(facts)["source"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{facts}: not the facts of a search ({error})") from None
    source = locate(config.task, data_dir)
    if source.notice:
        print(f"note: {source.notice}", flush=True)
    return source


def _portable(config: RunConfig, windows: Any, source: DataSource) -> dict[str, Any]:
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

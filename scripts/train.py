"""Train a model on a data set: `python scripts/train.py dataset=tabular_synth model=mlp training.epochs=20`.

Configurations are composed by Hydra from `nas_system/configs`. Everything is written to
`output_dir`: checkpoints/best.pt and last.pt, history.json, metrics.json, the log. The test part
is left to `evaluate.py`.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from experiments import CONFIGS, Experiment, Plain, build_experiment

from nas_system.errors import NasError
from nas_system.files import write_json
from nas_system.training import Trainer, get_optimizer, get_scheduler, log_model_info, set_seed
from nas_system.training.acceleration.eager import skip_compiler_import
from nas_system.training.batches import unpack
from nas_system.training.extras import import_extra
from nas_system.training.loops import DryRunStep
from nas_system.training.reproducibility import fastest_threads, set_threads


def train(config: Plain, output_dir: Path) -> dict[str, object]:
    """Train, and return the content of metrics.json."""
    skip_compiler_import()
    set_threads(1 if config["threads"] == "auto" else config["threads"])
    experiment = build_experiment(config)
    trainer = build_trainer(config, experiment, output_dir)
    if config["threads"] == "auto":
        batch = next(iter(experiment.loaders["train"]))
        engine = trainer.engine
        step = DryRunStep(engine.model, engine.objective, engine.optimizer, engine.amp)
        set_threads(fastest_threads(partial(step.gradient, unpack(batch, engine.device))))
    log_model_info(trainer.model)
    if config["resume"]:
        trainer.load_checkpoint("last.pt")
    with ExitStack() as hooks:
        for hook in log_hooks(config, output_dir):
            trainer.add_log_hook(hooks.enter_context(hook))
        # From here on nothing that came before counts, such as a batch taken for measuring.
        set_seed(config["seed"])
        history = trainer.fit(
            experiment.loaders["train"],
            experiment.loaders["val"],
            epochs=config["training"]["epochs"],
            metric_for_best=config["training"]["metric_for_best"],
            early_stopping=config["training"]["early_stopping"],
        )
    progress = trainer.engine.progress
    metrics = {
        "reason": trainer.stop_reason,
        "metric": config["training"]["metric_for_best"],
        "best_metric": progress.best,
        "best_epoch": progress.best_epoch,
        "epochs": trainer.epoch + 1,
        "steps": trainer.global_step,
        "timing": trainer.engine.timing,
        "checkpoint": str(output_dir / "checkpoints" / "best.pt"),
    }
    write_json(output_dir / "history.json", history)
    write_json(output_dir / "metrics.json", metrics)
    return metrics


def build_trainer(config: Plain, experiment: Experiment, output_dir: Path) -> Trainer:
    """Build the trainer of a configuration."""
    training = config["training"]
    wanted = training["optimizer"]
    optimizer = get_optimizer(experiment.model, wanted["type"], wanted["lr"], wanted["weight_decay"])
    schedule = dict(training["scheduler"])
    batches = len(experiment.loaders["train"])
    return Trainer(
        model=experiment.model,
        optimizer=optimizer,
        scheduler=get_scheduler(
            optimizer,
            schedule.pop("type"),
            training["epochs"],
            steps_per_epoch=-(-batches // training["accumulation_steps"]),
            **schedule,
        ),
        device=config["device"],
        task_type=experiment.task_type,
        num_classes=experiment.num_classes,
        grad_clip=training["grad_clip"],
        mixed_precision=training["mixed_precision"],
        accumulation_steps=training["accumulation_steps"],
        log_every=training["log_every"],
        checkpoint_dir=output_dir / "checkpoints",
        config=config,
    )


def log_hooks(config: Plain, output_dir: Path) -> list[Any]:
    """Return the hooks of the configuration; each is a context whose exit completes its data."""
    hooks: list[Any] = []
    if config["tensorboard"]:
        from nas_system.integrations.tensorboard import TensorBoardHook

        hooks.append(TensorBoardHook(output_dir / "tensorboard"))
    if config["wandb_project"]:
        from nas_system.integrations.wandb import WandbHook

        hooks.append(WandbHook(config["wandb_project"], log_dir=output_dir, config=config))
    return hooks


def main() -> None:
    hydra = import_extra("hydra", "hydra")
    from omegaconf import DictConfig, OmegaConf

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def job(composed: DictConfig) -> None:
        config: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        try:
            print(json.dumps(train(config, Path(config["output_dir"]).resolve())))
        except (NasError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(getattr(error, "exit_code", 2))

    job()


if __name__ == "__main__":
    try:
        main()
    except NasError as error:
        sys.exit(f"error: {error}")

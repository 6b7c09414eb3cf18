"""Evaluate a checkpoint on its test part: `python scripts/evaluate.py checkpoint=logs/.../best.pt`.

Data and model are built from the configuration inside the checkpoint. Prints one JSON object and
writes nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from experiments import CONFIGS, build_experiment

from nas_system.errors import ConfigError, NasError
from nas_system.training import Trainer, get_optimizer
from nas_system.training.acceleration.eager import skip_compiler_import
from nas_system.training.checkpoint import load_checkpoint
from nas_system.training.extras import import_extra
from nas_system.training.reproducibility import set_threads


def evaluate(checkpoint: Path, split: str, device: str) -> dict[str, object]:
    """Return loss and metrics of a checkpoint's weights on one part of its data."""
    skip_compiler_import()
    set_threads(1)
    content = load_checkpoint(checkpoint)
    config = content.get("config")
    if not config:
        raise ConfigError(f"{checkpoint} holds no configuration; it was not written by scripts/train.py")
    experiment = build_experiment(config | {"device": device})
    if split not in experiment.loaders:
        raise ConfigError(f"split={split} is not known; choose from: {', '.join(experiment.loaders)}")
    experiment.model.load_state_dict(content["model"])
    trainer = Trainer(
        experiment.model,
        get_optimizer(experiment.model),
        device=device,
        task_type=experiment.task_type,
        num_classes=experiment.num_classes,
        mixed_precision=config["training"]["mixed_precision"],
    )
    metrics = trainer.eval_epoch(experiment.loaders[split])
    return {"checkpoint": str(checkpoint), "epoch": content["epoch"], "split": split} | metrics


def main() -> None:
    hydra = import_extra("hydra", "hydra")
    from omegaconf import DictConfig, OmegaConf

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="evaluate")
    def job(config: DictConfig) -> None:
        try:
            if OmegaConf.is_missing(config, "checkpoint"):
                raise ConfigError("which checkpoint? Pass checkpoint=logs/NAME/checkpoints/best.pt")
            print(json.dumps(evaluate(Path(config.checkpoint), config.split, config.device)))
        except (NasError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(getattr(error, "exit_code", 2))

    job()


if __name__ == "__main__":
    try:
        main()
    except NasError as error:
        sys.exit(f"error: {error}")

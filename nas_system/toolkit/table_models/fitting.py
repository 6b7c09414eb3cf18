"""One training of a network on windows of a table, by the engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nas_system.data import WindowLoader
from nas_system.data.augmentation import augmented
from nas_system.errors import Diverged
from nas_system.toolkit.sequence_datasets import SequenceDataset
from nas_system.toolkit.table_models.settings import SequenceSettings
from nas_system.training.acceleration.eager import skip_compiler_import, step_eagerly
from nas_system.training.callbacks import BestWeights
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Callback, Engine
from nas_system.training.objectives import Objective, direction_of
from nas_system.training.optimizer import build_optimizer
from nas_system.training.scheduler import advances_per_step, build_scheduler

EVALUATION_BATCH = 512


def fit_network(
    network: nn.Module,
    objective: Objective,
    settings: SequenceSettings,
    train: SequenceDataset,
    val: SequenceDataset | None,
    device: torch.device,
    callbacks: Sequence[Callback],
) -> tuple[Engine, str]:
    """Train to the end; return the engine, its network with the best epoch's weights, and the reason."""
    training = settings.training_config(device)
    generator = torch.Generator().manual_seed(settings.seed)
    loader = WindowLoader(train.windows, settings.batch_size, generator=generator)
    network = network.to(device)
    skip_compiler_import()
    optimizer = step_eagerly(build_optimizer(network, training, device))
    direction = direction_of(objective)
    scheduler = build_scheduler(optimizer, training, steps_per_epoch=len(loader), direction=direction)
    engine = Engine(
        model=network,
        optimizer=optimizer,
        objective=objective,
        device=device,
        progress=EarlyStoppingState(settings.early_stopping, direction=direction),
        scheduler=scheduler,
        scheduler_per_step=advances_per_step(scheduler),
        grad_clip=training.grad_clip,
        generator=generator,
        precision=training.precision,
    )
    batches = augmented(loader, training, target_columns=())
    evaluated = None if val is None else WindowLoader(val.windows, EVALUATION_BATCH)
    try:
        reason = engine.fit(batches, evaluated, training.max_epochs, [*callbacks, BestWeights()])
    except Diverged as error:
        # The table has been read: its values are finite.
        raise Diverged(
            f"a loss became NaN or infinite in epoch {len(engine.history) + 1}; lower learning_rate "
            f"({settings.learning_rate:g}), or set grad_clip",
            error.numbers,
        ) from error
    return engine, reason

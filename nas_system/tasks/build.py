"""From a configuration and its problem to an engine that is ready to train."""

from __future__ import annotations

import torch

from nas_system.space import RunConfig
from nas_system.tasks.kind import Problem
from nas_system.training.acceleration.eager import skip_compiler_import, step_eagerly
from nas_system.training.engine import Engine
from nas_system.training.optimizer import build_optimizer
from nas_system.training.progress import Progress
from nas_system.training.reproducibility import set_seed
from nas_system.training.scheduler import advances_per_step, build_scheduler, optimizer_steps


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

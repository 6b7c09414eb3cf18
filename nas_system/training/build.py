"""The engine of a configuration: model, optimizer, schedule and objective, all from its seed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from nas_system.space.run_config import RunConfig, TrainingConfig
from nas_system.training.acceleration.eager import skip_compiler_import, step_eagerly
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine
from nas_system.training.objectives import Objective, direction_of
from nas_system.training.optimizer import build_optimizer
from nas_system.training.preflight.plan import Passes, TrainingPlan, plan_training
from nas_system.training.reproducibility import set_seed
from nas_system.training.scheduler import advances_per_step, build_scheduler, optimizer_steps

SCHEDULED = {"lr", "betas", "momentum"}
"""What a schedule may change of an optimizer."""


class Trainable(Protocol):
    """The part of a task's problem that an engine is built from."""

    @property
    def objective(self) -> Objective: ...

    def build_model(self) -> nn.Module: ...

    def training_batches(self, generator: torch.Generator) -> Passes: ...

    def batches(self, part: Literal["train"], batch_size: int) -> Iterable[Any]: ...

    def count(self, part: Literal["train"]) -> int: ...


@runtime_checkable
class Solvable(Protocol):
    """A model that, or a part of which, may be fitted in closed form."""

    @property
    def in_closed_form(self) -> bool: ...

    def solve(self, batches: Iterable[Any], windows: int) -> None: ...


def build_engine(config: RunConfig, problem: Trainable, device: torch.device) -> Engine:
    """Build model, optimizer, schedule and objective of a configuration, from its seed.

    It is planned as long as the configuration asks for; `follow_plan` gives it another plan.
    """
    set_seed(config.seed)
    training, direction = config.training, direction_of(problem.objective)
    model = problem.build_model().to(device)
    if training.compile:
        optimizer = build_optimizer(model, training, device)
    else:
        skip_compiler_import()
        optimizer = step_eagerly(build_optimizer(model, training, device))
    generator = torch.Generator().manual_seed(config.seed)
    steps_per_pass = optimizer_steps(len(problem.training_batches(generator)), training.accumulation_steps)
    engine = Engine(
        model=model,
        optimizer=optimizer,
        objective=problem.objective,
        device=device,
        progress=EarlyStoppingState(training.patience, direction=direction),
        grad_clip=training.grad_clip,
        generator=generator,
        precision=training.precision,
        accumulation_steps=training.accumulation_steps,
        compile=training.compile,
    )
    if isinstance(model, Solvable) and model.in_closed_form:
        engine.solve = partial(_solve, engine, model, problem, config.data.batch_size)
    if config.model.gradient_descent:
        follow_plan(engine, training, plan_training(training, steps_per_pass))
    else:
        engine.plan = TrainingPlan(0, 0)
    return engine


@torch.no_grad()
def _solve(engine: Engine, model: Solvable, problem: Trainable, batch_size: int) -> dict[str, float]:
    """Fit what of the model has a closed form; return the training part's metrics."""
    model.solve(problem.batches("train", batch_size), problem.count("train"))
    return engine.evaluate(problem.batches("train", batch_size))


def follow_plan(engine: Engine, training: TrainingConfig, plan: TrainingPlan) -> None:
    """Give the engine, before its first epoch, a plan and the schedule that spans it."""
    engine.plan = plan
    # A schedule begins at the rates that it finds, and an earlier one has set its own first ones already.
    for group in engine.optimizer.param_groups:
        group.pop("initial_lr", None)
        group.update({name: engine.optimizer.defaults[name] for name in SCHEDULED & group.keys()})
    engine.scheduler = build_scheduler(
        engine.optimizer,
        training,
        epochs=plan.epochs,
        steps_per_epoch=plan.steps_per_epoch,
        direction=direction_of(engine.objective),
    )
    engine.scheduler_per_step = advances_per_step(engine.scheduler)

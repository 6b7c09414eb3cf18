"""`RunConfig`: everything that defines one training, and the rules between its parts."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union, cast

from pydantic import Discriminator, Field, field_validator, model_validator

from nas_system.errors import ConfigError
from nas_system.space.families import FAMILIES, FamilyConfig, InformerConfig, families_of
from nas_system.space.fields import (
    Choice,
    ConfigModel,
    Parameter,
    Range,
    Unless,
    When,
    format_choices,
    parameters_of,
)
from nas_system.space.tasks import ForecastingTask, TaskConfig
from nas_system.space.tasks.task import ValueOf

if TYPE_CHECKING:
    ModelConfig = FamilyConfig
else:
    # From the registry: a family is named in one place.
    ModelConfig = Union[tuple(FAMILIES.values())]  # noqa: UP007


class DataConfig(ConfigModel):
    """Which part of the past a model sees."""

    features: Annotated[Literal["S", "MS"], Choice(where="covariates")] = "MS"
    """Inputs: the targets alone (S) or all columns (MS)."""

    seq_len: Annotated[int, Range(4, 2048, grid=(48, 96, 168, 336, 512), where="series")] = 96
    """Look-back: how many past steps the model sees."""

    batch_size: Annotated[int, Range(1, 4096, grid=(16, 32, 64, 128))] = 32
    """Windows, or graphs, per optimizer step."""

    @field_validator("features", mode="before")
    @classmethod
    def _point_to_the_targets(cls, value: Any) -> Any:
        if value == "M":
            raise ValueError(
                "data.features='M' is a matter of the task: to forecast every column set task.targets to "
                "['all'] (--target all) and leave features out; next to it features is 'S' or 'MS'"
            )
        return value


class TrainingConfig(ConfigModel):
    """How the model is trained."""

    optimizer: Annotated[Literal["adam", "adamw", "sgd"], Choice()] = "adam"
    """Which optimizer updates the weights."""

    lr: Annotated[float, Range(1e-5, 0.1, log=True)] = 1e-3
    """Learning rate at the start."""

    weight_decay: Annotated[float, Range(0.0, 0.1, grid=(0.0, 1e-5, 1e-4, 5e-4, 1e-3, 1e-2))] = 0.0
    """L2 penalty (adam, sgd) or decoupled decay (adamw)."""

    momentum: Annotated[float, Range(0.0, 0.999, grid=(0.0, 0.9, 0.95), when=When("optimizer", ("sgd",)))] = (
        0.9
    )
    """Momentum of SGD."""

    loss: Annotated[Literal["mse", "mae", "huber"], Choice(where="numbers")] = "mse"
    """Training loss; the score is always the task's own metric."""

    scheduler: Annotated[Literal["none", "cosine", "step", "plateau", "onecycle"], Choice()] = "cosine"
    """Learning-rate schedule, advanced once an epoch (onecycle: once a step, lr is the highest rate)."""

    t_max: Annotated[int | None, Range(1, 1000, when=When("scheduler", ("cosine",)), sampled=False)] = None
    """Cosine: epochs until the lowest rate; None takes all of the training."""

    min_lr: Annotated[float, Range(0.0, 0.1, when=When("scheduler", ("cosine",)), sampled=False)] = 0.0
    """Cosine: the lowest rate."""

    step_size: Annotated[int, Range(1, 1000, grid=(1, 2, 5), when=When("scheduler", ("step",)))] = 1
    """Step: epochs between two reductions."""

    gamma: Annotated[
        float, Range(0.01, 1.0, grid=(0.3, 0.5, 0.7, 0.9), when=When("scheduler", ("step",)))
    ] = 0.5
    """Step: factor of each reduction."""

    plateau_factor: Annotated[
        float, Range(0.01, 0.99, grid=(0.2, 0.5), when=When("scheduler", ("plateau",)))
    ] = 0.5
    """Plateau: factor of each reduction."""

    plateau_patience: Annotated[int, Range(0, 100, grid=(1, 2), when=When("scheduler", ("plateau",)))] = 1
    """Plateau: epochs without improvement before a reduction."""

    warmup_share: Annotated[
        float, Range(0.01, 0.9, grid=(0.1, 0.3), when=When("scheduler", ("onecycle",)))
    ] = 0.3
    """One-cycle: share of all steps in which the rate rises."""

    augmentation: Annotated[
        Literal[
            "none", "jitter", "scaling", "magnitude_warp", "time_warp", "window_slice", "channel_dropout"
        ],
        Choice(where="series"),
    ] = "none"
    """How training windows are varied; validation and test windows never are."""

    augmentation_strength: Annotated[
        float,
        Range(0.001, 1.0, grid=(0.03, 0.1, 0.3), when=Unless("augmentation", ("none",)), where="series"),
    ] = 0.1
    """Size of the variation: deviation of noise or factors, share of the window cut, share of channels."""

    max_steps: Annotated[int | None, Range(1, 1_000_000, grid=(100, 200, 400, 800, 1600), log=True)] = None
    """Most optimizer steps a training may take; an epoch is a pass, or what divides them into 2 to 20."""

    max_epochs: Annotated[
        int, Range(1, 1000, grid=(5, 10, 20), when=When("max_steps", (None,)), sampled=False)
    ] = 10
    """Most passes over the training data, where max_steps says nothing."""

    patience: Annotated[int, Range(1, 1000, grid=(2, 3, 5), sampled=False)] = 3
    """Epochs without a better validation score before the training ends."""

    grad_clip: Annotated[float, Range(0.0, 100.0, grid=(0.0, 1.0), sampled=False)] = 0.0
    """Largest norm of the gradient; 0 does not clip."""

    accumulation_steps: Annotated[int, Range(1, 64, grid=(1, 2, 4), sampled=False)] = 1
    """Batches whose gradients are added up before one optimizer step."""

    precision: Annotated[Literal["fp32", "bf16", "fp16"], Choice(sampled=False)] = "fp32"
    """Number format of the matrix products; fp16 needs a CUDA device."""

    compile: Annotated[bool, Choice(sampled=False)] = False
    """Run the model through torch.compile: pays only for long trainings of large models."""


class RunConfig(ConfigModel):
    """One training: task, model, data, training and seed."""

    task: TaskConfig = ForecastingTask()
    model: Annotated[ModelConfig, Discriminator("family")] = InformerConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    seed: int = Field(default=42, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.task.kind not in self.model.tasks:
            serving = ", ".join(families_of(self.task.kind))
            raise ValueError(
                f"family {self.model.family!r} does not serve the task {self.task.name!r}; "
                f"choose from: {serving}"
            )
        self.task.check(self)
        return self

    @property
    def forecasting(self) -> ForecastingTask:
        """The task, if it is a series to forecast. Raises ConfigError."""
        if not self.task.is_series:
            raise ConfigError(f"the task {self.task.name!r} is no series to forecast")
        return cast("ForecastingTask", self.task)

    @property
    def reads_covariates(self) -> bool:
        """Whether the model can read other columns than the targets."""
        return self.task.inactive_because("covariates", type(self.model), partial(value_at, self)) is None


OF_STEPS = ("data.batch_size",)
"""What has an effect on optimizer steps only, besides the training's own parameters."""
ADDED = {"model.linear_start": "mean"}
"""Parameters younger than recorded searches, with what went without saying: then no part of the key."""


def parameters(family: str) -> tuple[Parameter, ...]:
    """Every parameter a proposal may change while the family is `family` (`model.family` aside)."""
    return (
        *parameters_of(FAMILIES[family], "model"),
        *parameters_of(DataConfig, "data"),
        *parameters_of(TrainingConfig, "training"),
    )


def value_at(config: RunConfig, path: str) -> Any:
    """The value of `path`, for example `training.lr`."""
    group, name = path.split(".", 1)
    return getattr(getattr(config, group), name)


def serves(parameter: Parameter, family: str) -> bool:
    """Return whether the parameter means anything to a family: one fitted in closed form takes no steps."""
    of_steps = parameter.group == "training" or parameter.path in OF_STEPS
    return FAMILIES[family].gradient_descent or not of_steps


def inactive_because(parameter: Parameter, task: TaskConfig, value: ValueOf) -> str | None:
    """Return why the parameter has no effect, given the values of the others; None if it has one.

    The one place that decides this. `value` gives what stands under `model.family` and under the
    paths of the family's parameters; a sampler gives what it has drawn so far.
    """
    family = FAMILIES[value("model.family")]
    if not serves(parameter, value("model.family")):
        return f"the family {value('model.family')} is fitted in closed form"
    if parameter.where is not None and (reason := task.inactive_because(parameter.where, family, value)):
        return reason
    if parameter.when is not None:
        found = value(f"{parameter.group}.{parameter.when.field}")
        if not parameter.when.holds(found):
            return f"it needs {parameter.group}.{parameter.when.words} (it is {format_choices([found])})"
    return None


def is_active(config: RunConfig, parameter: Parameter) -> bool:
    """Whether the parameter has any effect in this config."""
    return inactive_because(parameter, config.task, partial(value_at, config)) is None


def active_values(config: RunConfig) -> dict[str, Any]:
    """`path -> value` of everything that matters: the family and its active parameters that are set."""
    try:
        return dict(_active(config))  # pyright: ignore[reportArgumentType]  (frozen models are hashable)
    except TypeError:  # but for a copy that nobody has validated
        return dict(_active.__wrapped__(config))


# A prompt compares every run with two others, at every proposal; a configuration never changes.
@lru_cache(maxsize=2048)
def _active(config: RunConfig) -> tuple[tuple[str, Any], ...]:
    active = (p.path for p in parameters(config.model.family) if is_active(config, p))
    values = ((path, value_at(config, path)) for path in active)
    return (("model.family", config.model.family), *(item for item in values if item[1] is not None))


def canonical_key(config: RunConfig) -> str:
    """A short hash that two configs share if and only if they mean the same training.

    Inactive parameters and spellings (1 against 1.0, `t_max` None against `max_epochs`) do not
    count; task and seed are not part of it.
    """
    values = active_values(config)
    if values.get("training.scheduler") == "cosine" and "training.max_steps" not in values:
        values.setdefault("training.t_max", config.training.max_epochs)
    spelled = {
        path: float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        for path, value in values.items()
        if path not in ADDED or value != ADDED[path]
    }
    return hashlib.sha256(json.dumps(spelled, sort_keys=True).encode()).hexdigest()[:16]

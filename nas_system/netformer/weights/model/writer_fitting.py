"""Trains the variational transformer on a zoo, with the project's engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from nas_system.errors import ConfigError
from nas_system.netformer.weights.model.model_config import ArchitectureConfig, FitConfig, LossConfig
from nas_system.netformer.weights.model.network_batches import MetaScaling, NetworkBatches
from nas_system.netformer.weights.model.network_grammar import Grammar
from nas_system.netformer.weights.model.objective import MixedObjective
from nas_system.netformer.weights.model.reconstruction import compare
from nas_system.netformer.weights.model.weights_transformer import ModelConfig, WeightsTransformer
from nas_system.netformer.weights.model.writer import Writer
from nas_system.netformer.weights.network import ACTIVATIONS
from nas_system.netformer.weights.tokens import FIRST_ACTIVATION, LINEAR
from nas_system.netformer.weights.zoo.zoo_files import Zoo
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Callback, Engine, EpochRecord
from nas_system.training.optimizer import get_optimizer
from nas_system.training.reproducibility import ReproducibilityContext
from nas_system.training.scheduler import get_scheduler

COMPARED_ROWS = 32
"""Probes that the loss on outputs looks at; the metrics look at all of them."""


def untrained_writer(zoo: Zoo, architecture: ArchitectureConfig, seed: int) -> Writer:
    """A model that fits the zoo's networks, with random weights."""
    config = zoo.config
    grammar = Grammar(config.inputs, config.max_vertices, config.max_tokens, _types(config.activations))
    sizes = ModelConfig(
        max_vertices=config.max_vertices,
        max_tokens=config.max_tokens,
        meta_features=2 * zoo.meta.shape[1],
        **asdict(architecture),
    )
    train = zoo.part("train")
    with ReproducibilityContext(seed, deterministic=False):
        model = WeightsTransformer(sizes)
    part = zoo.tokens.rows(train)
    model.weight_scale.fill_(part.weight[part.edges].std())
    return Writer(model, grammar, MetaScaling.of(zoo.meta[zoo.task[train].unique()]))


def fit(
    writer: Writer,
    zoo: Zoo,
    loss: LossConfig,
    config: FitConfig,
    *,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> list[EpochRecord]:
    """Train on the zoo's training part; the writer keeps the epoch that is best on its validation part."""
    model = writer.model
    meta = writer.scaling(zoo.meta)[zoo.task]
    objective = MixedObjective(
        zoo.tokens, zoo.probes[:COMPARED_ROWS], zoo.config.max_vertices, float(model.weight_scale), loss
    )
    generator = torch.Generator().manual_seed(config.seed)
    train = NetworkBatches(zoo.tokens, meta, zoo.part("train"), config.batch_size, generator)
    val = NetworkBatches(zoo.tokens, meta, zoo.part("val"), config.batch_size)
    optimizer = get_optimizer(model, lr=config.lr)
    best = BestWeights()
    watchers: list[Callback] = [best]
    if on_epoch is not None:
        watchers.append(_Told(on_epoch))
    engine = Engine(
        model,
        optimizer,
        objective,
        torch.device("cpu"),
        EarlyStoppingState(),
        get_scheduler(optimizer, "onecycle", config.epochs, steps_per_epoch=len(train), warmup_share=0.1),
        grad_clip=1.0,
        scheduler_per_step=True,
    )
    with ReproducibilityContext(config.seed, deterministic=False):
        engine.fit(train, val, config.epochs, watchers)
    best.restore(model)
    return engine.history


def evaluate(writer: Writer, zoo: Zoo, part: str) -> dict[str, float]:
    """The metrics over one part of a zoo: every network read and written again."""
    check_fits(writer, zoo)
    positions = zoo.part(part)
    tokens = zoo.tokens.rows(positions)
    written = writer.reconstruct(tokens, zoo.meta[zoo.task[positions]])
    return compare(zoo.networks(positions), written, zoo.probes)


def check_fits(writer: Writer, zoo: Zoo) -> None:
    """Raise ConfigError for networks that the model cannot read."""
    config, grammar = zoo.config, writer.grammar
    problems = []
    if config.inputs != grammar.inputs:
        problems.append(f"{config.inputs} inputs instead of {grammar.inputs}")
    if config.max_vertices > grammar.max_vertices or config.max_tokens > grammar.max_tokens:
        problems.append("larger networks")
    if not set(_types(config.activations)) <= set(grammar.types):
        problems.append("other activations")
    if zoo.meta.shape[1] != len(writer.scaling.mean):
        problems.append("meta-features" if zoo.meta.shape[1] else "no meta-features")
    if problems:
        raise ConfigError(f"the model was trained on another kind of zoo; this one has {', '.join(problems)}")


class BestWeights:
    """Keeps the weights of the best epoch in memory."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] | None = None

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        if record.is_best:
            self.weights = copy.deepcopy(engine.model.state_dict())

    def fit_ended(self, engine: Engine, reason: str) -> None:
        pass

    def restore(self, model: torch.nn.Module) -> None:
        if self.weights is not None:
            model.load_state_dict(self.weights)


class _Told:
    def __init__(self, on_epoch: Callable[[EpochRecord], None]) -> None:
        self.on_epoch = on_epoch

    def epoch_ended(self, engine: Engine, record: EpochRecord) -> None:
        self.on_epoch(record)

    def fit_ended(self, engine: Engine, reason: str) -> None:
        pass


def _types(activations: Sequence[str]) -> tuple[int, ...]:
    """Token types of these activations and of the output."""
    return tuple(sorted({LINEAR, *(FIRST_ACTIVATION + ACTIVATIONS.index(name) for name in activations)}))

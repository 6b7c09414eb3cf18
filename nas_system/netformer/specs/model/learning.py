"""Fits the networks of the spec mode to an archive, through the project's one engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_system.netformer.specs.model.examples import Examples
from nas_system.netformer.specs.model.proposer_networks import PAD, ConfigWriter, ScorePredictor
from nas_system.netformer.specs.model.vocabulary import Vocabulary
from nas_system.training.early_stopping import EarlyStoppingState
from nas_system.training.engine import Engine


@dataclass(frozen=True)
class Hyperparameters:
    """Chosen on the archive's own tasks (`python -m benchmarks.proposers --choose`)."""

    members: int = 6
    predictor_width: int = 32
    predictor_layers: int = 2
    predictor_dropout: float = 0.2
    predictor_epochs: int = 40
    predictor_lr: float = 2e-3
    writer_width: int = 48
    writer_layers: int = 2
    writer_dropout: float = 0.2
    writer_epochs: int = 40
    writer_lr: float = 2e-3
    batch_size: int = 64
    weight_decay: float = 0.05


class LearningBatch(NamedTuple):
    """As the engine takes it."""

    args: tuple[Tensor, ...]
    target: Tensor
    weight: Tensor | None = None


class Shuffled:
    """Batches of all rows, in another order at every pass."""

    def __init__(
        self, size: int, batch_size: int, seed: int, batch_of: Callable[[Tensor], LearningBatch]
    ) -> None:
        self.size, self.batch_size, self.batch_of = size, batch_size, batch_of
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[LearningBatch]:
        order = torch.randperm(self.size, generator=self.generator)
        for chosen in order.split(self.batch_size):
            yield self.batch_of(chosen)


class RelativeScore:
    """Squared error of the predicted relative score."""

    names = ("mse",)

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return F.mse_loss(output, target)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return F.mse_loss(output, target).reshape(1)

    def postproc(self, output: Tensor) -> Tensor:
        return output


class NextToken:
    """Cross-entropy of what was really written."""

    names = ("cross_entropy",)

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        # Behind the end everything is masked: cross_entropy never looks there.
        return F.cross_entropy(output.flatten(0, 1), target.flatten(), ignore_index=PAD)

    def report(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return self.loss(output, target, weight).detach().reshape(1)

    def postproc(self, output: Tensor) -> Tensor:
        return output


def fit_predictor(
    examples: Examples, vocabulary: Vocabulary, chosen: Hyperparameters, seed: int
) -> ScorePredictor:
    """One member of the ensemble; members differ by their seeds: start, order and dropout."""
    torch.manual_seed(seed)
    model = ScorePredictor(
        vocabulary,
        examples.features.shape[1],
        width=chosen.predictor_width,
        layers=chosen.predictor_layers,
        dropout=chosen.predictor_dropout,
    )

    def batch_of(rows: Tensor) -> LearningBatch:
        return LearningBatch((examples.tokens[rows], examples.features[rows]), examples.relative[rows])

    batches = Shuffled(len(examples.task), chosen.batch_size, seed, batch_of)
    _fit(model, RelativeScore(), batches, chosen.predictor_epochs, chosen.predictor_lr, chosen)
    return model


def fit_writer(
    examples: Examples, vocabulary: Vocabulary, chosen: Hyperparameters, seed: int
) -> ConfigWriter:
    torch.manual_seed(seed)
    model = ConfigWriter(
        vocabulary,
        examples.features.shape[1],
        width=chosen.writer_width,
        layers=chosen.writer_layers,
        dropout=chosen.writer_dropout,
        longest=len(vocabulary.paths),
    )
    slot_of_token = torch.tensor(vocabulary.slot_of_token)

    def batch_of(rows: Tensor) -> LearningBatch:
        tokens = examples.tokens[rows]
        # Behind the end any slot will do: its targets are not looked at.
        slots = slot_of_token[tokens.clamp_min(0)]
        return LearningBatch(
            (tokens[:, :-1], slots, examples.features[rows], examples.relative[rows]), tokens
        )

    batches = Shuffled(len(examples.task), chosen.batch_size, seed, batch_of)
    _fit(model, NextToken(), batches, chosen.writer_epochs, chosen.writer_lr, chosen)
    return model


def _fit(
    model: nn.Module, objective: Any, batches: Shuffled, epochs: int, lr: float, chosen: Hyperparameters
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=chosen.weight_decay)
    steps = epochs * -(-batches.size // batches.batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    engine = Engine(
        model=model,
        optimizer=optimizer,
        objective=objective,
        device=torch.device("cpu"),
        progress=EarlyStoppingState(patience=epochs),
        scheduler=scheduler,
        scheduler_per_step=True,
        grad_clip=1.0,
        generator=batches.generator,
    )
    engine.fit(batches, None, epochs)
    model.eval()

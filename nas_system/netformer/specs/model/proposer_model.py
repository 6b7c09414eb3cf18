"""What `fit` leaves behind and `propose` uses: the networks, how they read a task, and where from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_system.errors import StateError
from nas_system.files import sha256_of_file
from nas_system.netformer.specs.archive.archive_file import LAST_VALUE, Archive, ArchivedTask, checksum_of
from nas_system.netformer.specs.archive.library import MODEL_FILE, SHIPPED
from nas_system.netformer.specs.model.examples import Examples, Scaling, examples_of
from nas_system.netformer.specs.model.learning import Hyperparameters, fit_predictor, fit_writer
from nas_system.netformer.specs.model.proposer_networks import ConfigWriter, ScorePredictor
from nas_system.netformer.specs.model.vocabulary import Vocabulary, build_vocabulary
from nas_system.netformer.specs.task_features import VERSION
from nas_system.space import ForecastingTask, families_of
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint

SHRINK = 30.0
"""Ridge penalty of the map from meta-features to a task's level: there are more features than one likes."""

LEARN_AGAIN = "learn again with: python -m nas_system.netformer fit"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LevelGuess:
    """From a task's meta-features to where its scores will lie, relative to repeating the last value."""

    weights: Array
    """(1 + features, 2): of the logarithm of the middle, and of the logarithm of the width."""

    @classmethod
    def fit(cls, examples: Examples, tasks: Sequence[ArchivedTask]) -> LevelGuess:
        rows = np.array([examples.scaling(task.features) for task in tasks])
        wanted = [
            (scale.middle - math.log(task.baselines[LAST_VALUE]), math.log(scale.width))
            for scale, task in zip(examples.scales, tasks, strict=True)
        ]
        joined = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
        penalty = np.diag([1e-6] + [SHRINK] * rows.shape[1])
        solved = np.linalg.solve(joined.T @ joined + penalty, joined.T @ np.array(wanted))
        return cls(solved.astype(float))

    def expected(self, relative: float, features: Array, last_value: float) -> float:
        """The score that a relative score stands for."""
        middle, log_width = np.concatenate([[1.0], features]) @ self.weights
        return last_value * math.exp(middle + math.exp(log_width) * relative)


@dataclass(frozen=True)
class ProposerModel:
    """Everything that proposes, and its passport."""

    writer: ConfigWriter
    predictors: tuple[ScorePredictor, ...]
    scaling: Scaling
    level: LevelGuess
    archive: str
    """Checksum of the archive it was learned from."""
    n_tasks: int
    n_rows: int
    vocabulary: Vocabulary
    """The search space that it was learned on, as tokens."""
    fingerprint: str = ""
    """SHA-256 of the file it was read from."""

    @classmethod
    def fit(cls, archive: Archive, chosen: Hyperparameters, *, seed: int = 0) -> ProposerModel:
        """Learn from every task of the archive that is not held out."""
        vocabulary = build_vocabulary()
        examples, tasks = learnable(archive, vocabulary)
        return cls(
            writer=fit_writer(examples, vocabulary, chosen, seed),
            predictors=tuple(
                fit_predictor(examples, vocabulary, chosen, seed + member) for member in range(chosen.members)
            ),
            scaling=examples.scaling,
            level=LevelGuess.fit(examples, tasks),
            archive=checksum_of(archive),
            n_tasks=len(tasks),
            n_rows=len(examples.task),
            vocabulary=vocabulary,
        )


def learnable(archive: Archive, vocabulary: Vocabulary) -> tuple[Examples, list[ArchivedTask]]:
    """Examples, and the task of every number in them."""
    examples = examples_of(archive, vocabulary)
    return examples, [archive.tasks[name] for name in examples.names]


def save_model(path: Path, model: ProposerModel, chosen: Hyperparameters) -> None:
    """Tensors and plain values only. Raises OSError."""
    content = {
        "features_version": VERSION,
        "vocabulary": model.vocabulary.to_json(),
        "archive": model.archive,
        "n_tasks": model.n_tasks,
        "n_rows": model.n_rows,
        "hyperparameters": asdict(chosen),
        "scaling": [model.scaling.mean.tolist(), model.scaling.deviation.tolist()],
        "level": model.level.weights.tolist(),
        "writer": model.writer.state_dict(),
        "predictors": [predictor.state_dict() for predictor in model.predictors],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, content)


def load_model(path: Path) -> ProposerModel:
    """Read what `save_model` wrote, also on another search space, as long as they share a family.

    Raises StateError for a file that is no model, or that nothing can be proposed with.
    """
    content = load_checkpoint(path)
    try:
        content = _with_vocabulary(content, path)
        if content["features_version"] != VERSION:
            raise StateError(f"{path}: describes tasks by other numbers than this program; {LEARN_AGAIN}")
        model = _restored(content, sha256_of_file(path))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StateError(f"{path}: not a model of the proposer ({str(error)[:200]})") from None
    if not set(model.vocabulary.families) & set(families_of(ForecastingTask.kind)):
        known = ", ".join(model.vocabulary.families)
        raise StateError(f"{path}: no family it knows ({known}) is in the search space; {LEARN_AGAIN}")
    return model


def _with_vocabulary(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Complete the file of an older program, which names its search space by a hash alone."""
    if "vocabulary" in content:
        return content
    shipped = load_checkpoint(SHIPPED / MODEL_FILE)
    if content["space"] != shipped.get("space"):
        raise StateError(f"{path}: learned on a search space that this program does not know; {LEARN_AGAIN}")
    return shipped | content


def _restored(content: dict[str, Any], fingerprint: str) -> ProposerModel:
    vocabulary = Vocabulary.from_json(content["vocabulary"])
    chosen = Hyperparameters(**content["hyperparameters"])
    scaling = Scaling(*map(np.array, content["scaling"]))
    features = len(scaling.mean)
    writer = ConfigWriter(
        vocabulary,
        features,
        width=chosen.writer_width,
        layers=chosen.writer_layers,
        dropout=chosen.writer_dropout,
        longest=len(vocabulary.paths),
    )
    writer.load_state_dict(content["writer"])
    predictors = []
    for state in content["predictors"]:
        predictor = ScorePredictor(
            vocabulary,
            features,
            width=chosen.predictor_width,
            layers=chosen.predictor_layers,
            dropout=chosen.predictor_dropout,
        )
        predictor.load_state_dict(state)
        predictors.append(predictor.eval())
    return ProposerModel(
        writer=writer.eval(),
        predictors=tuple(predictors),
        scaling=scaling,
        level=LevelGuess(np.array(content["level"])),
        archive=content["archive"],
        n_tasks=int(content["n_tasks"]),
        n_rows=int(content["n_rows"]),
        vocabulary=vocabulary,
        fingerprint=fingerprint,
    )


def predict(model: ProposerModel, tokens: torch.Tensor, features: Array) -> Array:
    """(members, configurations): relative scores."""
    repeated = torch.tensor(features, dtype=torch.float32).expand(len(tokens), -1)
    with torch.no_grad():
        return torch.stack([member(tokens, repeated) for member in model.predictors]).numpy()

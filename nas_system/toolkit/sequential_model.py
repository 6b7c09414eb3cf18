"""Sequence models on tables: pass `fit` a DataFrame and its targets, get predictions with dates.

    model = LSTMModel(input_size=8, hidden_size=64, num_layers=2, seq_length=50)
    model.fit(X, y)             # y[i] is predicted from rows i-50 .. i-1 of X
    model.predict(X_new)        # a Series with the labels of the rows predicted

A facade of the engine, without a loop of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from nas_system.data import WindowLoader
from nas_system.errors import ConfigError, StateError
from nas_system.toolkit.sequence_datasets import SequenceDataset
from nas_system.toolkit.table_models.encoding import Encoding, Targets, read_classes, read_numbers
from nas_system.toolkit.table_models.fitting import EVALUATION_BATCH, fit_network
from nas_system.toolkit.table_models.networks import build_network
from nas_system.toolkit.table_models.original_yaml import read_arguments
from nas_system.toolkit.table_models.row_order import time_order
from nas_system.toolkit.table_models.settings import SequenceSettings, settings_from
from nas_system.toolkit.table_models.tables import Table, read_table
from nas_system.training.acceleration.precision import Precision
from nas_system.training.callbacks import history_columns
from nas_system.training.checkpoint import load_checkpoint, save_checkpoint
from nas_system.training.engine import Callback
from nas_system.training.loops import predict
from nas_system.training.objectives import Classification, Forecasting, Objective
from nas_system.training.reproducibility import ReproducibilityContext, resolve_device

if TYPE_CHECKING:
    import pandas as pd

    from nas_system.toolkit.table_models.tables import TableLike

KIND = "sequence model on tables"
"""The kind that a saved file names."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The results of a training."""

    network: nn.Module
    encoding: Encoding
    history: dict[str, list[float]]
    stop_reason: str


class BaseSequentialModel:
    """Predicts a row's y from the `seq_length` rows of X before it. Named classes are in `models.py`.

    `fit` scales X (and y, if it is numbers) by the training rows, trains with the engine, keeps the best
    epoch's weights and starts again when it is called again. Rows are in order of time, one step apart:
    dated ones (DatetimeIndex) are brought into it, and refused with a ValueError where some are missing.
    """

    family: ClassVar[str | None] = None
    """Key of the network's family; None leaves it to the constructor."""

    def __init__(
        self,
        input_size: int | Literal["auto"],
        hidden_size: int,
        num_layers: int,
        seq_length: int,
        dropout: float = 0.2,
        *,
        family: str | None = None,
        device: str | torch.device | None = "auto",
        callbacks: Sequence[Callback] = (),
        **options: Any,
    ) -> None:
        """`options` are the other fields of `SequenceSettings` and those of the family's configuration.

        `device`: auto (or None), cpu, cuda:N or gpu. `callbacks` are called after every epoch, like the
        engine's. Raises ConfigError for all that does not fit together.
        """
        if self.family is not None and family not in (None, self.family):
            raise ConfigError(f"{type(self).__name__} is of the family {self.family!r}, not {family!r}")
        sizes = {"hidden_size": hidden_size, "num_layers": num_layers, "seq_length": seq_length}
        arguments = {"family": family or self.family, "input_size": input_size, "dropout": dropout}
        self.settings: SequenceSettings = settings_from({**arguments, **sizes, **options})
        self.device = resolve_device(device)
        self.callbacks = tuple(callbacks)
        self._fitted: Fitted | None = None

    @classmethod
    def from_config(cls, path: str | Path, **overrides: Any) -> Self:
        """Build the model of a YAML file: model_type, task, architecture, training, device, ...

        `overrides` are arguments of the constructor that replace the file's. Raises ConfigError.
        """
        return cls(**{**read_arguments(Path(path)), **overrides})

    @property
    def network(self) -> nn.Module:
        """The trained network, `(B, seq_length, columns) -> (B, 1, outputs)`, in scaled units."""
        return self._trained().network

    @property
    def history(self) -> dict[str, list[float]]:
        """One list per metric, one value per epoch: train_mse, val_mse, ..., lr, seconds."""
        return self._trained().history

    @property
    def stop_reason(self) -> str:
        """Why the training ended: completed, early_stopping, or a callback's reason."""
        return self._trained().stop_reason

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The labels of a classification, in the order of `predict_proba`'s columns."""
        return self._trained().encoding.classes

    def prepare_sequences(self, X: TableLike) -> Tensor:
        """Return every window that precedes a row of X, `(N, seq_length, columns)` float32 on the CPU.

        N is the number of rows less `seq_length`; a table too short for one window has one, padded on
        the left (see `SequenceDataset`). Scaled once the model is trained, as they are before.
        """
        table = read_table(X, "X").in_time_order("X")
        values = table.values if self._fitted is None else self._fitted.encoding.encoded_inputs(table)
        windows = self._unlabelled(values, "cpu").windows
        return windows.batch(torch.arange(len(windows))).args[0]

    def fit(
        self, X: TableLike, y: TableLike, X_val: TableLike | None = None, y_val: TableLike | None = None
    ) -> Self:
        """Train. X is (rows, columns); y (rows,), or (rows, outputs) for a regression with several.

        Without validation data the last `validation_share` of the rows decides which epoch is the best;
        no training window reaches into it. Given validation data stands for itself: the first
        `seq_length` rows of X_val only lead up to the first row predicted.
        Raises ValueError for data that cannot be used, Diverged when the loss becomes NaN.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val are given together or not at all")
        table, targets = self._read(X, y, "")
        wanted = self.settings.input_size
        if wanted not in ("auto", table.values.shape[1]):
            raise ValueError(f"X has {table.values.shape[1]} columns, but input_size={wanted}")
        with ReproducibilityContext(self.settings.seed, deterministic=False):
            if X_val is None or y_val is None:
                rows = self._training_rows(len(table))
                encoding = Encoding.fit(table, targets, rows)
                train, val = self._split(encoding, table, targets, rows)
            else:
                encoding = Encoding.fit(table, targets, len(table))
                train = self._dataset(encoding, table, targets, stride=self.settings.stride)
                val = self._dataset(encoding, *self._read(X_val, y_val, "_val", targets.classes), stride=1)
            self._fitted = self._train(encoding, train, val)
        return self

    def predict(self, X: TableLike) -> pd.Series | pd.DataFrame:
        """Predict the y of every row of X that has `seq_length` rows before it, with those rows' labels.

        Only earlier rows are read: the row predicted may hold anything finite in X. Labels of a
        classification are the most likely ones. A short X is padded on the left; its last row is predicted.
        """
        outputs, index = self._outputs(X)
        return self._trained().encoding.answers(outputs, index)

    def predict_proba(self, X: TableLike) -> pd.DataFrame:
        """Return the probability of every class, for the rows that `predict` predicts."""
        if self.settings.task != "classification":
            raise ValueError("probabilities belong to classes, and this model predicts numbers; use predict")
        outputs, index = self._outputs(X)
        return self._trained().encoding.probabilities(outputs, index)

    def save(self, path: str | Path) -> Path:
        """Write settings, scaling, weights and history, atomically: tensors and plain values only."""
        fitted = self._trained()
        content = {
            "kind": KIND,
            "settings": self.settings.as_arguments(),
            "encoding": fitted.encoding.to_plain(),
            "history": fitted.history,
            "stop_reason": fitted.stop_reason,
            "model": fitted.network.state_dict(),
        }
        save_checkpoint(Path(path), content)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device | None = "auto") -> Self:
        """Load what `save` wrote; no code from the file is run. Raises StateError for any other file."""
        content = load_checkpoint(Path(path))
        if content.get("kind") != KIND:
            raise StateError(f"{path}: a checkpoint, but of no {KIND}")
        family = content["settings"]["family"]
        if cls.family not in (None, family):
            raise StateError(
                f"{path}: a model of the family {family!r}; load it with BaseSequentialModel.load"
            )
        model = cls(**content["settings"], device=device)
        encoding = Encoding.from_plain(content["encoding"])
        network = model._build(encoding).to(model.device)
        network.load_state_dict(content["model"])
        model._fitted = Fitted(network, encoding, content["history"], content["stop_reason"])
        return model

    def _trained(self) -> Fitted:
        if self._fitted is None:
            raise ValueError("this model has not been trained; call fit first")
        return self._fitted

    def _read(
        self, X: TableLike, y: TableLike, suffix: str, classes: tuple[Any, ...] | None = None
    ) -> tuple[Table, Targets]:
        """Return X and y with their rows in the order of time, if they are dated."""
        table, name = read_table(X, f"X{suffix}"), f"y{suffix}"
        numbers = self.settings.task == "regression"
        targets = read_numbers(y, name) if numbers else read_classes(y, name, classes)
        if len(table) != len(targets.values):
            raise ValueError(f"X{suffix} has {len(table)} rows and {name} {len(targets.values)}")
        if table.index is not None and targets.index is not None and not table.index.equals(targets.index):
            raise ValueError(
                f"the rows of X{suffix} and {name} have different labels; bring them into one order"
            )
        dated = (targets.index, name) if table.index is None else (table.index, f"X{suffix}")
        order = time_order(*dated)
        return (table, targets) if order is None else (table.take(order), targets.take(order))

    def _training_rows(self, rows: int) -> int:
        training = rows - round(rows * self.settings.validation_share)
        if training <= self.settings.seq_length or (training == rows and self.settings.validation_share):
            raise ValueError(
                f"{rows} rows are too few: the first {training} are for training, which needs more than "
                f"seq_length={self.settings.seq_length}, and at least one is for validation; shorten "
                "seq_length or bring more rows"
            )
        return training

    def _split(
        self, encoding: Encoding, table: Table, targets: Targets, rows: int
    ) -> tuple[SequenceDataset, SequenceDataset | None]:
        """Return the windows that predict the first `rows` rows, and those of the rows after them."""
        X, y = encoding.encoded_inputs(table), encoding.encoded_targets(targets)
        seq_length, stride = self.settings.seq_length, self.settings.stride
        train = SequenceDataset(X[:rows], y[:rows], seq_length, stride, device=self.device)
        if rows == len(table):
            return train, None
        lead = rows - seq_length
        return train, SequenceDataset(X[lead:], y[lead:], seq_length, device=self.device)

    def _dataset(self, encoding: Encoding, table: Table, targets: Targets, *, stride: int) -> SequenceDataset:
        X, y = encoding.encoded_inputs(table), encoding.encoded_targets(targets)
        return SequenceDataset(X, y, self.settings.seq_length, stride, device=self.device)

    def _unlabelled(self, values: np.ndarray, device: torch.device | str) -> SequenceDataset:
        return SequenceDataset(values, np.zeros(len(values)), self.settings.seq_length, device=device)

    def _build(self, encoding: Encoding) -> nn.Module:
        return build_network(
            self.settings.network_config(),
            self.settings.seq_length,
            encoding.n_inputs,
            encoding.n_outputs,
            with_positions=self.settings.needs_positions,
        )

    def _objective(self, encoding: Encoding) -> Objective:
        if self.settings.task == "classification":
            return Classification(encoding.n_outputs, decided_by="cross_entropy")
        return Forecasting(self.settings.loss)

    def _train(self, encoding: Encoding, train: SequenceDataset, val: SequenceDataset | None) -> Fitted:
        engine, reason = fit_network(
            self._build(encoding),
            self._objective(encoding),
            self.settings,
            train,
            val,
            self.device,
            self.callbacks,
        )
        return Fitted(engine.model, encoding, history_columns(engine.history), reason)

    def _outputs(self, X: TableLike) -> tuple[Tensor, pd.Index]:
        """Return the network's outputs `(N, 1, channels)` and the labels of the N rows they are for."""
        import pandas as pd

        fitted, table = self._trained(), read_table(X, "X").in_time_order("X")
        dataset = self._unlabelled(fitted.encoding.encoded_inputs(table), self.device)
        loader = WindowLoader(dataset.windows, EVALUATION_BATCH)
        precision = Precision(self.settings.precision(self.device), self.device)
        objective = self._objective(fitted.encoding)
        outputs = predict(fitted.network, loader, objective, self.device, precision=precision)
        index: pd.Index = pd.RangeIndex(len(table)) if table.index is None else table.index
        return outputs, index.take(range(len(table) - len(dataset), len(table)))

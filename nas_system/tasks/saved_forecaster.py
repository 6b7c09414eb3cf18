"""The trained forecaster of a run: weights, scaler and columns, to apply to the last rows of a series.

    forecaster = load_forecaster(Path("runs/run_0003"))
    forecast = forecaster.forecast(parse_csv(Path("new.csv").read_bytes(), "new.csv"))

`best_model.pth` and `config_used.py` are all it needs of the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from nas_system.config_io.config_file import read_config
from nas_system.data import Scaler, Series
from nas_system.data.calendar import dates_after
from nas_system.data.known_future.future_values import known_values
from nas_system.data.series import Forecast
from nas_system.data.splits import Dates
from nas_system.data.time_features import marks_of, n_marks, unit_of
from nas_system.errors import ConfigError, StateError
from nas_system.files import read_record
from nas_system.model import build_model
from nas_system.nas_agent.log_text import one_line
from nas_system.nas_agent.outcome import Status, read_outcome
from nas_system.processes.run_files import RunPaths
from nas_system.space import ForecastingTask, RunConfig, SeriesShape, active_values, canonical_key
from nas_system.space.changes import explain
from nas_system.training.acceleration.precision import Precision
from nas_system.training.checkpoint import StateDict, load_checkpoint, restore_model
from nas_system.training.loops import predict
from nas_system.training.objectives import Forecasting
from nas_system.training.reproducibility import resolve_device

Array = NDArray[np.float64]

WINDOWS_AT_A_TIME = 256
MOST_SERIES = 10_000

LARGEST_METADATA = 16 * 2**20
"""Characters of JSON: the scaling of 10,000 series of 30 columns has 12 million. A small file can hold the
same list a million times."""
MOST_DIFFERENCES = 3
"""Number named when config_used.py and the weights belong to two configurations."""


class SavedMetadata(BaseModel):
    """The metadata of a checkpoint: the training's configuration, data and scaling.

    Whoever wrote them may be hostile: `load_forecaster` takes no size from here that the configuration, which
    has bounds, does not give.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    config: RunConfig
    shape: SeriesShape
    scaler: dict[str, list[float]]
    """Of all columns, fitted on the training rows."""
    scalers: dict[str, dict[str, list[float]]] = Field(default_factory=dict, max_length=MOST_SERIES)
    """By the names of the series, where the training had several; `scaler` is that of the first one then."""
    columns: tuple[str, ...]
    known: tuple[str, ...] = ()
    """Columns whose future is known."""
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    freq: str
    data_sha256: str
    epoch: int = Field(ge=0, lt=10**6)
    val: dict[str, float]
    """Its scores on the validation part; empty for a refit, which may have learned from that."""
    trained_until: int | None = None
    """How many of the first rows a refit was trained on; None for a training of the search."""

    @property
    def fault(self) -> str | None:
        """Say what does not belong together; None if all does."""
        columns, known = self.columns, set(self.columns)
        if len(known) != len(columns) or not self.targets or not known.issuperset(self.inputs + self.targets):
            return "its columns are not those of a series with these inputs and targets"
        if not known.issuperset(self.known) or set(self.known).intersection(self.targets):
            return "its columns whose future is known are not those of a series with these targets"
        for scaler in (self.scaler, *self.scalers.values()):
            mean, std = (scaler.get(name, []) for name in ("mean", "std"))
            if not len(mean) == len(std) == len(columns) or min(std) <= 0:
                return "its scaling is not that of its columns"
        if "mse" not in self.val and self.trained_until is None:
            return "it has no val_mse"
        try:
            unit_of(self.freq)
        except ValueError as error:
            return str(error)
        inputs = self.inputs
        expected = SeriesShape(
            seq_len=self.config.data.seq_len,
            pred_len=self.config.forecasting.pred_len,
            n_inputs=len(inputs),
            target_columns=tuple(inputs.index(name) for name in self.targets if name in inputs),
            n_marks=n_marks(self.freq, self.config.model.time_marks),
            n_known=len(self.known),
        )
        return None if self.shape == expected else "its sizes are not those of its configuration"


class SavedForecaster:
    """A model with the best epoch's weights, and the scaling of its inputs and outputs."""

    def __init__(self, model: nn.Module, metadata: SavedMetadata, device: torch.device) -> None:
        self.model = model
        self.metadata = metadata
        self.device = device
        self.target_scaler = self._of(Scaler.from_json(metadata.scaler), metadata.targets)

    @property
    def task(self) -> ForecastingTask:
        return self.metadata.config.forecasting

    @property
    def data_sha256(self) -> str:
        """The checksum of the data that the run was trained on."""
        return self.metadata.data_sha256

    def summarize(self, series: Series) -> str:
        """Say what forecasts `series`, and from which of its rows."""
        metadata = self.metadata
        rows = metadata.trained_until
        trained = f"val_mse {metadata.val['mse']:.5f}" if rows is None else f"refitted on {rows} rows"
        return (
            f"({metadata.config.model.family}, epoch {metadata.epoch}, {trained}) "
            f"read the last {metadata.shape.seq_len} of {len(series)} rows"
        )

    def forecast(self, series: Series, name: str = "the series") -> Forecast:
        """Forecast the `pred_len` steps after the last row of `series` from its last `seq_len` rows.

        Columns are found by name; those the model does not read may be missing. Scaled by the
        statistics of the training; one of several series that had no part in it by its own rows.
        Raises ConfigError, naming `name`, for a series with another step, without a column, with too few
        rows or without the values of a column whose future has to be known.
        """
        self._check(series, name)
        metadata = self.metadata
        scaler = self._scaler_for(series, name)
        input_scaler, target_scaler = (
            self._of(scaler, columns) for columns in (metadata.inputs, metadata.targets)
        )
        last = slice(-metadata.shape.seq_len, None)
        rows = series.values[last, list(series.column_indices(metadata.inputs))]
        with np.errstate(over="ignore"):  # checked below, on the forecast
            scaled = input_scaler.transform(rows).astype(np.float32)
        x = torch.from_numpy(scaled)[None].to(self.device)
        future = dates_after(series.dates, series.freq, metadata.shape.pred_len)
        known = self._known(series, future, scaler, name)
        before = slice(len(series) - metadata.shape.seq_len, len(series))
        x_mark = self._marks(series.dates[last], series.freq, known[before])
        y_mark = self._marks(future, series.freq, known[len(series) :])
        precision = Precision(self._precision, self.device)
        batch = ((x, x_mark, y_mark),)
        output = predict(self.model, [batch], Forecasting(), self.device, precision=precision)
        with np.errstate(over="ignore", invalid="ignore"):
            values = target_scaler.inverse(output[0].numpy())
        if not np.isfinite(values).all():
            raise ConfigError(
                f"{name}: the forecast is not a finite number, because the last {metadata.shape.seq_len} "
                "rows lie too far from those of the training; check their units"
            )
        said: tuple[str, ...] = ()
        if metadata.scalers and series.name not in metadata.scalers:
            said = (
                f"series {series.name!r} had no part in the training; it is scaled by its own rows, and its "
                "intervals may be too narrow",
            )
        return Forecast(metadata.targets, future, values, target_scaler.std, said=said)

    def forecast_windows(self, series: Series, origins: range, name: str = "the series") -> Array:
        """Forecast from each of `origins`, the first row to forecast, by the rows before it.

        Return (origins, pred_len, targets), in the units of the data. Raises ConfigError as `forecast` does,
        and for an origin with too few rows before it.
        """
        self._check(series, name)
        metadata, seq_len = self.metadata, self.metadata.shape.seq_len
        if len(origins) and (origins.start < seq_len or origins.stop > len(series) + 1):
            raise ConfigError(f"{name}: rows {origins} cannot be forecast from {seq_len} rows before each")
        scaler = self._scaler_for(series, name)
        rows = series.values[:, list(series.column_indices(metadata.inputs))]
        scaled = self._of(scaler, metadata.inputs).transform(rows).astype(np.float32)
        table = torch.from_numpy(scaled).to(self.device)
        after_last = dates_after(series.dates, series.freq, metadata.shape.pred_len)
        # Windows that reach beyond the last row are compared with what there is of them.
        values = self._known(series, after_last, scaler, name, may_be_missing=True)
        clock = self._marks(np.concatenate([series.dates, after_last]), series.freq, values)
        past, future = torch.arange(-seq_len, 0), torch.arange(metadata.shape.pred_len)

        def batch(first: torch.Tensor) -> tuple[tuple[Tensor, Tensor | None, Tensor | None]]:
            before, after = first[:, None] + past, first[:, None] + future
            known = None if clock is None else clock[0]
            marks_of = [None if known is None else known[index] for index in (before, after)]
            return ((table[before], marks_of[0], marks_of[1]),)

        order = torch.arange(origins.start, origins.stop)
        batches = (batch(first) for first in order.split(WINDOWS_AT_A_TIME))
        precision = Precision(self._precision, self.device)
        output = predict(self.model, batches, Forecasting(), self.device, precision=precision)
        return self._of(scaler, metadata.targets).inverse(output.double().numpy())

    def _of(self, scaler: Scaler, columns: Sequence[str]) -> Scaler:
        """Return the scaler of some columns, by their names, of that of all columns."""
        return scaler.of_columns([self.metadata.columns.index(name) for name in columns])

    def _scaler_for(self, series: Series, name: str) -> Scaler:
        """Return the scaler of all columns: the training's of this series.

        Of one that has had no part in the training, that of its own rows.
        """
        metadata = self.metadata
        if not metadata.scalers:
            return Scaler.from_json(metadata.scaler)
        if series.name in metadata.scalers:
            return Scaler.from_json(metadata.scalers[series.name])
        columns = [name for name in metadata.columns if name in series.columns]
        try:
            own = Scaler.of_rows(
                series.values[:, list(series.column_indices(columns))], columns, self.task.scaling
            )
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
        places = [metadata.columns.index(column) for column in columns]
        mean, std = np.zeros(len(metadata.columns)), np.ones(len(metadata.columns))
        mean[places], std[places] = own.mean, own.std
        return Scaler(mean, std)

    def _known(
        self, series: Series, future: Dates, scaler: Scaler, name: str, *, may_be_missing: bool = False
    ) -> Array:
        """Return the columns whose future is known, scaled, (rows + pred_len, columns).

        Raises ConfigError, naming `name`, for values of the future that are not there, unless they may be
        missing: then they are their means.
        """
        columns = self.metadata.known
        if not columns:
            return np.empty((len(series) + len(future), 0))
        of_known = self._of(scaler, columns)
        past = series.values[:, list(series.column_indices(columns))]
        try:
            ahead = known_values(
                replace(series, known=columns, name=""), future, countries=self.task.holidays
            )
        except ConfigError as error:
            if not may_be_missing:
                raise ConfigError(f"{name}: {error}") from None
            ahead = np.tile(of_known.mean, (len(future), 1))
        return of_known.transform(np.concatenate([past, ahead]))

    @property
    def _precision(self) -> str:
        """The training's precision, for the same results; fp16 exists on CUDA devices only."""
        precision = self.metadata.config.training.precision
        return "fp32" if precision == "fp16" and self.device.type != "cuda" else precision

    def _marks(self, dates: Dates, freq: str, known: Array) -> Tensor | None:
        """Return time features and known columns of steps, (1, steps, marks), if the model reads any."""
        features = marks_of(dates, freq, self.metadata.config.model.time_marks, known)
        return None if features is None else torch.from_numpy(features)[None].to(self.device)

    def _check(self, series: Series, name: str) -> None:
        metadata = self.metadata
        read = dict.fromkeys((*metadata.inputs, *metadata.known))
        missing = [column for column in read if column not in series.columns]
        if missing:
            raise ConfigError(
                f"{name}: columns that this run reads are missing: {one_line(', '.join(missing), 300)} "
                f"(there are: {one_line(', '.join(series.columns), 300)})"
            )
        if series.freq != metadata.freq:
            raise ConfigError(
                f"{name}: the step between rows is {series.freq}, but this run was trained on steps of "
                f"{metadata.freq}; resample the rows"
            )
        if len(series) < metadata.shape.seq_len:
            raise ConfigError(
                f"{name}: {len(series)} rows are too few, because this run looks back over "
                f"{metadata.shape.seq_len}; bring at least as many"
            )


def load_forecaster(
    run_dir: Path, device: str = "auto", *, weights: Path | None = None, sha256: str | None = None
) -> SavedForecaster:
    """Load the forecaster in a run's folder: its best weights, or those in the file `weights`.

    `sha256` is the checksum of the weights, by default what the run's metrics say of them.
    Raises ConfigError for a folder that is no run's or whose configuration is not the one that was
    trained, StateError for a run without usable weights.
    """
    paths = RunPaths(run_dir)
    if not paths.config.is_file():
        raise ConfigError(
            f"{run_dir} is not a run's folder, because it holds no {paths.config.name}; "
            "name one, for example runs/run_0003"
        )
    file = weights or paths.best_model
    if not file.is_file():
        raise StateError(f"{run_dir} holds no {file.name}: {_why_no_weights(paths)}")
    used = read_config(paths.config, follow_link=False)
    if not used.task.is_series:
        raise ConfigError(
            f"{run_dir} is about {used.task.name}, which is no series to forecast; what it predicts for the "
            f"test graphs is in {paths.predictions.name}"
        )
    target = resolve_device(device)
    # In a complete folder a damaged copy is noticed.
    if sha256 is None and weights is None:
        sha256 = (read_record(paths.metrics) or {}).get("checkpoint_sha256")
    checkpoint = load_checkpoint(file, sha256=sha256, follow_link=False)
    metadata = _metadata(checkpoint, file)
    _check_same(used, metadata.config, paths)
    if (fault := metadata.fault) is not None:
        raise StateError(f"{file}: {one_line(fault, 200)}; train the run again")
    model = restore_model(lambda: build_model(used, metadata.shape), checkpoint, file)
    return SavedForecaster(model.to(target), metadata, target)


def _metadata(checkpoint: StateDict, path: Path) -> SavedMetadata:
    plain = {name: checkpoint[name] for name in SavedMetadata.model_fields if name in checkpoint}
    try:
        # By way of JSON: there lists may stand for tuples, also where a field is strict.
        return SavedMetadata.model_validate_json(_as_json(plain))
    except ValidationError as error:
        reason = explain(error)
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise StateError(
        f"{path}: written by another version of this program, which cannot be used here "
        f"({one_line(reason, 300)}); train the run again"
    )


def _as_json(value: object) -> str:
    """Return `value` as JSON. Raises TypeError or ValueError for what is not plain, or grows too large."""
    size, parts = 0, []
    for part in json.JSONEncoder().iterencode(value):
        size += len(part)
        if size > LARGEST_METADATA:
            raise ValueError("its metadata are too large")
        parts.append(part)
    return "".join(parts)


def _check_same(used: RunConfig, trained: RunConfig, paths: RunPaths) -> None:
    """Raise StateError for weights of another configuration than the one next to them."""
    if (canonical_key(used), used.task, used.seed) == (canonical_key(trained), trained.task, trained.seed):
        return
    ours, theirs = _flat(used), _flat(trained)
    differences = [
        f"{name} is {ours.get(name)!r} against {theirs.get(name)!r}"
        for name in ours | theirs
        if ours.get(name) != theirs.get(name)
    ]
    named = ", ".join(differences[:MOST_DIFFERENCES]) + (", ..." if differences[MOST_DIFFERENCES:] else "")
    raise StateError(
        f"{paths.config} is not the configuration of {paths.best_model.name}: {named}; put back the file "
        "of the training, or train the run again"
    )


def _flat(config: RunConfig) -> dict[str, Any]:
    task = {f"task.{name}": value for name, value in config.task.model_dump().items()}
    return active_values(config) | task | {"seed": config.seed}


def _why_no_weights(paths: RunPaths) -> str:
    """Explain how the run ended, from the files that there are."""
    outcome = read_outcome(paths.folder)  # raises if it is still training
    if outcome.status is not Status.MISSING:
        return f"{outcome.status}, {outcome.cause or 'but its weights are gone'}; choose another run"
    # Trained by hand, without a supervisor that would have recorded the end.
    metrics, error = read_record(paths.metrics), read_record(paths.error)
    if error is not None:
        return f"its training failed ({error.get('message')}); train it again"
    if metrics is not None:
        return f"its training ended ({metrics.get('reason')}) and left no weights, or they were removed"
    return "it is still in its first epoch, or was interrupted there; wait for it, or train it again"

"""One or several series to forecast: windows on the device, and pictures of forecasts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_system.data import (
    DataSource,
    OpenTask,
    Series,
    TaskWindows,
    WindowLoader,
    build_windows,
    locate,
    open_data,
)
from nas_system.data.augmentation import augmented
from nas_system.data.baselines.bounded import AFTER_IT, compute_limit
from nas_system.data.baselines.panel_scoring import score_data
from nas_system.data.columns import input_columns
from nas_system.data.panel import OpenData, OpenPanel
from nas_system.data.splits import SplitName
from nas_system.model import build_model
from nas_system.space import RunConfig
from nas_system.space.task_info import TaskInfo
from nas_system.tasks.accuracy_meter import AccuracyMeter
from nas_system.tasks.attention_maps import attention_maps
from nas_system.tasks.kind import Batches, Part, ScoredPart, Scoring, scoring_batch
from nas_system.training.engine import Engine
from nas_system.training.objectives import Forecasting
from nas_system.visualization import drawings
from nas_system.visualization.drawings import Drawing

PARTS: tuple[SplitName, ...] = ("train", "val", "test")
EXAMPLES = 6
"""Test windows that predictions.png shows, evenly spread."""


def open_forecasting(
    config: RunConfig, info: TaskInfo | None, data_dir: Path | None, device: torch.device
) -> ForecastingProblem:
    """The windows of the task's series, at its last origin."""
    source = find_source(config, info, data_dir)
    return ForecastingProblem(config, source, open_data(config.forecasting, source), device)


def open_scoring(
    config: RunConfig,
    info: TaskInfo | None,
    data_dir: Path | None,
    device: torch.device,
    part: ScoredPart,
) -> Scoring:
    """The windows of the part; of the validation part at every origin."""
    data = open_data(config.forecasting, find_source(config, info, data_dir))
    scoring = _scoring_of(data, config, device, part)
    earlier = data.origins()[:-1] if part == "val" else ()
    return replace(
        scoring,
        baselines=lambda: score_data(data, (part,), compute_limit() * AFTER_IT).rows,
        earlier=tuple(_scoring_of(origin, config, device, part) for origin in earlier),
    )


def _scoring_of(data: OpenData, config: RunConfig, device: torch.device, part: ScoredPart) -> Scoring:
    windows = build_windows(data, config, device, splits=(part,))
    return Scoring(
        build_model=lambda: build_model(config, windows.shape),
        batches=WindowLoader(windows[part], scoring_batch(config, ForecastingProblem.evaluation_batch)),
        objective=Forecasting(),
        samples="windows",
        count=len(windows[part]),
        accuracy_meter=lambda: AccuracyMeter(data, part),
    )


class ForecastingProblem:
    """Scaled windows of one or several series; see `nas_system.tasks.kind`."""

    evaluation_batch = 512
    """A few large batches. The score does not depend on this number."""

    def __init__(
        self, config: RunConfig, source: DataSource, data: Series | OpenData, device: torch.device
    ) -> None:
        """`data` is the whole series, or the task at an earlier origin, where there is no test part."""
        self.data = OpenTask.of_series(config.forecasting, data) if isinstance(data, Series) else data
        self.config, self.source, self.device = config, source, device
        parts: list[SplitName] = [part for part in PARTS if self.data.split.target_rows(part)]
        self.windows = build_windows(self.data, config, device, splits=parts)
        self.objective = Forecasting(config.training.loss)

    def accuracy_meter(self, part: Part) -> AccuracyMeter:
        return AccuracyMeter(self.data, part)

    def earlier_origins(self) -> list[ForecastingProblem]:
        return [
            ForecastingProblem(self.config, self.source, origin, self.device)
            for origin in self.data.origins()[:-1]
        ]

    def trained_through(self, end: ScoredPart | int) -> ForecastingProblem:
        """Return the problem with all rows to the end of a part, or so many first rows, as training rows."""
        data = self.data.ended_at(end) if isinstance(end, int) else self.data.trained_through(end)
        return ForecastingProblem(self.config, self.source, data, self.device)

    @property
    def trained_until(self) -> int:
        return self.data.split.train_end

    def count(self, part: Part) -> int:
        return len(self.windows[part]) if part in self.windows.sets else 0

    def build_model(self) -> nn.Module:
        return build_model(self.config, self.windows.shape)

    def training_batches(self, generator: torch.Generator) -> Batches:
        loader = WindowLoader(self.windows["train"], self.config.data.batch_size, generator=generator)
        return augmented(loader, self.config.training, self.windows.shape.target_columns)

    def batches(self, part: Part, batch_size: int) -> Iterable[Any]:
        return WindowLoader(self.windows[part], batch_size)

    def sample_batch(self, n: int) -> Any:
        return self.windows["train"].batch(torch.arange(n, device=self.device))

    def export_metadata(self) -> dict[str, Any]:
        return _metadata(self.config, self.data, self.windows, self.source)

    def drawings(self, engine: Engine) -> list[Drawing]:
        return [self._forecasts(engine), *self._attention(engine.model)]

    def _forecasts(self, engine: Engine) -> Drawing:
        test, windows = self.windows["test"], self.windows
        chosen = torch.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).round().long()
        batch = test.batch(chosen.to(engine.device))
        column = windows.shape.target_columns[0]
        members = [self._member(test.target_rows(int(index))[0]) for index in chosen]
        targets = self.data.members[0].series.column_indices(self.config.forecasting.targets)
        scalers = [member.scaler.of_columns(targets[:1]) for member, _ in members]
        mean, std = (np.array([getattr(scaler, name) for scaler in scalers]) for name in ("mean", "std"))
        forecast, past, truth = (
            values.float().cpu().numpy() * std + mean
            for values in (
                engine.predict([batch])[..., 0],
                batch.args[0][..., column],
                batch.target[..., 0],
            )
        )
        return drawings.forecasts(
            past,
            truth,
            forecast,
            column=self.data.members[0].series.columns[targets[0]],
            labels=[self._label(test.target_rows(int(index))[0]) for index in chosen],
        )

    def _attention(self, model: nn.Module) -> list[Drawing]:
        test = self.windows["test"]
        maps = attention_maps(model, test)
        if not maps:
            return []
        label = f"forecast from {self._label(test.target_rows(maps[0].example_window)[0])}"
        return [drawings.attention(maps, seq_len=self.config.data.seq_len, example_label=label)]

    def _label(self, row: int) -> str:
        """Name a row of the table of all series."""
        member, place = self._member(row)
        date = str(member.series.dates[place])[:16].replace("T", " ")
        return f"{member.series.name}, {date}" if member.series.name else date

    def _member(self, row: int) -> tuple[OpenTask, int]:
        """Return the series to which a row of the table of all belongs, and which one of its rows it is."""
        for member in self.data.members:
            if row < len(member.series):
                return member, row
            row -= len(member.series)
        raise IndexError(row)


def find_source(config: RunConfig, info: TaskInfo | None, data_dir: Path | None) -> DataSource:
    """The search's own data if there is a search; otherwise wherever it is found."""
    if info is not None:
        return info.source
    source = locate(config.forecasting, data_dir)
    if source.notice:
        print(f"note: {source.notice}", flush=True)
    return source


def _metadata(config: RunConfig, data: OpenData, windows: TaskWindows, source: DataSource) -> dict[str, Any]:
    """Return what a forecast on another machine needs next to the weights (see `saved_forecaster`)."""
    series = data.members[0].series
    targets = series.column_indices(config.forecasting.targets)
    several = (
        {"scalers": {member.series.name: member.scaler.to_json() for member in data.members}}
        if isinstance(data, OpenPanel)
        else {}
    )
    return {
        **several,
        **({"known": list(series.known)} if series.known else {}),
        "scaler": windows.scaler.to_json(),
        "shape": {
            "seq_len": windows.shape.seq_len,
            "pred_len": windows.shape.pred_len,
            "n_inputs": windows.shape.n_inputs,
            "target_columns": list(windows.shape.target_columns),
            "n_marks": windows.shape.n_marks,
            **({"n_known": windows.shape.n_known} if windows.shape.n_known else {}),
        },
        "columns": list(series.columns),
        "inputs": [series.columns[index] for index in input_columns(series, config)],
        "targets": [series.columns[index] for index in targets],
        "freq": series.freq,
        "data_sha256": source.sha256,
        "config": config.model_dump(mode="json"),
    }

"""A series to forecast: windows on the device, and pictures of forecasts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_system.data import (
    DataSource,
    OpenTask,
    Series,
    TaskWindows,
    WindowLoader,
    build_windows,
    load_series,
    locate,
    open_task,
)
from nas_system.data.augmentation import augmented
from nas_system.data.baselines.bounded import AFTER_IT, compute_limit
from nas_system.data.baselines.scoring import score_all
from nas_system.data.columns import input_columns
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
    return ForecastingProblem(config, source, load_series(source, config.forecasting), device)


def open_scoring(
    config: RunConfig,
    info: TaskInfo | None,
    data_dir: Path | None,
    device: torch.device,
    part: ScoredPart,
) -> Scoring:
    """The windows of the part; of the validation part at every origin."""
    data = open_task(config.forecasting, find_source(config, info, data_dir))
    scoring = _scoring_of(data, config, device, part)
    earlier = data.origins()[:-1] if part == "val" else ()
    return replace(
        scoring,
        baselines=lambda: score_all(data, (part,), compute_limit() * AFTER_IT).rows,
        earlier=tuple(_scoring_of(origin, config, device, part) for origin in earlier),
    )


def _scoring_of(data: OpenTask, config: RunConfig, device: torch.device, part: ScoredPart) -> Scoring:
    windows = build_windows(data, config, device, splits=(part,))
    return Scoring(
        build_model=lambda: build_model(config, windows.shape),
        batches=WindowLoader(windows[part], scoring_batch(config, ForecastingProblem.evaluation_batch)),
        objective=Forecasting(),
        samples="windows",
        count=len(windows[part]),
        accuracy_meter=lambda: AccuracyMeter(data),
    )


class ForecastingProblem:
    """Scaled windows of one series; see `nas_system.tasks.kind`."""

    evaluation_batch = 512
    """A few large batches. The score does not depend on this number."""

    def __init__(
        self, config: RunConfig, source: DataSource, data: Series | OpenTask, device: torch.device
    ) -> None:
        """`data` is the whole series, or the task at an earlier origin, where there is no test part."""
        self.data = OpenTask.of_series(config.forecasting, data) if isinstance(data, Series) else data
        self.config, self.source, self.series, self.device = config, source, self.data.series, device
        parts: list[SplitName] = [part for part in PARTS if self.data.split.target_rows(part)]
        self.windows = build_windows(self.data, config, device, splits=parts)
        self.objective = Forecasting(config.training.loss)

    def accuracy_meter(self) -> AccuracyMeter:
        return AccuracyMeter(self.data)

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
        return _metadata(self.config, self.series, self.windows, self.source)

    def drawings(self, engine: Engine) -> list[Drawing]:
        return [self._forecasts(engine), *self._attention(engine.model)]

    def _forecasts(self, engine: Engine) -> Drawing:
        test, windows = self.windows["test"], self.windows
        chosen = torch.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).round().long()
        batch = test.batch(chosen.to(engine.device))
        scaler = windows.target_scaler.of_columns([0])
        column = windows.shape.target_columns[0]
        forecast, past, truth = (
            scaler.inverse(values[..., None].float().cpu().numpy())[..., 0]
            for values in (
                engine.predict([batch])[..., 0],
                batch.args[0][..., column],
                batch.target[..., 0],
            )
        )
        rows = [test.target_rows(int(index))[0] for index in chosen]
        return drawings.forecasts(
            past,
            truth,
            forecast,
            column=self.series.column_names(self.config.forecasting.targets)[0],
            labels=[self._date(row) for row in rows],
        )

    def _attention(self, model: nn.Module) -> list[Drawing]:
        test = self.windows["test"]
        maps = attention_maps(model, test)
        if not maps:
            return []
        label = f"forecast from {self._date(test.target_rows(maps[0].example_window)[0])}"
        return [drawings.attention(maps, seq_len=self.config.data.seq_len, example_label=label)]

    def _date(self, row: int) -> str:
        return str(self.series.dates[row])[:16].replace("T", " ")


def find_source(config: RunConfig, info: TaskInfo | None, data_dir: Path | None) -> DataSource:
    """The search's own data if there is a search; otherwise wherever it is found."""
    if info is not None:
        return info.source
    source = locate(config.forecasting, data_dir)
    if source.notice:
        print(f"note: {source.notice}", flush=True)
    return source


def _metadata(config: RunConfig, series: Series, windows: TaskWindows, source: DataSource) -> dict[str, Any]:
    """Return what a forecast on another machine needs next to the weights (see `saved_forecaster`)."""
    targets = series.column_indices(config.forecasting.targets)
    return {
        "scaler": windows.scaler.to_json(),
        "shape": {
            "seq_len": windows.shape.seq_len,
            "pred_len": windows.shape.pred_len,
            "n_inputs": windows.shape.n_inputs,
            "target_columns": list(windows.shape.target_columns),
            "n_marks": windows.shape.n_marks,
        },
        "columns": list(series.columns),
        "inputs": [series.columns[index] for index in input_columns(series, config)],
        "targets": [series.columns[index] for index in targets],
        "freq": series.freq,
        "data_sha256": source.sha256,
        "config": config.model_dump(mode="json"),
    }

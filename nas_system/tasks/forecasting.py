"""Forecasting a series: its info and baselines, which need no torch, and the way to its windows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas_system.data.baselines.bounded import BEFORE_THE_SEARCH, compute_limit
from nas_system.data.baselines.scoring import score_all
from nas_system.data.baselines.seasons import shared_seasons
from nas_system.data.loading import OpenTask, open_task
from nas_system.data.measures.card import measure_card
from nas_system.data.measures.closed_form import ClosedForm, search_closed_form
from nas_system.data.measures.origins import check_origins, sensible_origins
from nas_system.data.source import locate
from nas_system.data.splits import SPLIT_NAMES, SplitName
from nas_system.space import DataConfig, ForecastingTask, RunConfig
from nas_system.space.data_card import said_of, target_lines, warnings_of
from nas_system.space.task_info import DataSource, TaskInfo
from nas_system.space.tasks import Task
from nas_system.tasks.kind import Problem, ScoredPart, Scoring, TaskKind

if TYPE_CHECKING:
    import torch


MOST_SEASONS = 2
"""Seasons with which the closed form is tried."""


def describe(
    task: ForecastingTask, data_dir: Path | None, *, hold_out: bool = False, download: bool = True
) -> TaskInfo:
    """Measure the series and its baselines."""
    source = locate(task, data_dir, download=download)
    if source.notice:
        print(f"note: {source.notice}", file=sys.stderr)
    return describe_source(task, source, hold_out=hold_out)


def describe_source(task: ForecastingTask, source: DataSource, *, hold_out: bool = False) -> TaskInfo:
    """Measure the series in `source`; where the task leaves the number of origins open, decide it."""
    data = open_task(task, source)
    if not task.origins:
        data = data.with_origins(sensible_origins(data))
    task, origins = data.task, data.origins()
    card = measure_card(data)
    check_origins(data)
    parts: tuple[SplitName, ...] = ("val", "test", *(("hold_out",) if hold_out else ()))
    targets = data.series.column_indices(task.targets)
    train = data.series.values[: data.split.train_end, list(targets)]
    forms = search_closed_form(data, shared_seasons(train, data.series.freq)[:MOST_SEASONS])
    # Validation, test and hold-out counts hold for every look-back, that of training for the default one.
    scored = score_all(data, parts, compute_limit() * BEFORE_THE_SEARCH)
    longest = origins[0].split.train_end - task.pred_len
    seq_len = min(DataConfig().seq_len, longest)
    return TaskInfo(
        task=task,
        source=source,
        baselines=scored.rows,
        sizes={name: len(data.split.window_starts(name, seq_len, task.pred_len)) for name in SPLIT_NAMES},
        columns=tuple(data.series.columns),
        max_seq_len=longest,
        measured={
            "targets": list(data.series.column_names(task.targets)),
            "filled": dict(data.series.filled),
            "rows": len(data.series),
            "first": str(data.series.dates[0]),
            "last": str(data.series.dates[-1]),
            "freq": data.series.freq,
            "seq_len": seq_len,
            "split": {name: _borders(data.split.target_rows(name)) for name in SPLIT_NAMES},
            "left_out": list(scored.left_out),
            "scaler": data.scaler.of_columns(targets).to_json(),
            "ridge": _best_of(forms) if forms else None,
            **({"said": list(data.series.said)} if data.series.said else {}),
            **card,
            **({"origins": [_origin(origin) for origin in origins]} if len(origins) > 1 else {}),
        },
    )


def _best_of(forms: Sequence[ClosedForm]) -> dict[str, Any]:
    """Return the best form, and the error of the best that subtracts the last value."""
    last = next((form.val_mse for form in forms if form.normalization == "last"), forms[0].val_mse)
    return forms[0].to_json() | {"last_val_mse": last}


def summarize(info: TaskInfo) -> list[str]:
    """Return the series in a few lines."""
    known = info.measured
    pred_len = cast(ForecastingTask, info.task).pred_len
    lines = [
        f"series    {known['rows']} rows, {known['first']} to {known['last']}, step {known['freq']}",
        f"columns   {', '.join(info.columns)}",
        f"task      {pred_len} steps ahead of {', '.join(known['targets'])}",
    ]
    lines += [f"read      {text}" for text in said_of(info)]
    if known["filled"]:
        counts = ", ".join(f"{count} in {column}" for column, count in known["filled"].items())
        lines.append(f"filled    {counts}: missing values, {_how_filled(info.task)} and scored as any")
    for name, (first, end) in known["split"].items():
        lines.append(f"{name.replace('_', '-'):<9} rows {first} to {end}, {info.sizes[name]} windows")
    for number, origin in enumerate(known.get("origins", ()), 1):
        (_, train_end), (val_start, val_end) = origin["train"], origin["val"]
        lines.append(
            f"origin {number}  trained on rows 0 to {train_end}, validated on {val_start} to {val_end}"
        )
    lines.append(f"          (training windows at seq_len {known['seq_len']}; {info.max_seq_len} at most)")
    lines += [f"target    {line}" for line in target_lines(info)]
    lines += [f"left out  {line}" for line in known["left_out"]]
    return lines + [f"WARNING   {text}" for text in warnings_of(info)]


def _how_filled(task: Task) -> str:
    if cast(ForecastingTask, task).missing == "interpolate":
        return "on a line between those on both sides"
    return "the last known one carried forward"


def _origin(data: OpenTask) -> dict[str, list[int]]:
    return {part: _borders(data.split.target_rows(part)) for part in ("train", "val")}


def _borders(rows: range) -> list[int]:
    return [rows.start, rows.stop]


def _open(config: RunConfig, info: TaskInfo | None, data_dir: Path | None, device: torch.device) -> Problem:
    # Only now: describing a series takes no torch.
    from nas_system.tasks.forecasting_data import open_forecasting

    return open_forecasting(config, info, data_dir, device)


def _scoring(
    config: RunConfig,
    info: TaskInfo | None,
    data_dir: Path | None,
    device: torch.device,
    part: ScoredPart,
) -> Scoring:
    from nas_system.tasks.forecasting_data import open_scoring

    return open_scoring(config, info, data_dir, device, part)


KIND = TaskKind(open=_open, scoring=_scoring, describe=describe, summary=summarize)

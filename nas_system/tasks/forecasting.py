"""Forecasting a series: its info and baselines, which need no torch, and the way to its windows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas_system.data.baselines.bounded import BEFORE_THE_SEARCH, compute_limit
from nas_system.data.baselines.panel_scoring import score_data
from nas_system.data.baselines.seasons import seasons_of
from nas_system.data.loading import open_data
from nas_system.data.measures.card import measure_card
from nas_system.data.measures.closed_form import ClosedForm, search_closed_form
from nas_system.data.measures.origins import check_origins, sensible_origins
from nas_system.data.panel import OpenData, OpenPanel
from nas_system.data.source import locate
from nas_system.data.splits import SPLIT_NAMES, SplitName
from nas_system.nas_agent.log_text import one_line
from nas_system.space import DataConfig, ForecastingTask, RunConfig
from nas_system.space.data_card import said_of, target_lines, warnings_of
from nas_system.space.task_info import DataSource, TaskInfo
from nas_system.space.tasks import Task
from nas_system.tasks.kind import Problem, ScoredPart, Scoring, TaskKind

if TYPE_CHECKING:
    import torch


MOST_SAID, MOST_NAMES = 20, 8
"""Sentences on how a file was read, and names of its series, that are kept."""
LONGEST_NAME = 40
"""Of a series, where many are listed."""
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
    data = open_data(task, source)
    if not task.origins:
        data = data.with_origins(sensible_origins(data))
    task, origins = data.task, data.origins()
    card = measure_card(data)
    check_origins(data)
    parts: tuple[SplitName, ...] = ("val", "test", *(("hold_out",) if hold_out else ()))
    first = data.members[0]
    targets = first.series.column_indices(task.targets)
    forms = search_closed_form(data, seasons_of(data)[:MOST_SEASONS])
    # Validation, test and hold-out counts hold for every look-back, that of training for the default one.
    scored = score_data(data, parts, compute_limit() * BEFORE_THE_SEARCH)
    longest = min(member.split.train_end for origin in origins for member in origin.members) - task.pred_len
    seq_len = min(DataConfig().seq_len, longest)
    return TaskInfo(
        task=task,
        source=source,
        baselines=scored.rows,
        sizes={name: _n_windows(data, name, seq_len) for name in SPLIT_NAMES},
        columns=tuple(first.series.columns),
        max_seq_len=longest,
        measured={
            "targets": list(first.series.column_names(task.targets)),
            "filled": dict(sum((Counter(member.series.filled) for member in data.members), Counter[str]())),
            "rows": len(data.dates),
            "first": str(data.dates[0]),
            "last": str(data.dates[-1]),
            "freq": first.series.freq,
            "seq_len": seq_len,
            "split": {name: _borders(data.split.target_rows(name)) for name in SPLIT_NAMES},
            "left_out": list(scored.left_out),
            "scaler": first.scaler.of_columns(targets).to_json(),
            "ridge": _best_of(forms) if forms else None,
            **({"said": said} if (said := _said(data)) else {}),
            **({"series": _series_of(data)} if isinstance(data, OpenPanel) else {}),
            **({"known": list(first.series.known)} if first.series.known else {}),
            **card,
            **({"origins": [_origin(origin) for origin in origins]} if len(origins) > 1 else {}),
        },
    )


def _n_windows(data: OpenData, part: SplitName, seq_len: int) -> int:
    pred_len = data.task.pred_len
    return sum(len(member.split.window_starts(part, seq_len, pred_len)) for member in data.members)


def _said(data: OpenData) -> list[str]:
    """Return what is to be said of how the file was read, of many series once."""
    return list(dict.fromkeys(text for member in data.members for text in member.series.said))[:MOST_SAID]


def _series_of(data: OpenPanel) -> dict[str, Any]:
    """Return how many series are learned from, the names of the first and why others are not."""
    names = [member.series.name for member in data.members]
    rows = [len(member.series) for member in data.members]
    return {
        "count": len(names),
        "names": names[:MOST_NAMES],
        "rows": [min(rows), max(rows)],
        "compared": "series" if data.compares_series else "dates",
        "train_rows": sum(member.split.train_end for member in data.members),
        "left_out": list(data.left_out[:MOST_SAID]),
        "n_left_out": len(data.left_out),
    }


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
    lines += _lines_of_series(known)
    if known.get("known"):
        lines.append(f"known     {', '.join(known['known'])}: for the future, too")
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
    lines += [f"target    {one_line(line, 400)}" for line in target_lines(info)]
    lines += [f"left out  {line}" for line in known["left_out"]]
    return lines + [f"WARNING   {one_line(text, 400)}" for text in warnings_of(info)]


def _lines_of_series(known: Mapping[str, Any]) -> list[str]:
    """Describe the series of a file that holds several."""
    if (found := known.get("series")) is None:
        return []
    names = ", ".join(one_line(name, LONGEST_NAME) for name in found["names"])
    names += ", ..." if found["count"] > len(found["names"]) else ""
    fewest, most = found["rows"]
    rows = f"{most} rows each" if fewest == most else f"of {fewest} to {most} rows"
    more = found["n_left_out"] - len(found["left_out"])
    return [
        f"several   {found['count']} series {rows}: {names}",
        *(f"left out  {one_line(text, 300)}" for text in found["left_out"]),
        *([f"left out  ... and {more} more"] if more else []),
    ]


def _how_filled(task: Task) -> str:
    if cast(ForecastingTask, task).missing == "interpolate":
        return "on a line between those on both sides"
    return "the last known one carried forward"


def _origin(data: OpenData) -> dict[str, list[int]]:
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

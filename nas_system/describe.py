"""Fixes the facts of a task before a search: data source and checksum, columns, split, baselines.

    python -m nas_system.describe --dataset etth1 --target OT --pred-len 24 --out task_facts.json

Needs no torch. The file it writes is what the search and every training agree on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_system.command_line import Parser, add_data_dir, exit_code_of
from nas_system.data.baselines import baseline_rows
from nas_system.data.loading import OpenTask, open_task
from nas_system.data.source import DataSource, locate
from nas_system.data.splits import SPLIT_NAMES, SplitName
from nas_system.errors import ConfigError
from nas_system.files import write_json
from nas_system.space import DataConfig, ForecastingTask, GraphTask, TaskConfig, task_adapter
from nas_system.space.task_flags import FLAGS, add_task_flags, task_fields, task_with

SCHEMA_VERSION = 1


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m nas_system.describe") -> int:
    """Measure a task and print it; return 0, or 2 for bad input."""
    arguments = build_parser(prog).parse_args(argv)
    return exit_code_of(lambda: _describe(arguments))


def _describe(arguments: argparse.Namespace) -> None:
    if arguments.check_device is not None:
        _check_device(arguments.check_device)
        return
    task = _task(arguments)
    if isinstance(task, GraphTask):
        # Only now: it imports torch and PyTorch Geometric.
        from nas_system.tasks.graph_facts import describe_graphs, table_of_graphs

        facts = describe_graphs(task, arguments.data_dir, hold_out=arguments.hold_out)
        table = table_of_graphs(facts)
    else:
        source = locate(task, arguments.data_dir, download=not arguments.no_download)
        if source.notice:
            print(f"note: {source.notice}", file=sys.stderr)
        facts = describe(task, source, hold_out=arguments.hold_out)
        table = table_of(facts)
    if arguments.out is not None:
        _write(arguments.out, facts)
    print(table)


def _check_device(name: str) -> None:
    # The one question here that needs torch.
    from nas_system.training.reproducibility import resolve_device

    print(resolve_device(name))


def describe(task: ForecastingTask, source: DataSource, *, hold_out: bool = False) -> dict[str, Any]:
    """The facts as JSON. `sealed` scores the references on the hold-out too: once, after the search."""
    data = open_task(task, source)
    parts: tuple[SplitName, ...] = ("val", "test", "sealed") if hold_out else ("val", "test")
    targets = data.series.column_indices(task.targets)
    return {
        "schema": SCHEMA_VERSION,
        "task": task.model_dump(mode="json"),
        "source": source.to_json(),
        "columns": list(data.series.columns),
        "targets": list(data.series.column_names(task.targets)),
        "filled": dict(data.series.filled),
        "rows": len(data.series),
        "first": str(data.series.dates[0]),
        "last": str(data.series.dates[-1]),
        "freq": data.series.freq,
        "split": {name: _borders(data.split.target_rows(name)) for name in SPLIT_NAMES},
        "windows": _window_counts(data),
        "scaler": data.scaler.of_columns(targets).to_json(),
        "references": [baseline.to_json() for baseline in baseline_rows(data, parts)],
    }


def table_of(facts: dict[str, Any]) -> str:
    """The facts for people."""
    task, source = facts["task"], facts["source"]
    windows = facts["windows"]
    lines = [
        f"data      {source['name']} ({source['kind']}{', ' + source['path'] if source['path'] else ''})",
        f"checksum  sha256 {source['sha256'][:16]}...",
        f"series    {facts['rows']} rows, {facts['first']} to {facts['last']}, step {facts['freq']}",
        f"columns   {', '.join(facts['columns'])}",
        f"task      {task['pred_len']} steps ahead of {', '.join(facts['targets'])}",
    ]
    if facts["filled"]:
        counts = ", ".join(f"{count} in {column}" for column, count in facts["filled"].items())
        lines.append(
            f"filled    {counts}: missing values, the last known one carried forward and scored as any"
        )
    for name, (first, end) in facts["split"].items():
        lines.append(f"{name:<9} rows {first} to {end}, {windows[name]} windows")
    look_back, longest = windows["seq_len"], windows["max_seq_len"]
    lines.append(f"          (training windows at seq_len {look_back}; {longest} at most)")
    return "\n".join([*lines, "", *baseline_table(facts)])


def baseline_table(facts: dict[str, Any]) -> list[str]:
    """A line for each baseline, under a header."""
    scores = [key for key in facts["references"][0] if key != "name"]
    lines = [f"{'reference':<14}" + "".join(f"{score:>12}" for score in scores)]
    for row in facts["references"]:
        lines.append(f"{row['name']:<14}" + "".join(f"{row[score]:>12.4f}" for score in scores))
    return lines


def _borders(rows: range) -> list[int]:
    return [rows.start, rows.stop]


def _window_counts(data: OpenTask) -> dict[str, int]:
    """Validation, test and hold-out counts hold for every look-back, that of training for the default one."""
    pred_len = data.task.pred_len
    longest = data.split.train_end - pred_len
    seq_len = min(DataConfig().seq_len, longest)
    counts = {name: len(data.split.window_starts(name, seq_len, pred_len)) for name in SPLIT_NAMES}
    return {"seq_len": seq_len, "max_seq_len": longest, **counts}


def _write(path: Path, facts: dict[str, Any]) -> None:
    try:
        write_json(path, facts)
    except OSError as problem:
        raise ConfigError(f"{path} cannot be written: {problem.strerror}") from problem


def build_parser(prog: str) -> Parser:
    """Return the parser of `nas describe`."""
    parser = Parser(prog=prog, description="Measure a task's data and its baselines, before a search.")
    parser.add_argument(
        "--out", type=Path, help="where the facts go, as JSON; without it they are only printed"
    )
    add_data_dir(parser)
    parser.add_argument("--no-download", action="store_true", help="never fetch data from the web")
    parser.add_argument("--check-device", metavar="NAME", help="only say if this device is there to train on")
    parser.add_argument(
        "--hold-out",
        "--sealed",
        dest="hold_out",
        action="store_true",
        help="score the baselines on the hold-out rows too",
    )
    parser.add_argument("--task-json", help="the whole task as JSON, instead of the flags below")
    add_task_flags(parser)
    return parser


def _task(arguments: argparse.Namespace) -> TaskConfig:
    """Read the task from `--task-json` or from the other flags; the two do not mix."""
    given = task_fields(arguments)
    if arguments.task_json is None:
        return task_with(ForecastingTask(), given)
    if given:
        raise ConfigError(
            f"--task-json is the whole task; leave out {', '.join(FLAGS[name] for name in given)}"
        )
    try:
        return task_adapter.validate_json(arguments.task_json)
    except ValidationError as error:
        reasons = "; ".join(_spelled(found) for found in error.errors())
        raise ConfigError(f"the task is wrong: {reasons}") from None


def _spelled(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}" if where else error["msg"]


if __name__ == "__main__":
    sys.exit(main())

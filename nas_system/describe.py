"""Fixes the facts of a task before a search: data source and checksum, columns, split, baselines.

    python -m nas_system.describe --dataset etth1 --target OT --pred-len 24 --out task_facts.json

Needs no torch. The file it writes is what the search and every training agree on.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_system.command_line import Parser, add_data_dir, exit_code_of
from nas_system.errors import ConfigError
from nas_system.files import write_json
from nas_system.nas_agent.window_errors import write_baseline_errors
from nas_system.processes.run_files import BASELINE_ERRORS_FILE
from nas_system.processes.sandbox.places import font_lists
from nas_system.space.task_flags import FLAGS, add_task_flags, task_fields, task_with
from nas_system.space.task_info import DataSource, TaskInfo
from nas_system.space.tasks import ForecastingTask, TaskConfig, task_adapter
from nas_system.tasks import kind_of


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m nas_system.describe") -> int:
    """Measure a task and print it; return 0, or 2 for bad input."""
    arguments = build_parser(prog).parse_args(argv)
    return exit_code_of(lambda: _describe(arguments))


def _describe(arguments: argparse.Namespace) -> None:
    if arguments.list_devices is not None:
        _list_devices(arguments.list_devices)
        return
    if arguments.check_device is not None:
        _check_device(arguments.check_device)
        return
    task = _task(arguments)
    kind = kind_of(task)
    info = kind.describe(
        task, arguments.data_dir, hold_out=arguments.hold_out, download=not arguments.no_download
    )
    if arguments.out is not None:
        _write(arguments.out, info)
        _list_fonts()
    print("\n".join([*source_lines(info.source), *kind.summary(info), "", *baseline_table(info)]))


def _list_fonts() -> None:
    """Make matplotlib's list of the fonts here, once: a training in its sandbox cannot keep its own."""
    if not font_lists(os.environ):
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module("matplotlib.font_manager")


def _check_device(name: str) -> None:
    # The one question here that needs torch.
    from nas_system.training.reproducibility import resolve_device

    print(resolve_device(name))


def _list_devices(name: str) -> None:
    """Print the CUDA devices behind a name as JSON, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    from nas_system.training.reproducibility import resolve_device

    device = resolve_device(name)
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    named = [text.strip() for text in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if text.strip()]
    devices = named[:count] if named else [str(number) for number in range(count)]
    print(json.dumps([devices[device.index or 0]] if ":" in name and devices else devices))


def source_lines(source: DataSource) -> list[str]:
    """Return where the data come from, for people."""
    place = f", {source.path}" if source.path else ""
    return [
        f"data      {source.name} ({source.kind}{place})",
        f"checksum  sha256 {source.sha256[:16]}...",
    ]


def baseline_table(info: TaskInfo) -> list[str]:
    """Return a line for each baseline, under a header."""
    scores = list(info.baselines[0].scores)
    lines = [f"{'baseline':<18}" + "".join(f"{score:>18}" for score in scores)]
    for baseline in info.baselines:
        values = "".join(f"{baseline.scores[score]:>18.4f}" for score in scores)
        note = f"  on {baseline.windows} windows" if baseline.windows else ""
        lines.append(f"{baseline.name:<18}{values}{note}")
    return lines


def _write(path: Path, info: TaskInfo) -> None:
    try:
        write_baseline_errors(path.with_name(BASELINE_ERRORS_FILE), info.baselines)
        write_json(path, info.to_json())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def build_parser(prog: str) -> Parser:
    """Return the parser of `nas describe`."""
    parser = Parser(prog=prog, description="Measure a task's data and its baselines, before a search.")
    parser.add_argument(
        "--out", type=Path, help="where the facts go, as JSON; without it they are only printed"
    )
    add_data_dir(parser)
    parser.add_argument("--no-download", action="store_true", help="never fetch data from the web")
    parser.add_argument("--check-device", metavar="NAME", help="only say if this device is there to train on")
    parser.add_argument("--list-devices", metavar="NAME", help="only print the CUDA devices behind this name")
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

"""Fixes the facts of a task before a search: data source and checksum, columns, split, baselines.

    python -m nas_system.describe --dataset etth1 --target OT --pred-len 24 --out task_facts.json

Needs no torch. The file it writes is what the search and every training agree on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from nas_system.errors import ConfigError, NasError
from nas_system.files import write_json
from nas_system.space import ForecastingTask, TaskConfig, task_adapter
from nas_system.space.task_flags import FLAGS, task_fields, task_with
from nas_system.space.task_info import DataSource, TaskInfo
from nas_system.tasks import kind_of


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        if arguments.check_device is not None:
            return _check_device(arguments.check_device)
        task = _task(arguments)
        kind = kind_of(task)
        info = kind.describe(
            task, arguments.data_dir, hold_out=arguments.hold_out, download=not arguments.no_download
        )
        if arguments.out is not None:
            _write(arguments.out, info)
    except NasError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join([*source_lines(info.source), *kind.summary(info), "", *baseline_table(info)]))
    return 0


def _check_device(name: str) -> int:
    # The one question here that needs torch.
    from nas_system.training.reproducibility import resolve_device

    print(resolve_device(name))
    return 0


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
        lines.append(f"{baseline.name:<18}{values}")
    return lines


def _write(path: Path, info: TaskInfo) -> None:
    try:
        write_json(path, info.to_json())
    except OSError as problem:
        raise ConfigError(f"{path} cannot be written: {problem.strerror}") from problem


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is a `--help` away."""

    def error(self, message: str) -> NoReturn:
        self.exit(ConfigError.exit_code, f"error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m nas_system.describe", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, help="where the facts go, as JSON; without it they are only printed"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="folder with ETTh1.csv, or with the files of ZINC (default: NAS_DATA_DIR)",
    )
    parser.add_argument("--no-download", action="store_true", help="never fetch data from the web")
    parser.add_argument("--check-device", metavar="NAME", help="only say if this device is there to train on")
    parser.add_argument(
        "--hold-out",
        "--sealed",
        dest="hold_out",
        action="store_true",
        help="score the baselines on the hold-out rows too",
    )
    task = parser.add_argument_group("task")
    task.add_argument("--task", help="forecasting, or graphs: zinc_synth, zinc (default: forecasting)")
    task.add_argument("--task-json", help="the whole task as JSON, instead of the flags below")
    task.add_argument("--dataset", help="etth1, synthetic, or the path of a CSV file (default: etth1)")
    task.add_argument(
        "--target",
        "--targets",
        dest="target",
        help="columns to forecast, with commas; all for every column (default: OT)",
    )
    task.add_argument("--pred-len", type=int, help="steps to forecast (default: 24)")
    task.add_argument("--freq", help="the step that the time stamps have to have: 15min, h, D, MS, ...")
    task.add_argument(
        "--missing",
        choices=("refuse", "ffill"),
        help="empty cells: refuse the file (default), or carry the last value forward",
    )
    task.add_argument(
        "--split", help="0.6,0.15,0.15 (train, val, test), or the dates on which val and test begin"
    )
    for part in ("train", "val", "test"):
        task.add_argument(
            f"--{part}-rows", type=int, help=f"rows of the {part} part (default: the data set's split)"
        )
        task.add_argument(f"--{part}-graphs", type=int, help=f"graphs of the {part} part (default: all)")
    return parser


def _task(arguments: argparse.Namespace) -> TaskConfig:
    """The task from `--task-json` or from the plain flags; the two do not mix."""
    given = task_fields(arguments)
    if arguments.task_json is None:
        return task_with(ForecastingTask(), given)
    if given:
        raise ConfigError(
            f"--task-json is the whole task; leave out {', '.join(FLAGS[name] for name in given)}"
        )
    try:
        return task_adapter.validate_json(arguments.task_json)
    except ValidationError as problem:
        reasons = "; ".join(_spelled(error) for error in problem.errors())
        raise ConfigError(f"the task is wrong: {reasons}") from None


def _spelled(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}" if where else error["msg"]


if __name__ == "__main__":
    sys.exit(main())
